"""A folder of features as other toolkits read it: matrices, written in constant memory, and the tables beside them.

``kaldi``: a Kaldi data directory with feats.scp. ``npy``: ``npy/<speaker>/<utterance>.npy``, (T, D) float32, and
npy.scp. ``lhotse``: the same files, and manifests of lhotse (see ``cpc_speech.lhotse_manifests``).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from cpc_speech.datadir import read_table, write_table
from cpc_speech.errors import UserError
from cpc_speech.files import atomic_write
from cpc_speech.kaldi import MatrixArchive, matrix_blocks, matrix_bytes, write_double_matrices
from cpc_speech.segments import Segment

FORMATS = ("kaldi", "npy", "lhotse")
DROPPED = "feats.dropped"
_LONGEST = 255 - len(".npy.tmp.4194304")  # bytes of an id: of a file's name on Linux, without atomic_write's addition
FRAME_SHIFT = 0.01  # s: 160 samples of 16 kHz
_BY_UTTERANCE = ("text", "utt2lang", "utt2uniq", "utt2category")  # Kaldi's tables that are copied where there are any
_BY_SPEAKER = ("spk2gender",)

Write = Callable[[np.ndarray], None]
Records = Mapping[str, Mapping[str, Any]]  # utterance -> what became of it: "place", "frames", ...; or "dropped"


class Store(Protocol):
    """Takes one matrix after the other; ``place`` is where the last one is, relative to the folder."""

    place: str

    def matrix(self, segment: Segment, frames: int, dim: int) -> Any:
        """A context manager that gives the function to write all rows with; an exception leaves nothing of them."""

    def sync(self) -> None:
        """Bring all of it to disk."""

    def close(self) -> None: ...


class KaldiStore:
    """One archive; what a kill left in it after the last of ``records`` is cut off."""

    def __init__(self, out: Path, name: str, records: Records, dim: int) -> None:
        held = [record for record in records.values() if "place" in record]
        ends = (_offset(record["place"]) + matrix_bytes(record["frames"], dim) for record in held)
        self._name, self._archive = name, MatrixArchive(out / name, max(ends, default=0))
        self.sync, self.close = self._archive.sync, self._archive.close
        self.place = ""

    @contextmanager
    def matrix(self, segment: Segment, frames: int, dim: int) -> Iterator[Write]:
        with self._archive.matrix(segment.utterance, frames, dim) as write:
            yield write
        self.place = f"{self._name}:{self._archive.begin}"


class NumpyStore:
    """A file an utterance; temporary files that a kill left of ``utterances``, which no other job writes, are removed.

    Raises:
        UserError: a file of ``records`` is not there.
    """

    def __init__(self, out: Path, utterances: Container[str], records: Records) -> None:
        self._out, self.place = out, ""
        places = (record["place"] for record in records.values() if "place" in record)
        if gone := [place for place in places if not (out / place).exists()]:
            raise UserError(
                f"{out}: {len(gone)} files that were written are gone, first {gone[0]}; remove {out} and begin anew"
            )
        for path in (out / "npy").rglob("*.npy.tmp.*"):
            if path.name.rpartition(".npy.tmp.")[0] in utterances:
                path.unlink()

    @contextmanager
    def matrix(self, segment: Segment, frames: int, dim: int) -> Iterator[Write]:
        place = f"npy/{segment.speaker}/{segment.utterance}.npy"
        with atomic_write(self._out / place, "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (frames, dim)})
            yield lambda rows: _write(file, rows)
        self.place = place

    def sync(self) -> None:
        """Nothing to do: each file was brought to disk before it got its name."""

    def close(self) -> None:
        """Nothing to do: each file is closed."""


def _write(file: IO[bytes], rows: np.ndarray) -> None:
    file.write(np.ascontiguousarray(rows, "<f4").data)


def make_store(out: Path, form: str, name: str, utterances: Container[str], records: Records, dim: int) -> Store:
    """Where features of these utterances go in the format ``form``, in Kaldi's to an archive called ``name``; it is
    continued after ``records``."""
    return KaldiStore(out, name, records, dim) if form == "kaldi" else NumpyStore(out, utterances, records)


def check_names(segments: Sequence[Segment]) -> None:
    """Raise UserError where an id cannot be the name of a file, or of a temporary one."""
    ids = sorted({name for segment in segments for name in (segment.speaker, segment.utterance)})
    if wrong := [name for name in ids if "/" in name or len(name.encode()) > _LONGEST]:
        raise UserError(
            f"{len(wrong)} ids have a slash or more than {_LONGEST} bytes and can name no file, first {wrong[0]}: "
            "take --format kaldi, or rename them"
        )


def write_tables(
    out: Path, source: Path | None, segments: Sequence[Segment], records: Records, form: str, dim: int, cmvn: bool
) -> dict[str, str]:
    """Write all but the matrices, and their index, feats.scp or npy.scp, last. Returns what was dropped, and why.

    Args:
        source: the Kaldi data directory that was read, if it was one, whose further tables are copied.
        cmvn: whether to add Kaldi's statistics of each speaker.
    """
    kept = {segment.utterance: segment for segment in segments if "place" in records[segment.utterance]}
    dropped = {utterance: record["dropped"] for utterance, record in records.items() if "dropped" in record}
    places = {utterance: f"{out.resolve()}/{records[utterance]['place']}" for utterance in kept}
    frames = {utterance: records[utterance]["frames"] for utterance in kept}
    speakers: dict[str, list[str]] = {}
    for utterance in sorted(kept):
        speakers.setdefault(kept[utterance].speaker, []).append(utterance)

    index = out / ("feats.scp" if form == "kaldi" else "npy.scp")
    for stale in (index.name, "segments", "cmvn.scp", "cmvn.ark", *_BY_UTTERANCE, *_BY_SPEAKER):
        (out / stale).unlink(missing_ok=True)
    write_table(out / "wav.scp", {segment.recording: segment.entry for segment in kept.values()})
    if source is not None and (source / "segments").exists():
        stretches = read_table(source / "segments")
        write_table(out / "segments", {utterance: stretches[utterance] for utterance in kept})
    write_table(out / "utt2spk", {utterance: segment.speaker for utterance, segment in kept.items()})
    write_table(out / "spk2utt", {speaker: " ".join(members) for speaker, members in speakers.items()})
    write_table(out / "utt2dur", {utterance: records[utterance]["seconds"] for utterance in kept})
    write_table(out / "utt2num_frames", frames)
    for names, keys in ((_BY_UTTERANCE, kept), (_BY_SPEAKER, speakers)):
        for name in names:
            if source is not None and (source / name).exists():
                table = read_table(source / name)
                write_table(out / name, {key: table[key] for key in sorted(keys) if key in table})
    for name, value in (("frame_shift", FRAME_SHIFT), ("feat_dim", dim)):
        with atomic_write(out / name) as file:
            file.write(f"{value}\n")
    if cmvn:
        sums = ((key, _statistics([(places[u], frames[u]) for u in speakers[key]], dim)) for key in sorted(speakers))
        write_double_matrices(out / "cmvn.ark", out / "cmvn.scp", sums)
    if form == "lhotse":
        from cpc_speech.lhotse_manifests import write_manifests

        texts = read_table(out / "text") if (out / "text").exists() else {}
        write_manifests(out, [kept[utterance] for utterance in sorted(kept)], records, texts, dim)
    write_table(out / DROPPED, dropped)
    write_table(index, places)
    return dropped


def _statistics(matrices: Sequence[tuple[str, int]], dim: int) -> np.ndarray:
    """Kaldi's for mean and variance normalisation, (2, dim + 1): sums and the count, sums of squares and 0."""
    stats = np.zeros((2, dim + 1))
    for place, frames in matrices:
        for rows in matrix_blocks(place, frames, dim):
            x = rows.astype(np.float64)
            stats[0, :-1] += x.sum(0)
            stats[1, :-1] += (x * x).sum(0)
            stats[0, -1] += len(x)
    return stats


def _offset(place: str) -> int:
    return int(place.rpartition(":")[2])
