"""Minibatches of audio, loaded ahead by worker processes, in an order that does not depend on how many there are."""

from __future__ import annotations

import atexit
import multiprocessing
import signal
from collections.abc import Generator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cpc_speech.errors import UserError
from cpc_speech.packed import PackedAudio
from cpc_speech.processes import Processes
from cpc_speech.windows import Window, WindowSampler, load_windows


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
        samples = load_windows(self.audio, windows, self.sampler.window_samples)
        return Minibatch(key[1], windows, torch.from_numpy(samples))


def ahead(
    minibatches: Minibatches, updates: range, number: int, processes: Processes, workers: int
) -> Generator[Minibatch, None, None]:
    """This process's share of ``number`` minibatches an update, for all of ``updates``, in order.

    With no workers they are loaded as they are asked for. A GPU gets them from page-locked memory. Closing the
    generator ends the workers.
    """
    loader = DataLoader(
        minibatches,
        batch_size=None,
        sampler=((update, j) for update in updates for j in processes.share(number)),
        num_workers=workers,
        worker_init_fn=_leave_signals_to_the_trainer,
        multiprocessing_context="fork" if workers else None,  # which shares the index with them
        pin_memory=processes.device.type == "cuda",
    )
    try:
        yield from loader
    except UserError as error:  # out of a worker, it comes with the worker's traceback
        raise UserError(str(error).rsplit("UserError: ", 1)[-1].strip()) from None


def waveform(samples: Tensor, device: torch.device) -> Tensor:
    """int16 samples as float32 in [−1, 1), on ``device``; only the 16 bits travel."""
    return samples.to(device, non_blocking=True).float() / 32768


def _leave_signals_to_the_trainer(worker: int) -> None:
    """ctrl-C, and the SIGTERM of a cluster's scheduler, reach all processes; the trainer finishes its update first, and
    needs its workers for that. They end when it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@atexit.register
def _end_workers() -> None:
    """Kill the workers before multiprocessing sends them the SIGTERM that they ignore, and waits until they end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # DataLoader's handler would complain
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
