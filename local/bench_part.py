"""One part of the benchmark, measured in this process: python local/bench_part.py PART FOLDER prints numbers as JSON.

FOLDER is what local/bench.py makes: packed corpora ``1`` and ``10``, and ``flac``. The reference is ``PlainCPC`` of
tests/oracles.py: nn.Conv1d in fp32, negatives gathered as vectors for every frame, one product a step.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import oracles  # of tests/, which bench.py puts on the path
import soundfile
import torch
from bench import CONFIG, CPU, LONG_MINUTES

from cpc_speech import machine
from cpc_speech.checkpoint import build_model, save, settle_config
from cpc_speech.config import Config
from cpc_speech.errors import UserError, run
from cpc_speech.extract import main as extract_main
from cpc_speech.objective import cpc_loss, window_sampler
from cpc_speech.optimise import adam, update_weights
from cpc_speech.packed import PackedAudio
from cpc_speech.processes import alone
from cpc_speech.provenance import ROOT
from cpc_speech.windows import load_windows

NEGATIVES = 128  # that the reference draws for each frame
UPDATES, REFERENCE_UPDATES = 12, 3  # timed in one process
GROWTH_UPDATES = 200  # while memory is watched


def main() -> None:
    print(json.dumps(MEASURE[sys.argv[1]](Path(sys.argv[2]))))


def measure_update(work: Path) -> dict[str, float]:
    before = resident_mb("VmRSS")
    machine.set_up(CONFIG.precision)
    model = build_model(CONFIG)
    optimizer, processes, waveform = adam(model, CONFIG), alone(), noise_windows()

    def update() -> None:
        losses = (cpc_loss(model, waveform, CONFIG, 0).loss.mean() for _ in range(1))
        update_weights(optimizer, 2e-4, losses, 1, processes)

    updates = int(os.environ.get("BENCH_UPDATES", UPDATES))
    return {"seconds": median_seconds(update, updates), **peak(before)}


def measure_reference(work: Path) -> dict[str, float]:
    before = resident_mb("VmRSS")
    model = oracles.PlainCPC(CONFIG.channels, CONFIG.context_dim, CONFIG.steps)
    optimizer, waveform = torch.optim.Adam(model.parameters(), lr=2e-4), noise_windows()

    def update() -> None:
        optimizer.zero_grad()
        model(waveform, NEGATIVES).backward()
        optimizer.step()

    return {"seconds": median_seconds(update, REFERENCE_UPDATES), **peak(before)}


def measure_encoder(work: Path) -> dict[str, float]:
    """Both in one process and in turn, with the same settings of the machine."""
    machine.set_up(CONFIG.precision)
    waveform = noise_windows()
    encoders = {"seconds": build_model(CONFIG).encoder, "plain_seconds": oracles.PlainEncoder(CONFIG.channels)}
    times: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(UPDATES):
        for name, encoder in encoders.items():
            times[name].append(seconds(lambda encoder=encoder: forward_backward(encoder, waveform)))
    return {name: statistics.median(values[2:]) for name, values in times.items()}


def measure_breakdown(work: Path) -> dict[str, float]:
    """Where an update's time goes, each part alone, forward and backward."""
    machine.set_up(CONFIG.precision)
    model = build_model(CONFIG)
    waveform = noise_windows()
    with torch.no_grad(), machine.autocast(CONFIG.precision, CPU):
        z, c = model(waveform)
    z, c = z.requires_grad_(), c.requires_grad_()

    class Given:
        """The model with its encoder and context's outputs at hand: what is left is predictors and scores."""

        predictors = model.predictors

        def __call__(self, waveform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return z, c

    given: Any = Given()
    optimizer = adam(model, CONFIG)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    source = torch.ones(1 << 26)  # 256 MiB, larger than the caches
    target = torch.empty_like(source)
    return {
        "encoder": median_seconds(lambda: forward_backward(model.encoder, waveform), UPDATES),
        "context": median_seconds(lambda: forward_backward(lambda x: model.context(x)[0], z), UPDATES),
        "scores": median_seconds(lambda: cpc_loss(given, waveform, CONFIG, 0).loss.mean().backward(), UPDATES),
        "optimiser": median_seconds(optimizer.step, UPDATES),
        "saved_mb_per_window": saved_mb_per_window(CONFIG),
        "matrix_rate": machine.matrix_rate(CPU, machine.resolve(CONFIG.precision, CPU), seconds=2),
        "copy_rate": 2 * 4 * len(source) / median_seconds(lambda: target.copy_(source), UPDATES),
    }


def saved_mb_per_window(config: Config) -> float:
    """What the forward pass of a minibatch keeps for the backward pass, its weights apart, by the window."""
    model, sizes = build_model(config), {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = cpc_loss(model, noise_windows(), config, 0)  # held, so that no storage is given out twice
    del result
    return sum(sizes.values()) / 1e6 / config.windows


def measure_windows(work: Path) -> dict[str, float]:
    """Minibatches drawn and read from the page cache, on one core."""
    os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
    audio = PackedAudio(work / "10")
    sampler = window_sampler(CONFIG, audio, 0)

    def read(first: int, number: int = 500) -> None:
        for update in range(first, first + number):
            load_windows(audio, sampler.minibatch(update, 0), CONFIG.window_samples)

    read(0)
    return {
        "per_second": 500 * CONFIG.windows / statistics.median(seconds(lambda i=i: read(500 * i)) for i in range(5))
    }


def measure_growth(work: Path) -> dict[str, float]:
    """Largest anonymous memory of trainer and workers, over as many windows of a corpus and of ten times it."""
    largest = {name: training_memory_mb(work / name) for name in ("1", "10")}
    return {"small_mb": largest["1"], "growth_mb": largest["10"] - largest["1"]}


def training_memory_mb(data: Path) -> float:
    settings = {
        "channels": 16, "context_dim": 16, "minibatches": 1, "updates": GROWTH_UPDATES, "dev_minibatches": 1,
        "dev_every": GROWTH_UPDATES, "checkpoint_every": GROWTH_UPDATES, "pretrain_on": "all",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as exp:
        trainer = subprocess.Popen(
            [sys.executable, "-m", "cpc_speech.train", "--workers", "2", "--data", data, "--exp", exp,
             *(f"{key}={value}" for key, value in settings.items())], cwd=ROOT, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        largest = 0.0
        while trainer.poll() is None:
            workers = children(trainer.pid)
            if len(workers) == 2:  # a third one is git, asked for the commit: for a moment a copy of the trainer
                largest = max(largest, sum(resident_mb("RssAnon", pid) for pid in (trainer.pid, *workers)))
            time.sleep(0.02)
        if trainer.returncode:
            raise UserError(f"bench: the trainer failed: {trainer.communicate()[1]}")
    return largest


def measure_extract(work: Path) -> dict[str, float]:
    """Files to an archive of c_t, decoding and writing included, by ``cpc-speech extract``; and by a plain loop that
    decodes them one by one, represents them in fp32, and keeps the frames in memory."""
    files = sorted((work / "flac").iterdir())
    exp = untrained_experiment(work)
    plain = oracles.PlainCPC(CONFIG.channels, CONFIG.context_dim, CONFIG.steps)

    @torch.no_grad()
    def loop() -> None:
        collected = []
        for file in files[::4]:
            waveform, _ = soundfile.read(file, dtype="float32")
            z = plain.encoder(torch.from_numpy(waveform[: len(waveform) // 160 * 160])[None])
            collected.append(plain.gru(z)[0][0].numpy())

    def extract() -> None:
        with tempfile.TemporaryDirectory() as out, open(os.devnull, "w") as quiet, contextlib.redirect_stderr(quiet):
            extract_main([str(exp), str(work / "flac"), out, "--precision", CONFIG.precision])

    duration = [soundfile.info(str(file)).duration for file in files]
    plain_seconds = median_seconds(loop, 2)
    return {
        "realtime": sum(duration) / median_seconds(extract, 3),
        "plain_realtime": sum(duration[::4]) / plain_seconds,
    }


def measure_long(work: Path) -> dict[str, float]:
    """Peak memory of extracting a file of one minute, and of one of LONG_MINUTES."""
    exp, peak = untrained_experiment(work), []
    noise = 0.1 * np.random.default_rng(0).standard_normal(60 * 16000)
    for minutes in (1, LONG_MINUTES):
        file = work / f"{minutes}.flac"
        with soundfile.SoundFile(file, "w", 16000, 1) as sound:
            for _ in range(minutes):
                sound.write(noise)
        with tempfile.TemporaryDirectory() as out:
            command = [sys.executable, "-m", "cpc_speech", "extract", str(exp), str(file), out]
            subprocess.run(command, cwd=ROOT, stderr=subprocess.DEVNULL, check=True)
        peak.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)  # the largest so far
    return {"minute_mb": peak[0], "growth_mb": peak[1] - peak[0]}


def untrained_experiment(work: Path) -> Path:
    exp = work / "exp"
    settle_config(exp, CONFIG)
    save(exp, {"update": 0, "model": build_model(CONFIG).state_dict()}, keep=1)
    return exp


MEASURE: dict[str, Callable[[Path], dict[str, float]]] = {
    "update": measure_update,
    "reference": measure_reference,
    "encoder": measure_encoder,
    "breakdown": measure_breakdown,
    "windows": measure_windows,
    "growth": measure_growth,
    "extract": measure_extract,
    "long": measure_long,
}


def noise_windows() -> torch.Tensor:
    return 0.1 * torch.randn(CONFIG.windows, CONFIG.window_samples)


def forward_backward(module: Callable, x: torch.Tensor) -> None:
    with machine.autocast(CONFIG.precision, CPU):
        y = module(x)
    y.backward(torch.ones_like(y))


def seconds(call: Callable) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def median_seconds(call: Callable, times: int) -> float:
    """The first call is left out: it allocates and chooses kernels."""
    call()
    return statistics.median(seconds(call) for _ in range(times))


def peak(before: float) -> dict[str, float]:
    total = resident_mb("VmHWM")
    return {"total_mb": total, "own_mb": total - before}


def resident_mb(field: str, pid: int | str = "self") -> float:
    """A field of /proc/<pid>/status, or 0 where the process has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(field + ":")), 0.0)


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


if __name__ == "__main__":
    run(main)
