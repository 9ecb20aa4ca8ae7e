"""The text files of a data directory: Kaldi's tables, ``key value`` lines sorted by key in C order, and lists."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from pathlib import Path

from cpc_speech.errors import UserError
from cpc_speech.files import atomic_write

SPLITS = ("train", "dev", "test")  # a data directory's splits/<split>.list


def iter_table(path: str | Path) -> Iterator[tuple[str, str]]:
    """Yield key and rest of each ``key rest-of-line`` line (wav.scp, utt2spk, ...); see ``read_table``."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the stage that makes it first")
    previous = ""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                key, value = key_and_rest(line.decode())
            except UnicodeDecodeError as error:
                raise UserError(f"{path}:{number}: {line[:40]!r} is not UTF-8 text; write the file again") from error
            if not key:
                raise UserError(f"{path}:{number}: the line has no key; remove it")
            if key == previous:
                raise UserError(f"{path}:{number}: {key} stands here a second time; keep one of the two lines")
            if key < previous:
                raise UserError(
                    f"{path}:{number}: {key} comes after {previous}; sort it: LC_ALL=C sort -o {path} {path}"
                )
            yield key, value
            previous = key


def key_and_rest(line: str) -> tuple[str, str]:
    """Part a line where Kaldi does, at the first run of ASCII's white space; what is at its end goes."""
    key, *rest = re.split(r"\s+", line.rstrip(string.whitespace), maxsplit=1, flags=re.ASCII)
    return key, "".join(rest)


def read_table(path: str | Path) -> dict[str, str]:
    """Read ``key rest-of-line`` lines (wav.scp, utt2spk, text, ...); the rest may be empty, as in ``text``.

    Raises:
        UserError: the file is missing or not UTF-8, or a key is empty, repeated or out of C order (names the line).
    """
    return dict(iter_table(path))


def read_num_samples(data_dir: str | Path) -> dict[str, int]:
    """Utterance -> its length in samples of 16 kHz, of a packed data directory.

    Raises:
        UserError: the table is missing or damaged (names the line or utterance).
    """
    path = Path(data_dir) / "utt2num_samples"
    table = read_table(path)
    if wrong := next((utterance for utterance, samples in table.items() if not samples.isdecimal()), None):
        raise UserError(f"{path}: {wrong} has {table[wrong]!r} samples; run python -m data_prep.pack {data_dir}")
    return {utterance: int(samples) for utterance, samples in table.items()}


def write_table(path: str | Path, table: Mapping[str, object]) -> None:
    """Write ``key value`` lines in C order (Python's order of str is C's order of UTF-8), atomically."""
    with atomic_write(path) as file:
        for key in sorted(table):
            file.write(f"{key} {table[key]}\n".replace(" \n", "\n"))


def read_split(data_dir: str | Path, split: str) -> list[str]:
    """The utterances of a split, in C order; an empty line or a repeated id is a UserError that names the line."""
    return list(read_table(Path(data_dir) / "splits" / f"{split}.list"))
