"""How each word of a corpus is said: as cmudict or a lexicon file has it, else by espeak's rules or as one SPN."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cpc_speech.files import atomic_write
from cpc_speech.phones import SPOKEN_NOISE
from cpc_speech.pronunciations import CMUDICT, Pronunciations, read_pronunciations
from data_prep import espeak

log = logging.getLogger(__name__)


class Lexicon(NamedTuple):
    """Pronunciations of every word asked for, and which of them the source lacks."""

    pronunciations: Pronunciations
    unknown: list[str]


def build_lexicon(words: Mapping[str, int], source: str | Path = CMUDICT, oov: str = "espeak") -> Lexicon:
    """Pronounce these words (any case): the source's variants without stress, each once, in its order.

    Args:
        words: word -> how often it is said.
        source: ``cmudict``, or a lexicon file (see ``cpc_speech.pronunciations``).
        oov: ``espeak`` pronounces what the source lacks; ``spn`` makes it one SPN. What espeak cannot say is SPN too.
    """
    known = read_pronunciations(source, words)
    pronunciations: dict[str, Sequence[Sequence[str]]] = {}
    unknown = []
    for word in sorted(words):
        if variants := known.get(word.casefold()):
            pronunciations[word] = variants
        else:
            unknown.append(word)
            phones = tuple(espeak.pronounce(word)) if oov == "espeak" else ()
            pronunciations[word] = [phones or (SPOKEN_NOISE,)]
    said, total = sum(words[word] for word in unknown), sum(words.values())
    log.info("%d of %d words (%d of %d said) are not in %s: %s", len(unknown), len(words), said, total, source, oov)
    return Lexicon(pronunciations, unknown)


def count_words(transcripts: Iterable[Sequence[str]]) -> Counter[str]:
    """How often each word stands in the transcripts."""
    return Counter(word for transcript in transcripts for word in transcript)


def write_unknown(path: str | Path, lexicon: Lexicon, words: Mapping[str, int]) -> None:
    """List what the source lacks, ``word count pronunciation``, the most frequent first."""
    with atomic_write(path) as file:
        for word in sorted(lexicon.unknown, key=lambda word: (-words[word], word)):
            file.write(f"{word} {words[word]} {' '.join(lexicon.pronunciations[word][0])}\n")
