"""Small training runs: their settings, what they leave, and processes of their own that can be stopped and killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from patience import HANG

from cpc_speech.checkpoint import load_latest
from cpc_speech.config import Config
from cpc_speech.processes import Processes, join
from cpc_speech.windows import WindowSampler

ROOT = Path(__file__).resolve().parents[1]
SMALL: dict[str, Any] = {
    "channels": 16, "context_dim": 8, "steps": 3, "window_samples": 3200, "windows": 4, "updates": 10, "minibatches": 2,
    "log_every": 3, "dev_every": 4, "dev_minibatches": 2, "checkpoint_every": 5, "final_learning_rate": 1e-5, "seed": 7,
    "warmup_updates": 2,
}  # fmt: skip
OF_THE_MOMENT = ("speed", "utilisation", "waiting")


def arguments(data: Path, exp: Path, *options: str, **settings: Any) -> list[str]:
    """The command line of a run with SMALL's settings and these; audio is loaded in the trainer by default."""
    values = [f"{key}={value}" for key, value in (SMALL | settings).items()]
    return ["--data", str(data), "--exp", str(exp), *(options or ("--workers", "0")), *values]


def metrics_lines(exp: Path) -> list[dict]:
    """metrics.jsonl without what is a matter of the moment."""
    lines = [json.loads(line) for line in (exp / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in OF_THE_MOMENT} for line in lines]


def latest(exp: Path) -> dict[str, Any]:
    state = load_latest(exp)
    assert state is not None
    return state


def checkpoints(exp: Path) -> list[str]:
    """Names of all files beside the best checkpoint."""
    return sorted(path.name for path in (exp / "checkpoints").iterdir() if path.name != "best.pt")


def assert_equal_states(a: Any, b: Any) -> None:
    """Bit for bit, but for the seconds that it took."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            if key != "seconds":
                assert_equal_states(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal_states(x, y)
    else:
        assert a == b


def assert_equal_runs(a: Path, b: Path) -> None:
    """Weights, optimiser, best weights and curves, bit for bit."""
    assert_equal_states(latest(a), latest(b))
    best = [torch.load(exp / "checkpoints" / "best.pt", weights_only=True) for exp in (a, b)]
    assert_equal_states(*best)
    assert metrics_lines(a) == metrics_lines(b)
    assert (a / "train.json").exists() and (b / "train.json").exists()


_TRAINER = """
import os, signal, sys, time
from pathlib import Path
from cpc_speech import train as module
from cpc_speech.errors import run
rank = int(os.environ.get("RANK", 0))
{first}
real = module.cpc_loss
def stand_still():
    print("stands still", flush=True)
    time.sleep(1000)
def loss(model, waveform, config, seed, *draw):
    if seed == config.seed:  # a minibatch of training, not of dev
        hook(model, *draw)
    return real(model, waveform, config, seed, *draw)
def hook(model, update, minibatch):
    print("minibatch", update, minibatch, flush=True)
{hook}
module.cpc_loss = loss
run(module.main)
"""


def meeting_place(count: int) -> dict[str, str]:
    """Environment of ``count`` processes that meet at a port that is free now.

    The first of them serves it. This process must not: its server's thread may hold a lock while a test forks, and
    the child would wait for that lock for ever.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


