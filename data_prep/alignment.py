"""What the aligners have in common: what they are given, what they return, and what they keep while they work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cpc_speech.files import atomic_write
from cpc_speech.packed import PackedAudio
from cpc_speech.phones import HOP, SAMPLE_RATE, Interval
from cpc_speech.pronunciations import Pronunciations

MARK, SECONDS = "digest", "seconds"


class Job(NamedTuple):
    """A corpus to align."""

    data_dir: Path
    audio: PackedAudio
    transcripts: dict[int, list[str]]  # place in the packed audio -> words; those without any are left out
    pronunciations: Pronunciations  # of every word
    work: Path  # where the aligner keeps what it has done, and its model
    nj: int  # processes
    posteriors: Path | None = None  # where cpc_speech.posteriors wrote, for the aligner that takes it


class Aligned(NamedTuple):
    """One utterance."""

    place: int  # in the packed audio
    intervals: list[Interval]  # phones without gaps from 0 to the end of the audio; none if it could not be aligned
    score: float  # mean over frames: log-likelihood less that of the frame's best state; NaN if it could not be aligned
    reason: str  # why it could not be aligned, or nothing


def why_not(samples: int, words: Sequence[str], detail: str) -> str:
    """The reason why ``words`` have no path through so many samples of audio."""
    if samples < HOP:
        return "shorter than one frame"
    return f"its {len(words)} words do not fit its {samples / SAMPLE_RATE:.2f} s of audio ({detail})"


def chunked(places: Iterable[int], size: int) -> list[list[int]]:
    """Places in chunks: the units that processes work on, and that are kept."""
    everything = list(places)
    return [everything[start : start + size] for start in range(0, len(everything), size)]


def digest(job: Job, *facts: Any) -> str:
    """A digest of everything that decides the alignments; packed audio counts by name, size and time of change."""
    shards = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(job.data_dir.glob("audio.*"))
    ]
    found = hashlib.sha256(json.dumps([facts, shards, sorted(job.pronunciations.items())]).encode())
    for name in ("text", "utt2num_samples", "utt2spk"):
        found.update((job.data_dir / name).read_bytes())
    return found.hexdigest()


def take_up(work: Path, inputs: str, patterns: Sequence[str]) -> None:
    """Leave in ``work`` what an earlier run on the same inputs kept; remove what a run on others kept.

    Args:
        inputs: their ``digest``.
        patterns: the names of what an aligner keeps; nothing else is touched.
    """
    mark = work / MARK
    if mark.is_file() and mark.read_text() == inputs:
        return
    mark.unlink(missing_ok=True)
    for pattern in (SECONDS, *patterns):
        for path in work.glob(pattern):
            path.unlink()
    with atomic_write(mark) as file:
        file.write(inputs)


def add_seconds(work: Path, seconds: float) -> float:
    """Add to the time that was spent on what ``work`` holds, by this run and those before; returns the sum."""
    path = work / SECONDS
    total = seconds + (float(path.read_text()) if path.is_file() else 0.0)
    with atomic_write(path) as file:
        file.write(f"{total}\n")
    return total
