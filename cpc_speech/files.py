"""Files that are either whole or not there."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cpc_speech.errors import UserError, writing


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open ``path`` for writing under a temporary name and give it its own only once everything is on disk.

    A full disk, a kill or an exception leaves the old file, if any, untouched.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_strays(path: str | Path) -> None:
    """Remove what killed runs have left of ``path``, which nobody else may be writing, under temporary names."""
    path = Path(path)
    for stray in path.parent.glob(f"{glob.escape(path.name)}.tmp.*"):
        stray.unlink(missing_ok=True)


def need_room(folder: str | Path, size: int) -> None:
    """Raise UserError if fewer than ``size`` bytes are free where ``folder`` is."""
    if (free := shutil.disk_usage(folder).free) < size:
        raise UserError(f"{folder}: {size:,} bytes are to be written, {free:,} are free: make room")


def sha256(path: str | Path) -> str:
    """The file's SHA-256 digest in hexadecimal."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
