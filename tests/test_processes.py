"""Processes joined by gloo: what they share out, add up and agree on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from patience import HANG
from runs import ROOT, Trainers, arguments, in_processes

from cpc_speech.errors import UserError
from cpc_speech.processes import Processes, alone, join

CPU = torch.device("cpu")


@pytest.mark.parametrize("number, count", [(1, 1), (8, 1), (8, 2), (8, 8), (4, 3), (7, 4)])
def test_shares_are_disjoint_complete_and_even(number: int, count: int) -> None:
    shares = [list(Processes(rank, count, CPU).share(number)) for rank in range(count)]
    assert sorted(j for share in shares for j in share) == list(range(number))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert all(share == sorted(share) for share in shares)


def test_one_process_needs_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is initialised, exchanged, or waited for."""
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with join() as processes:
        assert processes == alone() and (processes.rank, processes.count) == (0, 1)
        assert not torch.distributed.is_initialized()
        tensor = torch.tensor([1.0, 2.0], device=processes.device)
        processes.add_up([tensor])
        processes.agree(anything=3)
        processes.wait()
        assert tensor.tolist() == [1, 2]


def test_sums_over_three_processes() -> None:
    def add(processes: Processes) -> list:
        value = 10.0**processes.rank  # sums are exact, and show who was added
        transposed = torch.full((3, 2), 3 * value).t()  # not contiguous, as a gradient may be
        tensors = [torch.full((2, 3), value), torch.tensor(2 * value), torch.empty(0), transposed]
        tensors[0][1, 2] = 0
        processes.add_up(tensors)
        return [(processes.rank, processes.count), *(tensor.tolist() for tensor in tensors)]

    answers = in_processes(3, add)
    summed = [[[111.0] * 3, [111.0, 111.0, 0.0]], 222.0, [], [[333.0] * 3] * 2]
    assert answers == [[(rank, 3), *summed] for rank in range(3)]


def test_processes_agree_or_say_who_differs() -> None:
    def check(processes: Processes) -> None:
        processes.agree(updates=5, samples=1 << 40)  # more than 32 bits hold
        processes.agree(updates=5, samples=(1 << 40) + (processes.rank == 2))

    answers = in_processes(3, check)
    assert all(isinstance(answer, UserError) for answer in answers), answers
    assert str(answers[0]).startswith("process 0 sees samples 1099511627776, process 2 sees 1099511627777: ")
    assert str(answers[2]).startswith("process 2 sees samples 1099511627777, process 0 sees 1099511627776: ")
    assert all("--data and --exp must lie on a filesystem that all machines share" in str(answer) for answer in answers)


def test_processes_that_see_different_data_do_not_train(data: Path, tmp_path: Path) -> None:
    """As where a machine of a cluster holds an older copy: its train split lacks an utterance."""
    older = tmp_path / "older"
    older.mkdir()
    for path in data.iterdir():
        (older / path.name).symlink_to(path)
    (older / "splits").unlink()
    (older / "splits").mkdir()
    for path in (data / "splits").iterdir():
        lines = path.read_text().splitlines(keepends=True)
        (older / "splits" / path.name).write_text("".join(lines[1:] if path.name == "train.list" else lines))
    exp = tmp_path / "exp"
    swap = f"if rank == 1: sys.argv[sys.argv.index({str(data)!r})] = {str(older)!r}"
    pair = Trainers(tmp_path, arguments(data, exp), 2, first=swap)
    assert pair.finish() == [1, 1], pair.all_output()
    for rank in range(2):
        assert f"error: process {rank} sees utterances {18 - rank}, process {1 - rank} sees" in pair.output(rank)
        assert pair.minibatches(rank) == []
    assert not (exp / "metrics.jsonl").exists()


def test_all_wait_for_the_last(tmp_path: Path) -> None:
    def arrive(processes: Processes) -> int:
        if processes.rank == 1:
            time.sleep(0.3)  # long enough for the other to be there first
            (tmp_path / "before").touch()
        processes.wait()
        return (tmp_path / "before").exists()

    assert in_processes(2, arrive) == [True, True]


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"1 are visible here; start 1 \(--ngpu 1\)"), join():
        pass


def test_several_processes_without_gpus_need_to_insist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a node whose GPUs were forgotten, eight trainings would take the CPU for days."""
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match="no GPU.*--device cpu"), join():
        pass


def test_one_process_takes_the_gpu_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, asked, device in [(True, "auto", "cuda"), (True, "cpu", "cpu"), (False, "auto", "cpu")]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert alone(asked).device.type == device
    with pytest.raises(UserError, match="no GPU"):
        alone("cuda")


def test_no_thread_of_gloo_outlives_the_run(data: Path, tmp_path: Path) -> None:
    """One that did would now and then abort the process while Python shuts down, after all is done well: torch's
    modules keep the group alive where they are imported, by the optimiser, while it exists."""
    code = """
import os, sys
from pathlib import Path
from cpc_speech import train
def gloo():
    return sum("gloo" in (task / "comm").read_text() for task in Path("/proc/self/task").iterdir())
real, during = train.cpc_loss, []
def loss(*rest):
    during.append(gloo())
    return real(*rest)
train.cpc_loss = loss
train.main(sys.argv[1:])
print(min(during), gloo())
"""
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments(data, tmp_path / "exp", updates=2)], cwd=ROOT, capture_output=True,
        text=True, timeout=HANG, env=os.environ | place | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    while_training, afterwards = map(int, done.stdout.split()[-2:])
    assert while_training > 0 and afterwards == 0
