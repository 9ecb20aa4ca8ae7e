"""One update of the weights: gradients accumulated, summed over the processes, checked, and taken by Adam."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from cpc_speech.config import Config
from cpc_speech.processes import Processes


class NotFiniteError(Exception):
    """A loss or a gradient is infinite or not a number, in some process; no weight was changed."""


class Schedule(Protocol):
    """The keys of ``Config`` that the learning rate follows; times are in updates."""

    @property
    def updates(self) -> int: ...
    @property
    def warmup_updates(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def final_learning_rate(self) -> float: ...


class Update(NamedTuple):
    """Euclidean norm of the gradient, and whether any process wants to stop after this update."""

    gradient_norm: float
    stop: bool


def adam(model: nn.Module, config: Config) -> torch.optim.Adam:
    """The optimiser of the paper, all parameters in one kernel."""
    return torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)


def update_weights(
    optimizer: torch.optim.Optimizer,
    rate: float,
    losses: Iterable[Tensor],
    minibatches: int,
    processes: Processes,
    stop: bool = False,
) -> Update:
    """Descend the mean loss of ``minibatches`` minibatches.

    Args:
        losses: of this process's share of them; each is asked for only once the one before is done with.
        stop: whether this process was asked to stop; all processes learn of it at the same update.

    Raises:
        NotFiniteError: before any weight is changed, in all processes alike.
    """
    # Filled on the device: a copy from the CPU would wait for the GPU.
    stops = torch.full((), float(stop), device=processes.device)
    total = torch.zeros((), device=processes.device)
    for loss in losses:
        (loss / minibatches).backward()
        total += loss.detach()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    gradients = [parameter.grad for parameter in parameters]
    processes.add_up([*gradients, stops, total])
    norm = nn.utils.get_total_norm(gradients)
    # The one time an update waits for the GPU.
    gradient_norm, wishes, loss_sum = torch.stack((norm, stops, total)).tolist()
    if not (math.isfinite(gradient_norm) and math.isfinite(loss_sum)):
        raise NotFiniteError
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return Update(gradient_norm, wishes > 0)


def learning_rate(config: Schedule, update: int) -> float:
    """Linear warm-up, then a half cosine from ``learning_rate`` to ``final_learning_rate`` at the last update."""
    if update < config.warmup_updates:
        return config.learning_rate * (update + 1) / config.warmup_updates
    done = (update - config.warmup_updates) / max(1, config.updates - config.warmup_updates)
    remaining = (1 + math.cos(math.pi * done)) / 2
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * remaining
