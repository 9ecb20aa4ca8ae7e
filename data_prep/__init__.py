"""From a speech corpus to a Kaldi data directory with packed audio, phone labels and splits."""
