"""Pronunciations as cmudict and lexicon files have them."""

from __future__ import annotations

import pytest

from cpc_speech.errors import UserError
from cpc_speech.pronunciations import read_pronunciations

LEXICON = """!SIL sil
<SPOKEN_NOISE> SPN
<UNK> spn
HELLO\tHH AH0 L OW1
HELLO HH EH0 L OW1
hello hh_B eh_I l_I ow_E
Ruggedo  R AH1 G  AH0 D OW0
A AH0
"""


def test_all_of_a_lexicon(tmp_path):
    (tmp_path / "lexicon.txt").write_text(LEXICON)
    assert read_pronunciations(tmp_path / "lexicon.txt") == {
        "!sil": [("SIL",)],
        "<spoken_noise>": [("SPN",)],
        "<unk>": [("SPN",)],
        "hello": [("HH", "AH", "L", "OW"), ("HH", "EH", "L", "OW")],
        "ruggedo": [("R", "AH", "G", "AH", "D", "OW")],
        "a": [("AH",)],
    }
    whole = read_pronunciations()
    assert len(whole) > 100_000 and whole["read"] == [("R", "EH", "D"), ("R", "IY", "D")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("HELLO", r"lexicon.txt:2: 'HELLO' is not 'word phone phone ...'"),
        ("", r"lexicon.txt:2: '' is not"),
        ("HELLO HH AX L OW", r"lexicon.txt:2: 'AX' in the pronunciation of HELLO is none of SIL SPN AA"),
        ("HELLO 1.0 HH AH L OW", r"lexicon.txt:2: '1.0' in the pronunciation"),
        ("HELLO <eps>", r"lexicon.txt:2: '<eps>' in the pronunciation"),
        ("HELLO \udcff", r"lexicon.txt: cannot be read as a lexicon \('utf-8'"),
    ],
)
def test_bad_lines(tmp_path, line, message):
    (tmp_path / "lexicon.txt").write_text(f"A AH0\n{line}\n", errors="surrogateescape")
    with pytest.raises(UserError, match=message):
        read_pronunciations(tmp_path / "lexicon.txt")


def test_no_lexicon(tmp_path):
    with pytest.raises(UserError, match="nowhere.txt: cannot be read as a lexicon .* correct --lexicon"):
        read_pronunciations(tmp_path / "nowhere.txt")
