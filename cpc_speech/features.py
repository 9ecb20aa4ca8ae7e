"""Frames of a whole corpus on disk: float16, memory-mapped, read in shuffled pools or utterance by utterance."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np
import torch
from torch import Tensor

from cpc_speech.errors import UserError, writing
from cpc_speech.files import need_room
from cpc_speech.loader import waveform
from cpc_speech.packed import SAMPLE_RATE, PackedAudio
from cpc_speech.progress import Progress
from cpc_speech.representations import Representation

_CPU = torch.device("cpu")
_BATCH_SECONDS = 240  # of audio, padding included: what one call of a representation is given
_POOL_FRAMES = 1 << 18  # frames shuffled together: 128 MiB of 256-dimensional float16


class Moments:
    """Mean and standard deviation of frames that come as one matrix (T, dim) after the other."""

    def __init__(self, dim: int) -> None:
        self._count, self._total, self._squares = 0, np.zeros(dim), np.zeros(dim)

    def add(self, frames: np.ndarray) -> None:
        x = frames.astype(np.float64)
        self._count, self._total = self._count + len(x), self._total + x.sum(0)
        self._squares = self._squares + (x * x).sum(0)

    def mean_and_std(self) -> tuple[np.ndarray, np.ndarray]:
        """Both (dim,) float32; a value that never changes gets the deviation 1, so that it is 0 when standardised."""
        mean = self._total / self._count
        variance = self._squares / self._count - mean**2
        return mean.astype(np.float32), np.sqrt(np.where(variance > 1e-12, variance, 1)).astype(np.float32)


class FeatureStore:
    """The frames of ``utterances`` in one memory-mapped file; those of utterance i are ``self.rows(i)``."""

    def __init__(self, file: Path | IO[bytes], utterances: Sequence[str], frames: np.ndarray, dim: int) -> None:
        self.utterances, self.dim = list(utterances), dim
        self._ends = np.cumsum(frames)
        self._matrix = np.memmap(file, np.float16, "r", shape=(int(self._ends[-1]), dim))
        self.mean, self.std = np.zeros(dim, np.float32), np.ones(dim, np.float32)

    @classmethod
    def extract(cls, folder: Path, audio: PackedAudio, representation: Representation) -> FeatureStore:
        """Compute the frames of all of ``audio``, similar lengths together, and write them to the disk of ``folder``.

        Their file has no name there: of 100 hours it is 18 GB, which are free again however this process ends.
        """
        folder.mkdir(parents=True, exist_ok=True)
        frames = audio.num_samples // representation.hop
        starts = np.cumsum(frames) - frames
        row = 2 * representation.dim  # bytes
        need_room(folder, int(frames.sum()) * row)
        with writing(folder), TemporaryFile(dir=folder) as file:
            progress = Progress(total=len(audio), unit="utt", desc=f"frames of {representation.name}")
            with progress:
                for i, exact in represented(audio, audio.num_samples, representation):
                    rows = exact.half()
                    if len(rows) != frames[i] or not torch.isfinite(rows).all():
                        raise UserError(
                            f"{audio.utterances[i]}: {representation.name} gave {len(rows)} frames where "
                            f"{frames[i]} finite ones are due; check its audio"
                        )
                    file.seek(int(starts[i]) * row)  # not through a memory map, where a full disk is a bus error
                    file.write(rows.cpu().numpy().tobytes())
                    progress.update()
            file.flush()
            os.fsync(file.fileno())  # some file systems tell only now that they are full
            return cls(file, audio.utterances, frames, representation.dim)

    def rows(self, i: int) -> slice:
        """Where utterance i's frames stand."""
        return slice(int(self._ends[i - 1]) if i else 0, int(self._ends[i]))

    def standardise(self, utterances: Sequence[int]) -> None:
        """Take mean and standard deviation over these utterances' frames; what is read is normalised by them."""
        moments = Moments(self.dim)
        for i in utterances:
            moments.add(self._matrix[self.rows(i)])
        self.mean, self.std = moments.mean_and_std()

    def __getitem__(self, i: int) -> Tensor:
        """Standardised frames of utterance i: (T, D) float32."""
        return self._normalise(self._matrix[self.rows(i)])

    def shuffled(
        self, utterances: Sequence[int], targets: Sequence[np.ndarray], batch: int, seed: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over the frames with a target ≥ 0, in random minibatches (batch, D), (batch,).

        Utterances are shuffled and gathered in pools, and frames are shuffled within a pool: each utterance is read in
        one piece, so that a corpus larger than memory is no slower than its disk.
        """
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(utterances))
        pool: list[int] = []
        held = 0
        for position, j in enumerate(order):
            pool.append(j)
            held += len(targets[j])
            if held >= _POOL_FRAMES or position == len(order) - 1:
                x = np.concatenate([self._matrix[self.rows(utterances[i])] for i in pool])
                y = np.concatenate([targets[i] for i in pool])
                chosen = rng.permutation(np.flatnonzero(y >= 0))
                for first in range(0, len(chosen), batch):
                    rows = chosen[first : first + batch]
                    yield self._normalise(x[rows]), torch.from_numpy(y[rows])
                pool, held = [], 0

    def _normalise(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy((rows.astype(np.float32) - self.mean) / self.std)


def represented(
    audio: PackedAudio | Sequence[np.ndarray], num_samples: np.ndarray, representation: Representation
) -> Iterator[tuple[int, Tensor]]:
    """Each utterance's place in ``audio`` and its frames (T, D); similar lengths share a batch, longest first.

    Args:
        audio: (n_i,) int16 each.
        num_samples: the n_i.
    """
    for batch in batches_by_length(num_samples):
        yield from zip(batch, representation([waveform(torch.tensor(audio[i]), _CPU) for i in batch]))


def in_order(audio: PackedAudio, representation: Representation) -> Iterator[tuple[str, Tensor]]:
    """Each utterance's id and its frames (T, D), one after the other, as an archive wants them."""
    progress = Progress(audio.utterances, unit="utt", desc=f"frames of {representation.name}")
    for i, utterance in enumerate(progress):
        [frames] = representation([waveform(torch.tensor(audio[i]), _CPU)])
        yield utterance, frames


def batches_by_length(num_samples: np.ndarray) -> Iterator[list[int]]:
    """Indices of utterances, longest first, in batches of bounded padded length."""
    batch: list[int] = []
    for i in np.argsort(-num_samples, kind="stable"):
        if batch and (len(batch) + 1) * num_samples[batch[0]] > _BATCH_SECONDS * SAMPLE_RATE:
            yield batch
            batch = []
        batch.append(int(i))
    if batch:
        yield batch
