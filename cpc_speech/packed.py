"""Packed audio: a corpus decoded once to int16 shards and memory-mapped, so that a window costs a slice.

``data/<set>/audio.<shard>.i16`` holds raw little-endian int16 samples, mono, 16 kHz, one utterance after
another in id order; ``audio.scp`` says where each starts (``<utterance> audio.<shard>.i16:<first sample>``)
and is written last: where it exists, the packing is complete.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from cpc_speech.datadir import iter_table
from cpc_speech.errors import UserError

SAMPLE_RATE = 16_000  # Hz, of all packed audio
DTYPE = np.dtype("<i2")
_INDEX = ("audio.scp", "utt2num_samples", "utt2spk")


class PackedAudio:
    """Random access to the utterances of a packed data directory; uses no memory for what is not touched.

    All that is known of an utterance is one record of one array, 24 bytes and its id. Python objects would
    take hundreds, and again in every forked worker: to use one is to write its reference count.

    Args:
        data_dir: a data directory with audio.scp, utt2num_samples and utt2spk.
        utterances: which ones, in this order; all of them in id order by default.

    Raises:
        UserError: the directory is not packed, its files contradict each other, or an id is unknown.
    """

    speaker_names: list[str]  # of the speakers of these utterances, sorted

    def __init__(self, data_dir: str | Path, utterances: Iterable[str] | None = None) -> None:
        self.data_dir = Path(data_dir)
        scp = self.data_dir / "audio.scp"
        if not scp.is_file():
            raise UserError(f"{self.data_dir} is not packed yet: {self._remedy}")
        longest = max((len(utterance.encode()) for utterance, _ in iter_table(scp)), default=0)
        record = [  # first sample, samples, numbers of shard and speaker, id in UTF-8
            ("start", np.int64), ("samples", np.int64), ("shard", np.int32), ("speaker", np.int32),
            ("utterance", f"S{longest + 1}"),  # one byte more, so that no id is what _find cuts another to
        ]  # fmt: skip
        shards: dict[str, int] = {}
        speakers: dict[str, int] = {}
        self._table = np.fromiter(self._records(shards, speakers), np.dtype(record, align=True))
        self._shard_names = list(shards)
        self._shard_samples = np.zeros(len(shards), np.int64)  # that the index says it holds
        np.maximum.at(self._shard_samples, self._table["shard"], self._table["start"] + self._table["samples"])
        if utterances is not None:
            self._table = self._table[self._find(utterances)]
        self.speaker_names = self._renumber_speakers(list(speakers))
        self._shards: dict[int, np.ndarray] = {}

    @property
    def utterances(self) -> Sequence[str]:
        """N ids."""
        return _Texts(self._table["utterance"], bytes.decode)

    @property
    def num_samples(self) -> np.ndarray:
        """(N,) int64."""
        return self._table["samples"]

    @property
    def speaker_index(self) -> np.ndarray:
        """(N,) int32: the speaker of each utterance, as a place in ``speaker_names``."""
        return self._table["speaker"]

    @property
    def speakers(self) -> Sequence[str]:
        """N names, one an utterance."""
        return _Texts(self.speaker_index, self.speaker_names.__getitem__)

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, i: int) -> np.ndarray:
        """Utterance ``i``, whole: (num_samples[i],) int16, a read-only view of the file."""
        first, samples, shard, *_ = self._table[i].item()
        return self._open(shard)[first : first + samples]

    def slice(self, i: int, start: int, length: int) -> np.ndarray:
        """``length`` samples of utterance ``i`` from sample ``start``: (length,) int16, a read-only view."""
        first, samples, shard, *_ = self._table[i].item()
        if not 0 <= start <= start + length <= samples:
            raise IndexError(f"{self.utterances[i]}: samples {start}..{start + length} of {samples}")
        return self._open(shard)[first + start : first + start + length]

    def _records(self, shards: dict[str, int], speakers: dict[str, int]) -> Iterator[tuple[int, int, int, int, bytes]]:
        """The three files' lines side by side, as records; numbers shards and speakers as they come."""
        for entries in zip_longest(*(iter_table(self.data_dir / name) for name in _INDEX), fillvalue=("", "")):
            (utterance, place), (with_length, length), (with_speaker, speaker) = entries
            shard, _, start = place.rpartition(":")
            together = utterance == with_length == with_speaker
            if not (together and shard and start.isdecimal() and length.isdecimal()):
                for name in _INDEX:
                    deque(iter_table(self.data_dir / name), maxlen=0)  # a line out of order explains it better
                first = min(key for key, _ in entries if key)  # the files are sorted: who is ahead lacks it
                found = (
                    f"{name} ({repr(value) if key == first else 'no line'})"
                    for name, (key, value) in zip(_INDEX, entries)
                )
                raise UserError(f"{self.data_dir}: {', '.join(found)} do not go together for {first}: {self._remedy}")
            number, voice = shards.setdefault(shard, len(shards)), speakers.setdefault(speaker, len(speakers))
            yield int(start), int(length), number, voice, utterance.encode()

    def _find(self, utterances: Iterable[str]) -> np.ndarray:
        """Places of these ids in the table: (n,) int64."""
        wanted, ids = list(utterances), self._table["utterance"]
        keys = np.fromiter((utterance.encode() for utterance in wanted), ids.dtype, len(wanted))
        places = np.searchsorted(ids, keys)  # both in C order, as the files are
        unknown = np.flatnonzero(np.searchsorted(ids, keys, side="right") == places)
        if len(unknown):
            raise UserError(
                f"{self.data_dir}: {len(unknown)} utterance(s) asked for are not in the packed audio, "
                f"such as {', '.join(wanted[i] for i in unknown[:3])}: use lists made from this directory, "
                "or pack it again"
            )
        return places

    def _renumber_speakers(self, names: list[str]) -> list[str]:
        """Number the speakers of the chosen utterances alone, by name; returns their names."""
        column = self._table["speaker"]
        present = sorted(np.flatnonzero(np.bincount(column)).tolist(), key=names.__getitem__)
        number = np.zeros(len(names), np.int32)
        number[present] = np.arange(len(present))
        column[:] = number[column]
        return [names[i] for i in present]

    def _open(self, shard: int) -> np.ndarray:
        samples = self._shards.get(shard)
        if samples is None:
            path, expected = self.data_dir / self._shard_names[shard], self._shard_samples[shard] * DTYPE.itemsize
            size = path.stat().st_size if path.is_file() else None
            if size != expected:
                found = "is missing" if size is None else f"has {size:,} bytes"
                raise UserError(f"{path} {found}; {expected:,} are expected by audio.scp: {self._remedy}")
            samples = self._shards[shard] = np.asarray(np.memmap(path, DTYPE, mode="r"))
        return samples

    @property
    def _remedy(self) -> str:
        return f"run python -m data_prep.pack {self.data_dir}"

    def __getstate__(self) -> dict[str, Any]:
        """Without the maps: pickling one, for a worker process, would copy the audio."""
        return self.__dict__ | {"_shards": {}}


class _Texts(Sequence[str]):
    """Read-only str, made from the entries of an array as they are asked for."""

    def __init__(self, entries: np.ndarray, text: Callable[[Any], str]) -> None:
        self._entries, self._text = entries, text

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, i: Any) -> Any:
        return _Texts(self._entries[i], self._text) if isinstance(i, slice) else self._text(self._entries[i])
