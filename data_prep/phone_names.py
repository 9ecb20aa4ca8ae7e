"""The names that aligners give to the 41 classes: Kaldi's, the Montreal Forced Aligner's, a CTM's."""

from __future__ import annotations

import re

from data_prep.phones import PHONE_ID, SILENCE, SPOKEN_NOISE, strip_stress

UNLABELLED = "<eps>"  # id 0 of the phone table
# MFA 2 and later leave silent intervals blank; its first version and Kaldi name them sil and sp.
OTHER_NAMES = {"": SILENCE, "SP": SILENCE, "NSN": SPOKEN_NOISE, "<EPS>": UNLABELLED}


def phone_of(name: str) -> str | None:
    """The phone that an aligner calls ``name``: one of SYMBOLS, ``<eps>`` for no label, or None for an unknown name.

    Upper and lower case are the same; stress digits and Kaldi's word positions (_B _E _I _S) go: ``ah0_B`` -> ``AH``.
    """
    bare = re.sub(r"(?<=.)_[BEIS]$", "", name.strip().upper())
    phone = OTHER_NAMES.get(bare, strip_stress(bare))
    return phone if phone in PHONE_ID or phone == UNLABELLED else None
