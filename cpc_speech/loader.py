"""Minibatches of audio, loaded ahead by worker processes, in an order that does not depend on how many there are."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cpc_speech.packed import PackedAudio
from cpc_speech.processes import Processes
from cpc_speech.windows import Window, WindowSampler, load


class Minibatch(NamedTuple):
    """Minibatch ``number`` of its update: its windows and their samples, (windows, window_samples) int16."""

    number: int
    windows: list[Window]
    samples: Tensor


class Minibatches(Dataset[Minibatch]):
    """Any minibatch of any update: ``minibatches[update, number]``."""

    def __init__(self, audio: PackedAudio, sampler: WindowSampler) -> None:
        self.audio, self.sampler = audio, sampler

    def __getitem__(self, key: tuple[int, int]) -> Minibatch:
        windows = self.sampler.minibatch(*key)
        return Minibatch(key[1], windows, torch.from_numpy(load(self.audio, windows, self.sampler.window_samples)))


def ahead(
    minibatches: Minibatches, updates: range, number: int, processes: Processes, workers: int
) -> Iterator[Minibatch]:
    """This process's share of ``number`` minibatches an update, for all of ``updates``, in order.

    With no workers they are loaded as they are asked for. A GPU gets them from page-locked memory.
    """
    keys = ((update, j) for update in updates for j in processes.share(number))
    return iter(
        DataLoader(
            minibatches,
            batch_size=None,
            sampler=keys,
            num_workers=workers,
            worker_init_fn=_leave_signals_to_the_trainer,
            pin_memory=processes.device.type == "cuda",
        )
    )


def waveform(samples: Tensor, device: torch.device) -> Tensor:
    """int16 samples as float32 in [−1, 1), on ``device``; only the 16 bits travel."""
    return samples.to(device, non_blocking=True).float() / 32768


def _leave_signals_to_the_trainer(worker: int) -> None:
    """ctrl-C goes to the whole process group: the trainer finishes its update first, and needs its workers for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
