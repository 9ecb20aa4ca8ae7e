"""Pronunciations: cmudict's, each variant once, and espeak's or SPN for the rest."""

from __future__ import annotations

import pytest

from data_prep.lexicon import build_lexicon, count_words, write_unknown

WORDS = {"HELLO": 3, "READ": 1, "A": 2, "RUGGEDO": 2, "ZZYXQ'": 1, "KALIKO": 2}


def test_cmudict_words_lose_stress_and_repeated_variants():
    lexicon = build_lexicon(WORDS)
    assert lexicon.pronunciations["HELLO"] == [("HH", "AH", "L", "OW"), ("HH", "EH", "L", "OW")]
    assert lexicon.pronunciations["READ"] == [("R", "EH", "D"), ("R", "IY", "D")]
    assert lexicon.pronunciations["A"] == [("AH",), ("EY",)]
    assert set(lexicon.pronunciations) == set(WORDS) and lexicon.unknown == ["KALIKO", "RUGGEDO", "ZZYXQ'"]


@pytest.mark.parametrize(("oov", "phones"), [("espeak", "R AH G IY D OW"), ("spn", "SPN")])
def test_other_words(oov, phones):
    assert build_lexicon(WORDS, oov=oov).pronunciations["RUGGEDO"] == [tuple(phones.split())]


def test_what_espeak_cannot_say_is_spn():
    assert build_lexicon({"'''": 1}).pronunciations["'''"] == [("SPN",)]


def test_unknown_words_are_counted_and_listed_by_frequency(tmp_path):
    words = count_words([["RUGGEDO", "SAID", "HELLO", "RUGGEDO"], ["KALIKO"], []])
    assert words["RUGGEDO"] == 2 and words["HELLO"] == 1
    write_unknown(tmp_path / "oov.txt", build_lexicon(words), words)
    assert (tmp_path / "oov.txt").read_text() == "RUGGEDO 2 R AH G IY D OW\nKALIKO 1 K AE L IH K OW\n"


LEXICON = """<UNK> spn
A AH0
HELLO HH AH0 L OW1
hello HH EH0 L OW1
Ruggedo R AH1 G AH0 D OW0
"""


def test_a_lexicon_of_ones_own(tmp_path, caplog):
    (tmp_path / "lexicon.txt").write_text(LEXICON)
    caplog.set_level("INFO")
    found = build_lexicon(WORDS | {"<unk>": 1}, tmp_path / "lexicon.txt", "spn")
    assert found.pronunciations == {
        "<unk>": [("SPN",)],
        "A": [("AH",)],
        "HELLO": [("HH", "AH", "L", "OW"), ("HH", "EH", "L", "OW")],
        "KALIKO": [("SPN",)],
        "READ": [("SPN",)],
        "RUGGEDO": [("R", "AH", "G", "AH", "D", "OW")],
        "ZZYXQ'": [("SPN",)],
    }
    assert found.unknown == ["KALIKO", "READ", "ZZYXQ'"]
    assert f"3 of 7 words (4 of 12 said) are not in {tmp_path / 'lexicon.txt'}: spn" in caplog.text
