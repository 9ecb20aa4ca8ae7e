"""Kaldi archives: integer vectors and float matrices by way of kaldi_io, which only this module imports.

Importing kaldi_io prints a banner and rewrites PATH and KALDI_ROOT, and its readers return read-only arrays; none of
that leaves this module.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from types import ModuleType
from typing import IO

import numpy as np

from cpc_speech import environment
from cpc_speech.datadir import read_table
from cpc_speech.errors import UserError
from cpc_speech.files import atomic_write, remove_strays


def _import_kaldi_io() -> ModuleType:
    quiet = contextlib.redirect_stderr(io.StringIO())
    with environment.restored(("PATH", "KALDI_ROOT")), quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its source has invalid escape sequences
        import kaldi_io
    return kaldi_io


_kaldi_io = _import_kaldi_io()


def write_int_vectors(ark: str | Path, scp: str | Path, items: Iterable[tuple[str, np.ndarray]]) -> int:
    """Stream ``(utterance, vector)`` pairs to a binary archive and its index; each file appears whole or not at all.

    The index is written after the archive, so whoever sees the index sees the archive. Returns how many.

    Raises:
        UserError: ids out of C order or repeated.
        ValueError: a vector that is not 1-D int32 (Kaldi's type for alignments).
    """
    return _write_all(ark, scp, items, 1, np.int32, _kaldi_io.write_vec_int)


def read_int_vectors(scp: str | Path, utterances: Iterable[str] | None = None) -> Iterator[tuple[str, np.ndarray]]:
    """Yield ``(utterance, int32 copy)`` in the order of ``utterances`` (default: all, in the index's order).

    Raises:
        UserError: ids that the index lacks, or an archive that is missing, moved or cut short.
    """
    return _read_all(scp, utterances, lambda file: np.array(_kaldi_io.read_vec_int(file), np.int32), "integer vector")


def write_float_matrices(ark: str | Path, scp: str | Path, items: Iterable[tuple[str, np.ndarray]]) -> int:
    """``write_int_vectors`` for pairs ``(utterance, (T, D) float32 matrix)``, such as features or scores by frame."""
    return _write_all(ark, scp, items, 2, np.float32, _write_matrix)


def read_float_matrices(scp: str | Path, utterances: Iterable[str] | None = None) -> Iterator[tuple[str, np.ndarray]]:
    """``read_int_vectors`` for matrices: yields ``(utterance, (T, D) float32 copy)``.

    Raises:
        UserError: also for a compressed matrix, which kaldi_io cannot read under this NumPy.
    """
    return _read_all(scp, utterances, _read_matrix, "uncompressed float matrix")


def write_double_matrices(ark: str | Path, scp: str | Path, items: Iterable[tuple[str, np.ndarray]]) -> int:
    """``write_int_vectors`` for pairs ``(key, (M, N) float64 matrix)``, such as statistics by speaker."""
    return _write_all(ark, scp, items, 2, np.float64, _write_matrix)


class MatrixArchive:
    """An archive of float matrices that is written row by row, so that no matrix is ever held, and is continued after a
    kill. ``with archive.matrix(key, rows, dim) as write: write(some rows); write(more)``.

    Args:
        end: how much of an archive that exists is known to be whole, in bytes; what follows is cut off.

    Raises:
        UserError: the archive is shorter than that.
    """

    def __init__(self, path: Path, end: int = 0) -> None:
        self._file = open(path, "r+b" if path.exists() else "w+b")
        size = self._file.seek(0, 2)
        if size < end:
            self._file.close()
            raise UserError(
                f"{path}: has {size:,} bytes of the {end:,} that were written; remove {path.parent} and begin anew"
            )
        if size > end:
            self._file.truncate(end)
        self._file.seek(end)
        self.begin = self.end = end

    @contextlib.contextmanager
    def matrix(self, key: str, rows: int, dim: int) -> Iterator[Callable[[np.ndarray], None]]:
        """Write the next matrix, all of its ``rows``; it then lies between the bytes ``begin`` and ``end`` of the
        archive. An exception takes back what there is of it."""
        begin = self.end + len(f"{key} ".encode())
        end = begin + matrix_bytes(rows, dim)
        try:
            self._file.write(f"{key} ".encode() + _matrix_header(rows, dim, np.float32))
            yield lambda block: _write_rows(self._file, block)
            if self._file.tell() != end:
                raise ValueError(f"{key}: not {rows} rows, but {self._file.tell() - end:+,} bytes")
        except BaseException:
            self._file.seek(self.end)
            self._file.truncate()
            raise
        self.begin, self.end = begin, end

    def sync(self) -> None:
        """Bring all of it to disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def matrix_bytes(rows: int, dim: int) -> int:
    """The bytes that a float matrix takes in an archive, without its key."""
    return len(_matrix_header(rows, dim, np.float32)) + 4 * rows * dim


def matrix_blocks(place: str, rows: int, dim: int, block: int = 10_000) -> Iterator[np.ndarray]:
    """Yield a matrix that a ``MatrixArchive`` holds at ``place``, ARK:OFFSET, ``block`` rows at a time."""
    ark, _, offset = place.rpartition(":")
    begin = int(offset) + len(_matrix_header(rows, dim, np.float32))
    for first in range(0, rows, block):
        count = min(block, rows - first)
        yield np.fromfile(ark, "<f4", count * dim, offset=begin + 4 * first * dim).reshape(count, dim)


def _matrix_header(rows: int, dim: int, dtype: type) -> bytes:
    kind = b"D" if dtype == np.float64 else b"F"
    return b"\0B" + kind + b"M \4" + struct.pack("<i", rows) + b"\4" + struct.pack("<i", dim)


def _write_rows(file: IO[bytes], rows: np.ndarray) -> None:
    file.write(np.ascontiguousarray(rows, rows.dtype.newbyteorder("<")).data)


def _write_matrix(file: IO[bytes], matrix: np.ndarray) -> None:
    # kaldi_io's write_mat would turn the whole matrix to bytes first: twice the memory.
    rows, dim = matrix.shape
    file.write(_matrix_header(rows, dim, matrix.dtype.type))
    _write_rows(file, matrix)


def _read_matrix(file: IO[bytes]) -> np.ndarray:
    start = file.tell()
    marker = file.read(5)
    if marker not in (b"\0BFM ", b"\0BDM "):
        raise ValueError(marker)
    file.seek(start)
    return np.array(_kaldi_io.read_mat(file), np.float32)


def _write_all(
    ark: str | Path,
    scp: str | Path,
    items: Iterable[tuple[str, np.ndarray]],
    ndim: int,
    dtype: type,
    write: Callable[[IO[bytes], np.ndarray], None],
) -> int:
    ark = Path(ark).resolve()
    lines: list[str] = []
    previous = ""
    remove_strays(ark)  # of features tens of gigabytes
    with atomic_write(ark, "wb") as file:
        for utterance, array in items:
            if array.dtype != dtype or array.ndim != ndim:
                raise ValueError(
                    f"{utterance}: a {ndim}-D {dtype.__name__} array is wanted, not {array.ndim}-D {array.dtype}"
                )
            if utterance <= previous:
                raise UserError(f"{ark}: {utterance} comes after {previous}; ids must be unique and in C order")
            # Kaldi's offset points behind "key ", at the binary marker.
            file.write(f"{utterance} ".encode())  # kaldi_io would write the key as Latin-1
            lines.append(f"{utterance} {ark}:{file.tell()}\n")
            write(file, array)
            previous = utterance
    with atomic_write(scp) as file:
        file.writelines(lines)
    return len(lines)


def _read_all(
    scp: str | Path, utterances: Iterable[str] | None, read: Callable[[IO[bytes]], np.ndarray], kind: str
) -> Iterator[tuple[str, np.ndarray]]:
    index = read_table(scp)
    wanted = list(index) if utterances is None else list(utterances)
    if missing := [utterance for utterance in wanted if utterance not in index]:
        raise UserError(
            f"{scp}: {len(missing)} of {len(wanted)} utterances are not in it, first {' '.join(missing[:3])}; "
            "run the stage that makes it again"
        )
    archive, opened = "", None
    try:
        for utterance in wanted:
            name, _, offset = index[utterance].rpartition(":")
            if not name or not offset.isdecimal():
                raise UserError(f"{scp}: {utterance} has no ARK:OFFSET but {index[utterance]!r}")
            if opened is None or name != archive:
                if opened is not None:
                    opened.close()
                archive, opened = name, _open(name, scp)
            opened.seek(int(offset))
            try:
                if not opened.peek(1):  # kaldi_io takes the end of the file for an empty vector
                    raise ValueError("the archive ends before it")
                array = read(opened)
            except (AssertionError, ValueError, IndexError, UnicodeDecodeError) as error:
                raise UserError(
                    f"{archive}: no {kind} for {utterance} at byte {offset} (cut short or overwritten?); "
                    "run the stage that makes it again"
                ) from error
            yield utterance, array
    finally:
        if opened is not None:
            opened.close()


def _open(archive: str, scp: str | Path) -> BufferedReader:
    try:
        return open(archive, "rb")
    except OSError as error:
        raise UserError(f"{scp} points to {archive}: {error.strerror}; run the stage that makes it again") from error
