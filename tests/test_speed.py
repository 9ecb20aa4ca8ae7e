"""What a model costs, counted by torch; the pace of a run, by a clock of our own; what this machine is set up for."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from patience import HANG
from runs import ROOT, SMALL
from torch.utils.flop_counter import FlopCounterMode

from cpc_speech import cost, machine, speed
from cpc_speech.checkpoint import build_model
from cpc_speech.config import Config
from cpc_speech.objective import cpc_loss
from cpc_speech.processes import Processes

CPU = torch.device("cpu")
ALONE = Processes(0, 1, CPU)
FP32 = Config(**(SMALL | {"precision": "fp32"}))


@pytest.mark.parametrize(
    "config",
    [
        FP32,
        Config(),
        Config(channels=24, context_dim=40, steps=1),
        Config(channels=24, context_dim=40, recurrence="lstm"),
        Config(channels=24, context_dim=40, recurrence="lstm", context_layers=3),
        Config(channels=24, context_dim=40, context_layers=2),
    ],
)
def test_parameters_are_those_of_the_model(config: Config) -> None:
    assert cost.parameters(config) == sum(weight.numel() for weight in build_model(config).parameters())


@pytest.mark.parametrize("candidates", ["minibatch", "other_windows", "current_window"])
@pytest.mark.parametrize("negatives", ["all", 6])
@pytest.mark.parametrize("recurrence, layers, gates", [("gru", 1, 3), ("lstm", 2, 4)])
def test_multiply_adds_are_those_that_torch_counts(
    candidates: str, negatives: int | str, recurrence: str, layers: int, gates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # oneDNN's LSTM is one operation, which torch counts as nothing; torch's own is made of products.
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    config = dataclasses.replace(
        FP32, candidates=candidates, negatives=negatives, recurrence=recurrence, context_layers=layers
    )
    model, waveform = build_model(config), torch.randn(4, 3200, generator=torch.Generator().manual_seed(0))

    def counted(backward: bool) -> dict[str, int]:
        with FlopCounterMode(display=False, depth=3) as counter, torch.set_grad_enabled(backward):
            loss = cpc_loss(model, waveform, config, 0).loss.mean()
            if backward:
                loss.backward()
        return {module: sum(flops.values()) for module, flops in counter.get_flop_counts().items()}

    forward = counted(backward=False)
    predictors = sum(flops for module, flops in forward.items() if module.startswith("CPC.predictors."))
    scores = forward["Global"] - forward["CPC.encoder"] - forward["CPC.context"] - predictors
    found = {
        "encoder": forward["CPC.encoder"], "context": forward["CPC.context"], "predictors": predictors, "scores": scores
    }  # fmt: skip
    # 2 operations a multiply-add, 4 windows
    assert found == {part: 2 * 4 * number for part, number in cost.multiply_adds(config).items()}
    # Of the backward pass only the gradients in the audio and in the layers' first states (of 8 units) are never taken.
    spared = forward["CPC.encoder.layers.0"] + layers * 2 * 4 * gates * 8 * 8
    both_minibatches = 2 * (counted(backward=True)["Global"] + spared)
    assert cost.update_operations(config) == both_minibatches


def test_seconds_of_an_update() -> None:
    assert cost.update_seconds(Config()) == pytest.approx(8 * 8 * 1.28)  # minibatches, windows, seconds of a window


class Clock:
    """Stands where ``time`` does; moves only when told."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(speed, "time", clock)
    monkeypatch.setattr(speed, "matrix_rate", lambda device, precision: 5e6)
    return clock


@pytest.mark.parametrize("processes, share", [(ALONE, 1), (Processes(1, 2, CPU), 1 / 2), (Processes(2, 4, CPU), 1 / 5)])
def test_pace_is_that_since_the_last_measurement(clock: Clock, processes: Processes, share: float) -> None:
    config = dataclasses.replace(FP32, minibatches=2 if processes.count < 4 else 5)
    watch = speed.Speed(config, processes)

    def slow(items: int) -> Iterator[int]:
        for item in range(items):
            clock.now += 0.5  # until the next is there
            yield item

    loaded = slow(100)
    for updates, waited, spent in ((3, 2, 4.0), (1, 0, 0.5), (4, 4, 1.0)):
        for _ in range(updates):
            watch.update()
        for _, _ in zip(range(waited), watch.timed(loaded)):
            clock.now += 0.25  # work, which is no waiting
        clock.now += spent
        elapsed = waited * 0.75 + spent
        pace = watch.measure()
        assert pace.speed == pytest.approx(updates * cost.update_seconds(config) / elapsed)  # of all processes
        operations = updates * cost.update_operations(config) * share  # of this one
        assert pace.utilisation == pytest.approx(operations / elapsed / 5e6)
        assert pace.waiting == pytest.approx(waited * 0.5 / elapsed)
    assert watch.seconds == pytest.approx(clock.now - 100)


