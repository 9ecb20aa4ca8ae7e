"""Processes that share out a long computation in chunks."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from typing import Any

from cpc_speech import environment
from cpc_speech.errors import UserError

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Workers:
    """One process an executor; tasks of one number always go to the same process, which may keep things for them."""

    def __init__(self, executors: list[ProcessPoolExecutor]) -> None:
        self._executors = executors

    def map(
        self, task: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], numbers: Sequence[int] | None = None
    ) -> Iterator[Any]:
        """Yield the results in the tasks' order; unless ``numbers`` says otherwise, that order numbers them.

        Raises:
            UserError: a process died.
        """
        waiting: list[Future[Any]] = []
        count = len(self._executors)
        try:
            for number, given in zip(numbers or range(len(arguments)), arguments):
                waiting.append(self._executors[number % count].submit(task, *given))
                if len(waiting) > 3 * count:  # a few at a time, as arguments and results may be large
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        except BrokenProcessPool as error:
            raise UserError("an alignment process died (out of memory?); the same command goes on from here") from error


@contextmanager
def start_workers(count: int, initializer: Callable[..., None], *arguments: Any) -> Iterator[Workers]:
    """Start processes of one core each, which call ``initializer(*arguments)`` first."""
    with environment.restored(THREADS), ExitStack() as stack:
        os.environ.update(dict.fromkeys(THREADS, "1"))  # inherited, and read when their numerical libraries are loaded
        executors = []
        for _ in range(count):
            executor = ProcessPoolExecutor(
                1, get_context("spawn"), initializer=_start, initargs=(initializer, *arguments)
            )
            executors.append(executor)
            stack.callback(executor.shutdown, cancel_futures=True)
        yield Workers(executors)


def _start(initializer: Callable[..., None], *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ctrl-C ends it silently; the parent reports
    initializer(*arguments)
