"""The CPC authors' own labels of LibriSpeech train-clean-100: ``converted_aligned_phones.txt``, also inside its zip.

Each line is ``utterance int int ...``, ids 0..40, one for each of Kaldi's snip-edges frames of 10 ms. Which phone an
id means was never published: id i becomes class i and the symbol ``Pii``.
"""

from __future__ import annotations

import numpy as np

from cpc_speech.kaldi import PHONE_CLASSES
from data_prep.frame_labels import IdMap

SYMBOLS = ["<eps>", *(f"P{i:02d}" for i in range(PHONE_CLASSES))]
IDS = IdMap(
    np.arange(1, PHONE_CLASSES + 1, dtype=np.int32),
    lambda unknown: f"the authors' ids are 0 to {PHONE_CLASSES - 1}",
)