class Trainers:
    """Processes that train together, started as torchrun does, each with its own output in ``folder``.

    Args:
        hook: Python that each runs before each minibatch; knows ``model``, ``update`` (counted
            from 0), ``minibatch`` and ``rank``.
        first: Python that each runs first; knows ``rank``.
    """

    def __init__(self, folder: Path, argv: list[str], count: int = 1, hook: str = "pass", first: str = "") -> None:
        code = _TRAINER.format(first=first, hook="".join(f"    {line}\n" for line in hook.splitlines()))
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        if count > 1:
            environment |= meeting_place(count)
            argv = [*argv, "--device", "cpu"]
        self.outputs = [folder / f"output-{time.monotonic_ns()}-{rank}" for rank in range(count)]
        self.processes = []
        for rank, output in enumerate(self.outputs):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if count > 1 else {}
            with open(output, "w") as file:
                process = subprocess.Popen(
                    [sys.executable, "-c", code, *argv], cwd=ROOT, env=environment | place,
                    stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
            self.processes.append(process)

    def output(self, rank: int = 0) -> str:
        return self.outputs[rank].read_text()

    def minibatches(self, rank: int = 0) -> list[tuple[int, int]]:
        """(update, minibatch) that this process has begun."""
        return [(int(update), int(j)) for update, j in re.findall(r"minibatch (\d+) (\d+)\n", self.output(rank))]

    def finish(self, timeout: float = HANG) -> list[int]:
        """Exit statuses, once all have ended by themselves."""
        try:
            return [process.wait(timeout) for process in self.processes]
        finally:
            self.kill()

    def kill_when_still(self, timeout: float = HANG) -> None:
        """SIGKILL all, with their workers, once the hook has each stand still."""
        end = time.monotonic() + timeout
        try:
            while not all("stands still" in self.output(rank) for rank in range(len(self.processes))):
                assert all(process.poll() is None for process in self.processes), self.all_output()
                assert time.monotonic() < end, self.all_output()
                time.sleep(0.01)
        finally:
            self.kill()
        assert [process.returncode for process in self.processes] == [-signal.SIGKILL] * len(self.processes)

    def kill(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def all_output(self) -> str:
        return "".join(f"--- process {rank}\n{self.output(rank)}" for rank in range(len(self.processes)))


def train_apart(folder: Path, argv: list[str], count: int = 1, hook: str = "pass") -> Trainers:
    """Run ``count`` processes to the end; all must succeed."""
    trainers = Trainers(folder, argv, count, hook)
    assert trainers.finish() == [0] * count, trainers.all_output()
    return trainers


def packed_samples(data: Path) -> dict[str, np.ndarray]:
    """Every utterance of a data directory of one shard, in id order, read as the contract of its files says."""
    everything = np.fromfile(data / "audio.000.i16", "<i2")
    starts, lengths = (
        dict(line.split() for line in (data / name).read_text().splitlines())
        for name in ("audio.scp", "utt2num_samples")
    )
    first = {utterance: int(place.rpartition(":")[2]) for utterance, place in starts.items()}
    return {utterance: everything[first[utterance] :][: int(lengths[utterance])] for utterance in sorted(first)}


def windows_heard(data: Path, config: Config, update: int, minibatch: int) -> list[tuple[str, int, np.ndarray]]:
    """Utterance, first sample and samples of each window of a minibatch that is drawn from the train split."""
    ids = (data / "splits" / "train.list").read_text().split()
    everything = packed_samples(data)
    lengths, speakers = np.array([len(everything[key]) for key in ids]), [key.split("-")[0] for key in ids]
    same_speaker = config.batch_composition == "same_speaker"
    sampler = WindowSampler(lengths, speakers, config.window_samples, config.windows, same_speaker, config.seed)
    drawn = [(ids[window.utterance], window.start) for window in sampler.minibatch(update, minibatch)]
    return [(key, start, everything[key][start : start + config.window_samples]) for key, start in drawn]


def in_processes(count: int, function: Callable[[Processes], Any]) -> list[Any]:
    """What ``function`` returns in each of ``count`` processes joined by gloo, or the exception that it raises.

    They are forks of this one, which spares them the imports.
    """
    place = meeting_place(count)

    def child(rank: int, answer: Connection) -> None:
        os.environ |= place | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        torch.cuda.device_count = lambda: 0
        try:
            with join("cpu") as processes:
                answer.send(function(processes))
        except Exception as error:
            answer.send(error)

    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(count)]
    children = [context.Process(target=child, args=(rank, pipe[1])) for rank, pipe in enumerate(pipes)]
    for process in children:
        process.start()
    try:
        answers = [receiver.recv() if receiver.poll(60) else TimeoutError("no answer in 60 s") for receiver, _ in pipes]
        for process in children:
            process.join(60)
    finally:
        for process in children:
            process.kill()
    return answers
