"""Integer vectors as people hold them: ``utterance int int ...`` lines, or Kaldi's binary archive of the same.

Either may be plain, gzipped or alone in a zip file; which, the file's first bytes tell. One vector is in memory at a
time, and nothing is ever unpacked to the disk, so that names inside a zip file can do no harm.
"""

from __future__ import annotations

import gzip
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

import numpy as np

from cpc_speech.errors import UserError
from cpc_speech.kaldi import read_int_vectors

MAX_KEY = 1024  # bytes of an id
MAX_LABELS = 1 << 22  # of an utterance: 11 hours. A damaged length, or a line that a zip bomb makes, stops here
MAX_LINE = 12 * MAX_LABELS  # bytes

_GZIP = b"\x1f\x8b"
_ZIPS = b"PK\x03\x04", b"PK\x05\x06"  # the second: with nothing in it
_BINARY_INTEGER = np.dtype([("size", "i1"), ("value", "<i4")])  # Kaldi writes the size before each


class Vector(NamedTuple):
    """The integers of an utterance."""

    where: str  # file and line (text) or byte (binary), for messages
    utterance: str
    ids: np.ndarray  # (K,) int32


def read_vectors(path: str | Path) -> Iterator[Vector]:
    """Yield the vectors of a text file or an archive, or of the archives that a ``.scp`` lists, as they come.

    Raises:
        UserError: a missing or damaged file, an entry that is no integer vector (names the line or byte).
    """
    path = Path(path)
    if path.suffix == ".scp":
        for utterance, ids in read_int_vectors(path):
            yield Vector(str(path), utterance, ids)
        return
    try:
        with _open(path) as file:
            yield from _entries(file, path)
    # gzip raises EOFError and zlib.error, zipfile those of its methods, BadZipFile, and RuntimeError (encrypted, or a
    # method unknown to it)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError) as error:
        raise UserError(f"{path}: unreadable, damaged or cut short ({error}); fetch it again") from error


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    if not path.is_file():
        raise UserError(f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    with ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(open(path, "rb"))
        magic = file.read(4)
        file.seek(0)
        if not magic:
            raise UserError(f"{path}: empty; fetch or make it again")
        if magic.startswith(_GZIP):
            file = cast(IO[bytes], stack.enter_context(gzip.open(file)))
        elif magic in _ZIPS:
            archive = stack.enter_context(zipfile.ZipFile(file))
            file = stack.enter_context(archive.open(_only_text(archive, path)))
        yield file


def _only_text(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The one .txt inside; macOS adds shadows of files in a folder of its own."""
    texts = [
        member
        for member in archive.infolist()
        if member.filename.endswith(".txt") and PurePosixPath(member.filename).parts[0] != "__MACOSX"
    ]
    if len(texts) != 1:
        names = ", ".join(member.filename for member in texts[:3])
        raise UserError(f"{path}: {len(texts)} text files in it ({names}), not one; unpack it and name the right one")
    return texts[0]


def _entries(file: IO[bytes], path: Path) -> Iterator[Vector]:
    line = 0  # of a text file
    while True:
        start = file.tell()
        key, end = _key(file, f"{path}: byte {start}")
        if not key and not end:
            return
        line += 1
        if not key and end != b"\n":
            raise UserError(f"{path}:{line}: starts with a blank where an utterance's id should stand")
        if not key:
            continue  # an empty line
        try:
            utterance = key.decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}:{line}: {key[:20]!r} is no id in UTF-8") from error
        first = b"" if end == b"\n" else file.read(1)
        if first == b"\0":
            where = f"{path}: byte {start}"
            yield Vector(where, utterance, _binary(file, f"{where}: {utterance}"))
            continue
        where = f"{path}:{line}"
        rest = first if first in (b"", b"\n") else first + file.readline(MAX_LINE)
        if len(rest) > MAX_LINE and not rest.endswith(b"\n"):
            raise UserError(f"{where}: {utterance} has a line of over {MAX_LINE:,} bytes; these are no labels")
        yield Vector(where, utterance, _text(rest, f"{where}: {utterance}"))


def _key(file: IO[bytes], where: str) -> tuple[bytes, bytes]:
    """Bytes up to the next blank or line end, and that; both are empty at the end of the file."""
    key = bytearray()
    while len(key) <= MAX_KEY:
        byte = file.read(1)
        if byte in (b"", b" ", b"\t", b"\n"):
            return bytes(key.rstrip(b"\r")), byte
        key += byte
    raise UserError(f"{where}: no id of an utterance in {MAX_KEY} bytes; this is neither text nor a Kaldi archive")


def _text(line: bytes, where: str) -> np.ndarray:
    fields = line.split()
    try:
        if b"_" in line:  # int() takes 1_0 for 10
            raise ValueError
        return np.array([int(field) for field in fields], dtype=np.int32)
    except (ValueError, OverflowError) as error:
        wrong = next(field for field in fields if not _is_int32(field))
        raise UserError(f"{where}: {wrong[:30].decode(errors='replace')!r} is no integer of 32 bits") from error


def _is_int32(field: bytes) -> bool:
    try:
        return b"_" not in field and -(1 << 31) <= int(field) < 1 << 31
    except ValueError:
        return False


def _binary(file: IO[bytes], where: str) -> np.ndarray:
    """What follows the ``\\0`` of Kaldi's binary mark: ``B``, the length, the integers."""
    if file.read(1) != b"B":
        raise UserError(f"{where}: no binary mark; this is no Kaldi archive")
    header = np.frombuffer(file.read(_BINARY_INTEGER.itemsize).ljust(5, b"\0"), _BINARY_INTEGER)[0]
    size, length = header.item()
    if size != 4 or not 0 <= length <= MAX_LABELS:
        raise UserError(f"{where}: no vector of 32-bit integers; is this an archive of something else?")
    content = file.read(_BINARY_INTEGER.itemsize * length)
    if len(content) != _BINARY_INTEGER.itemsize * length:
        raise UserError(f"{where}: cut short; fetch or make it again")
    integers = np.frombuffer(content, _BINARY_INTEGER)
    if not (integers["size"] == 4).all():
        raise UserError(f"{where}: no vector of 32-bit integers; is this an archive of something else?")
    return integers["value"].astype(np.int32)
