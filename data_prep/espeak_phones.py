"""espeak-ng's phoneme mnemonics (its US English voice) as ARPAbet phones without stress.

One table serves pronunciations of unknown words and labels of synthetic speech. Most mnemonics are one phone; the
r-coloured and syllabic ones are two, and a glide that only smooths a vowel into the next is none.
"""

from __future__ import annotations

import re

from cpc_speech.errors import UserError
from cpc_speech.phones import SILENCE

STRESS_MARKS = "'%,="  # written before a mnemonic

_ONE = """
p P  b B  t T  t# T  t2 T  ? T  d D  d# D  k K  g G  x K
tS CH  dZ JH  f F  v V  v# V  T TH  D DH  s S  z Z  z# Z  S SH  Z ZH  h HH
m M  n N  N NG  l L  l# L  r R  r- R  j Y  w W  w# W
i IY  i: IY  i:: IY  I IH  I# IH  I2 IH  I2# IH  e EH  E EH  E# EH  E2 EH  e# EH  e: EY  eI EY
a AE  aa AE  a# AH  a#2 AH  a2 AE  V AH  @ AH  @2 AH  @5 AH  @- AH  @# AH
3 ER  3: ER  VR ER  IR ER
A: AA  A# AA  0 AA  0# AA  02 AA  O AO  O: AO  O2 AO  o OW  o: OW  oU OW  oU# OW
U UH  u UW  u: UW  aI AY  aU AW  OI OY
"""
_TWO = {
    "A@": "AA R", "e@": "EH R", "o@": "AO R", "O@": "AO R", "i@3": "IH R", "U@": "UH R",
    "i@": "IY AH", "aI@": "AY AH", "aI3": "AY ER", "aU@": "AW ER",
    "@L": "AH L", "l-": "AH L", "m-": "AH M", "n-": "AH N", "N-": "AH NG", "r/": "AH R",
    "A~": "AA N", "O~": "AO N",
}  # fmt: skip
_pairs = (pair.split() for pair in re.split("  |\n", _ONE.strip()))
TABLE: dict[str, tuple[str, ...]] = {
    **{mnemonic: (phone,) for mnemonic, phone in _pairs},
    **{mnemonic: tuple(phones.split()) for mnemonic, phones in _TWO.items()},
    ";": (),  # the glide between two vowels of neighbouring syllables
}


def phones_of(mnemonic: str) -> tuple[str, ...]:
    """``'A@`` -> ``("AA", "R")``; every pause (``_``, ``_:``, ``_|`` …) is ``("SIL",)``.

    Raises:
        UserError: a mnemonic that the table lacks.
    """
    bare = mnemonic.lstrip(STRESS_MARKS)
    if bare.startswith("_") or bare == "||":
        return (SILENCE,)
    if bare not in TABLE:
        raise UserError(
            f"espeak's phoneme {bare!r} has no ARPAbet phones in data_prep/espeak_phones.py; "
            "add it there, or use the voice en-us"
        )
    return TABLE[bare]


def r_is_said_before(previous: str, phone: str) -> bool:
    """Whether this R only links a vowel that is r-coloured already (``air`` + ``ing`` = EH R IH NG, not EH R R)."""
    return phone == "R" and previous in ("R", "ER")
