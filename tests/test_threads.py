"""Threads beside other processes: when they stop spinning, that they are counted, and that it is undone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
from patience import HANG

from cpc_speech import threads

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class StopError(Exception):
    """Ends the watch of a test."""


@pytest.mark.parametrize("without, crowds", [([0, 0.1, 0.2, 0.3], 0), ([0, 1.8, 1.8, 1.8], 1), ([0, 0.2, 1.1, 2], 2)])
def test_crowded_is_who_waits_for_cores(without: list[float], crowds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds without a core, at each look; looks are two seconds apart, calm lasts longer."""
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        now[0] += seconds
        slept.append(seconds)

    def figures() -> float:
        looks = [seconds for seconds in slept if seconds < 10]
        if len(looks) >= len(without):
            raise StopError
        return without[len(looks)]

    monkeypatch.setattr(threads.time, "sleep", sleep)
    monkeypatch.setattr(threads.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(threads, "seconds_without_core", figures)
    with pytest.raises(StopError):
        threads._watch()
    assert sum(seconds > 10 for seconds in slept) == crowds


def test_a_crowd_is_one_thread_that_goes_again() -> None:
    before = threading.active_count()
    with threads.crowd():
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


WATCHED = """
import threading, torch
from cpc_speech import threads
torch.set_num_threads({threads})
threads.share_cores(); threads.share_cores()
print([thread.name for thread in threading.enumerate()].count("share_cores"))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="Linux's figures")
@pytest.mark.parametrize(
    "number, told, watched",
    [(2, {}, 1), (1, {}, 0), (2, {"OMP_WAIT_POLICY": "ACTIVE"}, 0), (2, {"GOMP_SPINCOUNT": "9"}, 0)],
)
def test_it_watches_once_and_not_where_the_user_has_said_how_threads_wait(
    number: int, told: dict[str, str], watched: int
) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED.format(threads=number)], cwd=ROOT, env=environment | told, capture_output=True,
        text=True, timeout=HANG,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(watched)]
