"""What a long piece of work has done so far: one JSON line a step, on disk before the next step begins."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from pathlib import Path
from typing import IO, Any

from cpc_speech.errors import UserError

log = logging.getLogger(__name__)


class Journal:
    """Appends to ``path`` and reads back what is there: ``journal.records[utterance]`` is a dict of plain values.

    A step is there whole or not at all: a last line that a kill cut short is dropped. Of two records of an utterance
    the later counts. Only one process at a time can hold the journal.

    Raises:
        UserError: another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path, "a+b")
        try:
            lock(self._file, wait=False)
        except BlockingIOError as error:
            self._file.close()
            raise UserError(f"{path}: another process is doing this work; wait for it, or end it") from error
        self.records, whole = _read(path)
        self._file.truncate(whole)

    def add(self, records: dict[str, dict[str, Any]]) -> None:
        """A step's records, by utterance."""
        self._file.write(json.dumps(records).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.records |= records

    def close(self) -> None:
        self._file.close()


def lock(file: IO[bytes], wait: bool = True) -> None:
    """Lock a file that is open for writing, until it is closed; warns where its file system has no locks.

    Raises:
        BlockingIOError: another process holds it, and ``wait`` is False.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError as error:
        log.warning("%s cannot be locked (%s): make sure that no other process does this", file.name, error.strerror)


def read_journal(path: Path) -> dict[str, dict[str, Any]]:
    """The records of a journal that another process may be writing; empty where there is none."""
    return _read(path)[0] if path.exists() else {}


def _read(path: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """The records, and how many bytes their lines take."""
    records: dict[str, dict[str, Any]] = {}
    whole = 0
    with open(path, "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            records |= json.loads(line)
            whole += len(line)
    return records, whole
