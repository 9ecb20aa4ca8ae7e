"""torch's threads beside other processes: they share the cores instead of spinning on them.

The threads of a parallel operation wait for each other by spinning, for a millisecond or more, before they sleep. That
is fastest where each has a core of its own: with threads that sleep at once (OMP_WAIT_POLICY=PASSIVE) an update on two
cores took 1.2 to 1.4 times as long. Beside another process it is ruinous: a thread spins for a whole time slice while
the one that it waits for has no core, and two trainings on two cores took 3 to 4.5 times as long as one alone.

So ``share_cores`` watches how long this process's threads are ready to run and have no core. Where that is a fair share
of the time, it has them sleep soon for a while. GNU's OpenMP does so by itself while a process has more threads in its
pools than there are cores ("GOMP_SPINCOUNT" in its manual): one pool more, of a thread that only waits, is enough. The
number of threads that an operation is divided among, and with it every bit of the results, stays the same.
"""

from __future__ import annotations

import glob
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

_LOOK = 2.0  # seconds between two looks
_CROWDED = 0.4  # seconds without a core, by all threads together, in a second; alone it is 0.03, beside others 0.65
_CALM = 30.0  # seconds until spinning is tried again
_watching = threading.Lock()


def share_cores() -> None:
    """Watch for other processes from now on, once a process; nothing is done with one thread, without Linux's figures,
    or where the user has said how threads wait (OMP_WAIT_POLICY or GOMP_SPINCOUNT)."""
    told = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys()
    if torch.get_num_threads() > 1 and not told and seconds_without_core() > 0 and _watching.acquire(blocking=False):
        threading.Thread(target=_watch, name="share_cores", daemon=True).start()


def seconds_without_core() -> float:
    """How long this process's threads have been ready to run without a core, since they began; 0 if nobody counts."""
    total = 0
    for path in glob.glob("/proc/self/task/*/schedstat"):
        with suppress(OSError, ValueError, IndexError), open(path) as file:  # a thread that has ended meanwhile
            total += int(file.read().split()[1])  # nanoseconds
    return total / 1e9


def _watch() -> None:
    while True:
        before, began = seconds_without_core(), time.monotonic()
        time.sleep(_LOOK)
        if seconds_without_core() - before > _CROWDED * (time.monotonic() - began):
            with crowd():
                time.sleep(_CALM)


@contextmanager
def crowd() -> Iterator[None]:
    """In this context OpenMP counts one pool of threads more than there is work for, and no thread spins for long."""
    ready, leave = threading.Event(), threading.Event()

    def wait() -> None:
        torch.zeros(1 << 20).add_(1)  # large enough to be divided among threads: makes the pool
        ready.set()
        leave.wait()

    thread = threading.Thread(target=wait, name="crowd", daemon=True)
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        leave.set()
        thread.join()  # OpenMP ends a thread's pool with it