def test_timed_items_come_through_and_end(clock: Clock) -> None:
    watch = speed.Speed(FP32, ALONE)
    iterator = iter([3, 1, 2])
    assert [next(watch.timed(iterator)), *watch.timed(iterator)] == [3, 1, 2]  # as the trainer takes share by share
    assert list(watch.timed(iterator)) == []


@pytest.mark.parametrize("seconds_of_128, sizes", [(1e-5, [128, 256, 512, 1024, 2048]), (0.01, [128, 256]), (5, [128])])
def test_matrix_rate_is_that_of_the_largest_product_there_is_time_for(
    seconds_of_128: float, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that takes so long for a product of 128 × 128 matrices, and longer as their size to the third."""
    clock, seen = Clock(), []

    def linear(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        seen.append(len(a))
        clock.now += seconds_of_128 * (len(a) / 128) ** 3
        return a

    monkeypatch.setattr(machine, "time", clock)
    monkeypatch.setattr(machine.F, "linear", linear)
    assert machine.matrix_rate(CPU, "fp32") == pytest.approx(2 * 128**3 / seconds_of_128)
    assert sorted(set(seen)) == sizes
    assert clock.now - 100 <= max(0.3, seconds_of_128) + 1e-6


def test_precision_of_products() -> None:
    """1 + 2^-9 is no bf16 number: with fp32 a product keeps it, with bf16 its factors may be rounded."""
    a = torch.full((64, 64), 1 + 2**-9)
    exact = 64 * (1 + 2**-9) ** 2  # less than 24 bits: fp32 holds it and all partial sums of it
    machine.set_up("bf16")
    assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"  # type: ignore[attr-defined]
    machine.set_up("fp32")
    assert (a @ a == exact).all()


def test_fp32_is_full_precision_on_gpus_too() -> None:
    """cuDNN's convolutions and recurrences, unlike products, take tf32 unless they are told not to."""
    on_gpus = [torch.backends.cuda.matmul, torch.backends.cudnn.rnn, torch.backends.cudnn.conv]  # type: ignore[attr-defined]
    machine.set_up("bf16")
    assert {kind.fp32_precision for kind in on_gpus} == {"tf32"}
    machine.set_up("fp32")
    assert {kind.fp32_precision for kind in on_gpus} == {"ieee"}


GPU = torch.device("cuda")


@pytest.mark.parametrize("capability, native", [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_auto_is_what_a_gpu_multiplies(
    capability: tuple[int, int], native: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    assert machine.resolve("auto", GPU) == native
    assert [machine.resolve(precision, GPU) for precision in ("fp32", "bf16")] == ["fp32", "bf16"]
    machine.set_up("auto", GPU)
    assert not caplog.text
    machine.set_up("bf16", GPU)  # by name, where it is emulated: said, in one line
    assert len(caplog.records) == (native == "fp32")


@pytest.mark.parametrize(
    "amx, avx512, capability, native",
    [
        (True, True, "AVX512", "bf16"), (False, True, "AVX512", "bf16"), (False, False, "AVX512", "fp32"),
        (False, False, "AVX2", "fp32"), (True, True, "AVX2", "fp32"),  # as ATEN_CPU_CAPABILITY=avx2 has it
    ],
)  # fmt: skip
def test_auto_is_what_a_processor_multiplies(
    amx: bool, avx512: bool, capability: str, native: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert machine.resolve("auto", CPU) == native


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_freed_memory_is_kept_for_the_next_block() -> None:
    """Else the kernel clears every page again: 64 MiB are 16,384 page faults of 4 KiB, every time."""
    code = """
import resource, torch
from cpc_speech.machine import keep_freed_memory
keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(*(faults() for _ in range(30)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr
    first, *others = map(int, done.stdout.split())
    # What small blocks have settled in the middle of is too small for the next; that ends after a few.
    assert sum(others[-10:]) < first
