"""From a speech corpus to a Kaldi data directory with packed audio, phone labels and splits."""

import cpc_speech as cpc_speech  # which says how python -m data_prep.COMMAND ends after ctrl-C
