"""--profile: what its trace holds, and that it changes nothing."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import torch
from runs import arguments, assert_equal_runs

from cpc_speech import train as module
from cpc_speech.processes import Processes
from cpc_speech.profiling import trace


def events(path: Path) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return json.load(file)["traceEvents"]


def test_profile_of_a_run(data: Path, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    module.main(arguments(data, exp, "--workers", "0", "--profile"))
    found = events(exp / "profile" / "0.json.gz")
    steps = [event for event in found if event["name"].startswith("ProfilerStep#") and event.get("ph") == "X"]
    assert sorted(event["name"] for event in steps) == [f"ProfilerStep#{update}" for update in range(4, 9)]
    begin, end = min(e["ts"] for e in steps), max(e["ts"] + e["dur"] for e in steps)
    taken = [event for event in found if event["name"] == "Optimizer.step#Adam.step" and event.get("ph") == "X"]
    assert len(taken) == 5 and all(begin <= event["ts"] <= end for event in taken)

    rows = (exp / "profile" / "0.txt").read_text().splitlines()
    calls = {row.split()[0]: int(row.split()[-1]) for row in rows if row.split()[-1:] and row.split()[-1].isdigit()}
    assert calls["ProfilerStep*"] == 5
    assert calls["aten::gru"] >= 5 * 2  # of 2 minibatches an update; dev, where it falls due, is in it

    module.main(arguments(data, tmp_path / "without"))
    assert_equal_runs(exp, tmp_path / "without")


def test_each_process_leaves_its_own(tmp_path: Path) -> None:
    """Operations of updates 5 to 9, counted from 1, and of no others."""
    with trace(tmp_path / "profile", Processes(1, 2, torch.device("cpu"))) as profiler:
        for update in range(1, 13):
            with torch.profiler.record_function(f"work of {update}"):
                torch.ones(3, 3) @ torch.ones(3, 3)
            profiler.step()
    assert sorted(path.name for path in (tmp_path / "profile").iterdir()) == ["1.json.gz", "1.txt"]
    names = {event["name"] for event in events(tmp_path / "profile" / "1.json.gz")}
    assert {name for name in names if name.startswith("work of")} == {f"work of {update}" for update in range(5, 10)}
