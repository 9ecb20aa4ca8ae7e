"""pocketsphinx's alignments of single utterances."""

from __future__ import annotations

import math

import numpy as np
import pytest

from data_prep.lexicon import build_lexicon
from data_prep.pocketsphinx_align import align
from data_prep.sentences import transcript
from data_prep.synthetic import VOICES, say

SENTENCE = "No teacher found the golden ring behind the kitchen table."


@pytest.fixture(scope="module")
def audio():
    return say(SENTENCE, VOICES[2], np.random.default_rng(0))[0]


def test_intervals_have_no_gaps(audio):
    words = transcript(SENTENCE).split()
    lexicon = build_lexicon(dict.fromkeys(words, 1)).pronunciations
    place, phones, score, reason = align(audio, words, lexicon, place=7)
    assert (place, reason) == (7, "") and -200 < score < 0
    assert phones[0].start == 0 and phones[-1].end == len(audio) / 16_000
    assert all(a.end == b.start for a, b in zip(phones[:-1], phones[1:], strict=True))
    assert phones[0].phone == "SIL"
    noisy = {word: [("SPN",)] if word == "GOLDEN" else variants for word, variants in lexicon.items()}
    assert "SPN" in {interval.phone for interval in align(audio, words, noisy).intervals}


def test_words_of_another_sentence_score_less(audio):
    right = transcript(SENTENCE).split()
    wrong = transcript("She took our measure with great pleasure, although he shouted.").split()
    lexicon = build_lexicon(dict.fromkeys(right + wrong, 1)).pronunciations
    found = align(audio, wrong, lexicon)
    assert found.reason or found.score < align(audio, right, lexicon).score


def test_silence_has_no_room_for_many_words():
    lexicon = {"HELLO": [("HH", "AH", "L", "OW")]}
    found = align(np.zeros(16_000, dtype=np.int16), ["HELLO"] * 40, lexicon)
    assert not found.intervals and math.isnan(found.score) and "40 words do not fit its 1.00 s" in found.reason
    assert align(np.zeros(100, dtype=np.int16), ["HELLO"], lexicon).reason == "shorter than one frame"
