"""Packed audio: a corpus decoded once to int16 shards and memory-mapped, so that a window costs a slice.

``data/<set>/audio.<shard>.i16`` holds raw little-endian int16 samples, mono, 16 kHz, one utterance after
another in id order; ``audio.scp`` says where each starts (``<utterance> audio.<shard>.i16:<first sample>``)
and is written last: where it exists, the packing is complete.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from cpc_speech.datadir import read_table
from cpc_speech.errors import UserError

SAMPLE_RATE = 16_000  # Hz, of all packed audio
DTYPE = np.dtype("<i2")


class PackedAudio:
    """Random access to the utterances of a packed data directory; uses no memory for what is not touched.

    Args:
        data_dir: a data directory with audio.scp, utt2num_samples and utt2spk.
        utterances: which ones, in this order; all of them in id order by default.

    Raises:
        UserError: the directory is not packed, its files contradict each other, or an id is unknown.
    """

    utterances: list[str]
    num_samples: np.ndarray  # (N,) int64
    speakers: list[str]  # N, one an utterance

    def __init__(self, data_dir: str | Path, utterances: Iterable[str] | None = None) -> None:
        self.data_dir = Path(data_dir)
        if not (self.data_dir / "audio.scp").is_file():
            raise UserError(f"{self.data_dir} is not packed yet: {self._remedy}")
        starts = read_table(self.data_dir / "audio.scp")
        lengths = read_table(self.data_dir / "utt2num_samples")
        speakers = read_table(self.data_dir / "utt2spk")

        self._shard_samples: dict[str, int] = {}  # shard name -> samples that the index says it holds
        index: dict[str, tuple[str, int, int]] = {}  # utterance -> shard, first sample, samples
        for utterance, place in starts.items():
            shard, _, start = place.rpartition(":")
            length = lengths.get(utterance, "")
            if not (shard and start.isdecimal() and length.isdecimal() and utterance in speakers):
                raise UserError(
                    f"{self.data_dir}: audio.scp ({place!r}), utt2num_samples ({length!r}) and utt2spk do "
                    f"not go together for {utterance}: {self._remedy}"
                )
            index[utterance] = (shard, int(start), int(length))
            self._shard_samples[shard] = int(start) + int(length)

        self.utterances = list(starts if utterances is None else utterances)
        if unknown := [utterance for utterance in self.utterances if utterance not in index]:
            raise UserError(
                f"{self.data_dir}: {len(unknown)} utterance(s) asked for are not in the packed audio, "
                f"such as {', '.join(unknown[:3])}: use lists made from this directory, or pack it again"
            )
        self._places = [index[utterance] for utterance in self.utterances]
        self.num_samples = np.array([samples for _, _, samples in self._places], dtype=np.int64)
        self.speakers = [speakers[utterance] for utterance in self.utterances]
        self._shards: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, i: int) -> np.ndarray:
        """Utterance ``i``, whole: (num_samples[i],) int16, a read-only view of the file."""
        shard, start, samples = self._places[i]
        return self._open(shard)[start : start + samples]

    def slice(self, i: int, start: int, length: int) -> np.ndarray:
        """``length`` samples of utterance ``i`` from sample ``start``: (length,) int16, a read-only view."""
        shard, first, samples = self._places[i]
        if not 0 <= start <= start + length <= samples:
            raise IndexError(f"{self.utterances[i]}: samples {start}..{start + length} of {samples}")
        return self._open(shard)[first + start : first + start + length]

    def _open(self, shard: str) -> np.ndarray:
        samples = self._shards.get(shard)
        if samples is None:
            path, expected = self.data_dir / shard, self._shard_samples[shard] * DTYPE.itemsize
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
