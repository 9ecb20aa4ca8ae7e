"""What runs on a GPU beside the same on the CPU: make test-gpu, where there is one. Elsewhere all of it is skipped."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from patience import HANG
from runs import ROOT, SMALL, arguments, latest, metrics_lines
from torch import Tensor

import cpc_speech
from cpc_speech import information, probe, recogniser, steps_ahead, supervised
from cpc_speech import train as module
from cpc_speech.checkpoint import build_model
from cpc_speech.config import Config
from cpc_speech.extract import main as extract
from cpc_speech.kaldi import read_float_matrices
from cpc_speech.loader import Minibatches, ahead, waveform
from cpc_speech.machine import set_up
from cpc_speech.objective import cpc_loss
from cpc_speech.packed import PackedAudio
from cpc_speech.processes import Processes
from cpc_speech.representations import CPCFrames
from cpc_speech.windows import WindowSampler

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU, or hidden: make test-gpu")
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
# By the largest value. fp32 rounds to 6e-8; sums of thousands go in other orders here and there, through 128 steps of a
# recurrence and softmaxes of exponentials. What is wrong is off by far more.
ROUNDING = 1e-3


def assert_close(there: Tensor, here: Tensor, rounding: float = ROUNDING) -> None:
    assert (there.detach().cpu() - here.detach()).abs().max() <= rounding * here.detach().abs().max()


def noise(windows: int, samples: int) -> Tensor:
    return (2000 * torch.randn(windows, samples, generator=torch.Generator().manual_seed(0))).to(torch.int16)


@pytest.mark.parametrize("candidates", ["minibatch", "other_windows", "current_window"])
@pytest.mark.parametrize("negatives", ["all", 6])
@pytest.mark.parametrize("recurrence, layers", [("gru", 1), ("lstm", 2)])
def test_loss_and_gradient(candidates: str, negatives: int | str, recurrence: str, layers: int) -> None:
    config = Config(
        channels=64, context_dim=32, steps=3, windows=4, precision="fp32", candidates=candidates, negatives=negatives,
        recurrence=recurrence, context_layers=layers,
    )  # fmt: skip
    set_up("fp32")
    found: list[tuple[Any, dict[str, Tensor]]] = []
    for device in (GPU, CPU):
        model = build_model(config).to(device)
        result = cpc_loss(model, waveform(noise(4, 20480), device), config, 1, 2, 3)
        result.loss.mean().backward()
        found.append((result, {name: weight.grad for name, weight in model.named_parameters()}))  # type: ignore[misc]
    (there, of_there), (here, of_here) = found
    assert there.loss.device == GPU
    assert_close(there.loss, here.loss)
    # A prediction whose two best scores are equal but for rounding may go either way: a few of 508 or less.
    assert (there.accuracy.cpu() - here.accuracy).abs().max() <= 3 / 500
    for name, gradient in of_here.items():
        assert_close(of_there[name], gradient)


def test_bf16_is_near_fp32() -> None:
    """bf16 keeps 8 bits: factors are off by 0.2 % at most, and the loss, which is near log 512, by less than 1 %."""
    losses = {}
    for precision in ("bf16", "fp32"):
        config = Config(channels=64, context_dim=32, steps=3, windows=4, precision=precision)
        set_up(precision)
        model = build_model(config).to(GPU)
        result = cpc_loss(model, waveform(noise(4, 20480), GPU), config, 0)
        result.loss.mean().backward()
        assert result.loss.dtype == torch.float32
        assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.grad is not None)
        losses[precision] = result.loss.detach()
    assert_close(losses["bf16"], losses["fp32"].cpu(), 0.01)
    assert not torch.equal(losses["bf16"], losses["fp32"])


@pytest.mark.parametrize("workers", [0, 2])
def test_audio_arrives_whole(data: Path, workers: int) -> None:
    """Through page-locked memory and copies that nobody waits for, many of them under way at once."""
    audio = PackedAudio(data)
    minibatches = Minibatches(audio, WindowSampler(audio.num_samples, audio.speaker_index, 3200, 4, False, 0))
    loaded = ahead(minibatches, range(50), 2, Processes(0, 1, GPU), workers)
    there = [(minibatch.number, waveform(minibatch.samples, GPU)) for minibatch in loaded]
    for place, (number, heard) in enumerate(there):
        assert number == place % 2
        assert torch.equal(heard.cpu(), minibatches[place // 2, number].samples.float() / 32768)


def test_training_on_a_gpu_goes_on_on_the_cpu(data: Path, tmp_path: Path) -> None:
    """Ten updates in fp32: on the GPU, on the CPU, and six on the GPU with four on the CPU after them."""
    config = Config(**SMALL | {"precision": "fp32", "log_every": 1, "checkpoint_every": 3, "keep_checkpoints": 9})
    begun, run = {"there": GPU, "here": CPU, "both": GPU}, functools.partial(module.train, config, data)
    for name, device in begun.items():
        run(tmp_path / name, Processes(0, 1, device), workers=1)
    both = tmp_path / "both"
    (both / "train.json").unlink()  # so that the run is not done
    for path in both.glob("checkpoints/update-*.pt"):
        if path.name > "update-00000006.pt":
            path.unlink()
    assert latest(both)["update"] == 6
    run(both, Processes(0, 1, CPU))

    curves = {name: [line["loss"] for line in metrics_lines(tmp_path / name)] for name in begun}
    assert len(curves["here"]) == 13  # 10 of train, 3 of dev
    weights = {name: flat(latest(tmp_path / name)["model"]) for name in begun}
    way = (weights["here"] - flat(build_model(config).state_dict())).norm()
    assert way > 0
    for name in ("there", "both"):
        assert curves[name] == pytest.approx(curves["here"], rel=ROUNDING)
        # Adam divides by the gradient's size: where that is hardly more than rounding, weights go other ways.
        assert (weights[name] - weights["here"]).norm() < 0.01 * way


def flat(weights: dict[str, Tensor]) -> Tensor:
    return torch.cat([weight.flatten() for weight in weights.values()])


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two GPUs")
def test_two_gpus_train_the_model_that_one_trains(data: Path, tmp_path: Path) -> None:
    settings = {"precision": "fp32", "log_every": 1}
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    for name, count in (("one", "1"), ("two", "2")):
        done = subprocess.run(
            [*start, count, "-m", "cpc_speech.train", *arguments(data, tmp_path / name, "--workers", "1", **settings)],
            cwd=ROOT, capture_output=True, text=True, timeout=HANG, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    one, two = ([line["loss"] for line in metrics_lines(tmp_path / name)] for name in ("one", "two"))
    assert len(one) == 13 and two == pytest.approx(one, rel=ROUNDING)
    assert json.loads((tmp_path / "two" / "train.json").read_text())["processes"] == 2


@pytest.mark.parametrize("recurrence", ["gru", "lstm"])
def test_frames_and_steps_ahead(recurrence: str) -> None:
    config = Config(channels=64, context_dim=32, steps=3, recurrence=recurrence, context_layers=2)
    set_up("fp32")
    heard = list(waveform(noise(8, 20480), CPU)) + [waveform(noise(1, 60 * 16000 + 77), CPU)[0]]  # more than a piece
    for layer in ("both", "c1"):
        there, here = (
            CPCFrames(layer, build_model(config).to(device), layer, precision="fp32")(heard) for device in (GPU, CPU)
        )
        for one, other in zip(there, here, strict=True):
            assert one.device == GPU and one.shape == other.shape
            assert_close(one, other)
    counted = (
        steps_ahead.count(build_model(config).to(device), waveform(noise(8, 20480), device)).cpu().double()
        for device in (GPU, CPU)
    )
    assert_close(next(counted), next(counted))  # near ties apart
    z = torch.randn(16, 20, 8, generator=torch.Generator().manual_seed(0))
    nats = (
        information.gained(z[:, 1:].to(device), z.to(device), 1, torch.Generator().manual_seed(0)).cpu()
        for device in (GPU, CPU)
    )
    assert_close(next(nats), next(nats))


@pytest.mark.parametrize("head", recogniser.HEADS)
def test_recogniser_and_ctc(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recogniser, "DROPOUT", 0.0)  # what is dropped differs between devices
    set_up("fp32")
    random = torch.Generator().manual_seed(0)
    features = [torch.randn(frames, 13, generator=random) for frames in (200, 120, 61)]
    phones = [torch.randint(1, 8, (count,), generator=random) for count in (20, 9, 3)]
    found = []
    for device in (GPU, CPU):
        torch.manual_seed(1)
        model = recogniser.Recogniser(torch.zeros(13), torch.ones(13), 7, head, 4, 16).to(device)
        log_probabilities, steps = model([matrix.to(device) for matrix in features])
        loss = recogniser.ctc_loss(log_probabilities, steps, phones)
        loss.backward()
        found.append([log_probabilities, loss, *(weight.grad for weight in model.parameters())])
    for there, here in zip(*found, strict=True):
        assert there.device == GPU
        assert_close(there, here)


def test_commands(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes the GPU by itself, and what it leaves is near what the CPU's would be."""
    exp, settings = tmp_path / "exp", tmp_path / "cpc.yaml"
    module.main(arguments(data, exp, "--workers", "1", updates=4))
    settings.write_text((exp / "config.yaml").read_text())
    monkeypatch.setattr(probe, "UPDATES", 1)
    probe.main(["--data", str(data), "--exp", str(exp), "--probe", "linear", "mlp", "--task", "speaker"])
    shorter = ["--dev-every", "2", "updates=4"]
    for task in ("phone", "speaker"):
        to = tmp_path / task
        supervised.main(
            ["--config", str(settings), "--data", str(data), "--exp", str(to), "--task", task, "--init-from", str(exp),
             *shorter]
        )  # fmt: skip
        assert (to / "probes" / f"finetuned.{task}.end_to_end.json").exists()
    result = json.loads((exp / "probes" / "c.speaker.linear.json").read_text())
    assert torch.cuda.get_device_name() in result["machine"]


def test_extraction_and_streams(data: Path, tmp_path: Path) -> None:
    exp, recordings = tmp_path / "exp", tmp_path / "recordings"
    module.main(arguments(data, exp, updates=1))
    recordings.mkdir()
    for name, samples in (("a", 16000), ("b", 700), ("c", 130 * 16000)):  # the last is more than is held at a time
        soundfile.write(recordings / f"{name}.wav", noise(1, samples)[0].numpy(), 16000)
    extract([str(exp), str(recordings), str(tmp_path / "out"), "--precision", "fp32"])
    here, there = cpc_speech.load(exp), cpc_speech.load(exp).to(GPU)
    for name, frames in read_float_matrices(tmp_path / "out" / "feats.scp"):
        heard = torch.from_numpy(soundfile.read(recordings / f"{name.rsplit('-')[-1]}.wav", dtype="float32")[0])
        assert_close(torch.from_numpy(frames.copy()), here.encode(heard))
    stream = there.stream()
    streamed = torch.cat([*(stream.push(piece) for piece in heard.split(5000)), stream.flush()])
    assert streamed.device == there.encode(heard).device == GPU
    assert_close(streamed, here.encode(heard))
