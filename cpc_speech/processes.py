"""The processes of a run: one, or as many as ``torchrun`` started, one a GPU or a share of the CPU's cores.

They share out the minibatches of an update and add up their gradients, in one exchange of one flat vector: so the
order of the sum, and with it a resumed run, does not depend on when it was resumed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

# Imported before a group exists: the optimiser imports it later, and its default arguments would then keep the group,
# and gloo's threads, alive beyond destroy_process_group: now and then one aborts the process while Python shuts down.
import torch.distributed.nn
from torch import Tensor

from cpc_speech.errors import UserError

_PR_SET_PDEATHSIG = 1  # of Linux's prctl.h


@dataclass(frozen=True)
class Processes:
    """This process's place among ``count``; rank 0 alone writes files and shows progress."""

    rank: int
    count: int
    device: torch.device

    def share(self, number: int) -> range:
        """This process's part of range(number)."""
        return range(self.rank, number, self.count)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its sum over the processes. All are float32, on this process's device."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
            tensor.copy_(total.view_as(tensor))

    def agree(self, **values: int) -> None:
        """Check that all processes have the same values.

        Raises:
            UserError: they do not, as where machines see different folders.
        """
        if self.count == 1:
            return
        mine = torch.tensor(list(values.values()), dtype=torch.int64, device=self.device)
        every = [torch.empty_like(mine) for _ in range(self.count)]
        dist.all_gather(every, mine)
        for rank, other in enumerate(every):
            for name, here, there in zip(values, mine.tolist(), other.tolist()):
                if here != there:
                    raise UserError(
                        f"process {self.rank} sees {name} {here}, process {rank} sees {there}: --data and --exp must "
                        "lie on a filesystem that all machines share"
                    )

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.count > 1:
            dist.barrier()


DEVICES = ("auto", "cpu", "cuda")


def alone(device: str = "auto") -> Processes:
    """The only process: on the first GPU if there is one (auto), on the CPU (cpu), on a GPU and nothing else (cuda).

    Raises:
        UserError: there is no GPU, and nothing else will do.
    """
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise UserError("--device cuda: no GPU is visible here; ask for one, or take --device cpu")
    return Processes(0, 1, torch.device("cuda" if there and device != "cpu" else "cpu"))


@contextmanager
def join(device: str = "auto") -> Iterator[Processes]:
    """Join the processes that torchrun started with this one, by NCCL on GPUs and gloo on CPUs; or be the only one.

    Args:
        device: as for ``alone``; several processes take the CPU only where that is ``cpu``.

    Raises:
        UserError: more processes were started on this machine than it has GPUs.
    """
    if "LOCAL_RANK" not in os.environ:
        yield alone(device)
        return
    if sys.platform == "linux":  # a launcher that is killed should not leave us behind on its GPUs
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    rank, count, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if on_gpus := device != "cpu" and (count > 1 or torch.cuda.is_available()):
        if local >= (gpus := torch.cuda.device_count()):
            start = f"start {gpus} (--ngpu {gpus})" if gpus else "ask for GPUs, or insist on the CPU: --device cpu"
            raise UserError(f"process {local} of this machine has no GPU: {gpus} are visible here; {start}")
        place = torch.device("cuda", local)
        torch.cuda.set_device(place)
        dist.init_process_group("nccl", device_id=place)
    else:
        place = torch.device("cpu")
        dist.init_process_group("gloo")
    try:
        yield Processes(rank, count, place)
    except BaseException:
        if not on_gpus:  # NCCL's end is collective: a process that failed alone would wait for the others for ever
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()
