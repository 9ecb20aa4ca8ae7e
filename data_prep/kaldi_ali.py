"""Kaldi's alignments: phones by frame, as ``ali-to-phones --per-frame=true`` writes them, and whole alignment
directories (``ali.*.gz``: transition-ids, whose phones the model knows)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cpc_speech.errors import UserError
from cpc_speech.phones import PHONE_ID, SYMBOLS, UNLABELLED, phone_of
from data_prep.frame_labels import IdMap
from data_prep.int_vectors import Vector, read_vectors
from data_prep.transition_model import read_transition_phones


def read_kaldi_symbols(path: str | Path) -> dict[int, str]:
    """Read Kaldi's ``phones.txt``: ``name id`` lines, names with or without word positions and stress.

    Raises:
        UserError: a missing file, a line of another form, an id that occurs twice (names the line).
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; --symbols names the phones.txt of the lang folder used for aligning")
    names: dict[int, str] = {}
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            fields = line.split()
            if len(fields) != 2 or not re.fullmatch(r"[0-9]{1,6}", fields[1]):
                raise UserError(f"{path}:{number}: {line.strip()!r} is not 'phone id'")
            if int(fields[1]) in names:
                raise UserError(f"{path}:{number}: {fields[0]} has the id of {names[int(fields[1])]}")
            names[int(fields[1])] = fields[0]
    if not names:
        raise UserError(f"{path}: empty; it should list the phones")
    return names


def phone_ids(symbols: str | Path) -> IdMap:
    """What Kaldi's phone ids mean by its phone table; a name outside the 41 classes matters only where it occurs."""
    names = read_kaldi_symbols(symbols)
    labels = np.full(max(names) + 1, -1, dtype=np.int32)
    for index, name in names.items():
        phone = phone_of(name)
        if phone is not None:
            labels[index] = 0 if phone == UNLABELLED else PHONE_ID[phone]

    def explain(unknown: int) -> str:
        if unknown in names:
            return f"{symbols} calls it {names[unknown]}, which is none of {' '.join(SYMBOLS[1:])}"
        return f"it is not in {symbols}"

    return IdMap(labels, explain)


def transition_ids(model: str | Path, symbols: str | Path) -> IdMap:
    """What transition-ids mean by the model that made them and the phone table."""
    phones, ids = read_transition_phones(model), phone_ids(symbols)
    labels = np.full(len(phones), -1, dtype=np.int32)
    within = (phones >= 0) & (phones < len(ids.labels))
    labels[within] = ids.labels[phones[within]]

    def explain(unknown: int) -> str:
        if 0 < unknown < len(phones):
            return f"it belongs to phone {phones[unknown]} of {model}; {ids.explain(int(phones[unknown]))}"
        return f"{model} has transition-ids 1 to {len(phones) - 1}; the alignment was made with another model"

    return IdMap(labels, explain)


def read_alignments(folder: str | Path) -> Iterator[Vector]:
    """Yield the vectors of ``ali.1.gz``, ``ali.2.gz``, ... of a folder, or of one such file.

    Raises:
        UserError: a folder that lacks one of them, or has another number of them than its ``num_jobs`` says.
    """
    folder = Path(folder)
    if not folder.exists():
        raise UserError(f"{folder}: no such folder")
    files = [folder] if folder.is_file() else [folder / f"ali.{job}.gz" for job in range(1, _jobs(folder) + 1)]
    for path in files:
        yield from read_vectors(path)


def _jobs(folder: Path) -> int:
    """How many jobs made an alignment folder; each left an ``ali.<job>.gz``."""
    names = (re.fullmatch(r"ali\.([1-9]\d*)\.gz", path.name) for path in folder.glob("ali.*.gz"))
    found = sorted(int(name[1]) for name in names if name)
    if not found:
        raise UserError(f"{folder}: no ali.1.gz in it; name a Kaldi alignment folder")
    said = folder / "num_jobs"
    text = said.read_text(encoding="utf-8", errors="replace").strip() if said.is_file() else str(found[-1])
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise UserError(f"{said}: {text[:80]!r} is not the number of jobs that made the alignment; correct it")
    jobs = int(text)
    if missing := next((job for job in range(1, jobs + 1) if job not in found), None):
        raise UserError(f"{folder}: ali.{missing}.gz of {jobs} is missing; copy the whole folder, or align again")
    if found[-1] > jobs:
        raise UserError(f"{folder}: ali.{found[-1]}.gz is there, but num_jobs says {jobs}; remove the one that is old")
    return jobs
