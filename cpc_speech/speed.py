"""How fast a run is, how well it uses the machine, and whether it waits for audio."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

from cpc_speech.config import Config
from cpc_speech.cost import update_operations, update_seconds
from cpc_speech.machine import matrix_rate
from cpc_speech.processes import Processes

T = TypeVar("T")


class Pace(NamedTuple):
    """Since the last measurement.

    speed: seconds of audio heard a second, by all processes together.
    utilisation: share of the rate of this process's device in large matrix products (measured when the run began)
        that the model's operations were done at.
    waiting: share of the time that this process waited for audio; a GPU may have been busy meanwhile.
    """

    speed: float
    utilisation: float
    waiting: float


class Speed:
    """A stopwatch of updates; ``seconds`` counts from its making."""

    def __init__(self, config: Config, processes: Processes) -> None:
        share = len(processes.share(config.minibatches)) / config.minibatches
        self._operations, self._audio = update_operations(config) * share, update_seconds(config)
        self._rate = matrix_rate(processes.device, config.precision)
        self._started = self._measured = time.perf_counter()
        self._updates, self._waited = 0, 0.0

    def timed(self, items: Iterable[T]) -> Iterator[T]:
        """The items, the time until each counted as waiting."""
        iterator = iter(items)
        while True:
            asked = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self._waited += time.perf_counter() - asked
            yield item

    def update(self) -> None:
        """An update is done."""
        self._updates += 1

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    def measure(self) -> Pace:
        """The pace since the last call, or the beginning."""
        now = time.perf_counter()
        elapsed, updates, waited = now - self._measured, self._updates, self._waited
        self._measured, self._updates, self._waited = now, 0, 0.0
        return Pace(
            speed=updates * self._audio / elapsed,
            utilisation=updates * self._operations / elapsed / self._rate,
            waiting=waited / elapsed,
        )
