"""What would run on a GPU, with tensors that only say that they are on one (torch's fake tensors): an operation on
tensors of two devices is an error there, and so is to ask a GPU for a value. Nothing is computed, nor any gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from runs import SMALL
from torch import Tensor
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from cpc_speech import supervised
from cpc_speech.checkpoint import build_model
from cpc_speech.config import Config
from cpc_speech.information import gained
from cpc_speech.loader import waveform
from cpc_speech.objective import cpc_loss, mean
from cpc_speech.optimise import adam, update_weights
from cpc_speech.processes import Processes
from cpc_speech.recogniser import HEADS, Recogniser
from cpc_speech.representations import CPCFrames
from cpc_speech.steps_ahead import count
from cpc_speech.streaming import Stream
from cpc_speech.tasks import load_splits, load_task
from cpc_speech.windows import Window

GPU = torch.device("cuda", 0)
Emulated = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Emulated:
    """with on_gpu(): tensors are fakes, and those made without a device are on the CPU as ever."""
    # Fake tensors make torch believe in a GPU, for which autograd's first use would start a thread, and then refuse to
    # work in forks, as those of other tests are.
    torch.ones(1, requires_grad=True).backward()
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)  # or autocast is off
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 0))
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)  # which asks the driver

    @contextmanager
    def emulated() -> Iterator[None]:
        # The dispatcher takes recurrences to pieces, as no fake of them is to be had without a driver.
        with FakeTensorMode(allow_fallback_kernels=False, allow_non_fake_inputs=True), enable_python_dispatcher():
            yield

    return emulated


class Copies(TorchDispatchMode):
    """Notes what is copied between devices: (from, to, type, shape)."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, str, torch.dtype, tuple[int, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and result.device != args[0].device:
            self.seen.append((args[0].device.type, result.device.type, args[0].dtype, tuple(args[0].shape)))
        return result


def is_there(tensor: Tensor) -> bool:
    return (tensor.device, tensor.dtype) == (GPU, torch.float32)


def test_what_the_emulation_notices(on_gpu: Emulated) -> None:
    """Else the tests below could not fail."""
    with on_gpu():
        here, there = torch.ones(3), torch.ones(3, device=GPU)
        with pytest.raises(RuntimeError, match="devices"):
            here + there
        with pytest.raises(RuntimeError, match="devices"):
            there.gather(0, torch.zeros(1, dtype=torch.int64))
        with pytest.raises(DataDependentOutputException):
            there.sum().item()
        with torch.autocast("cuda", torch.bfloat16):
            assert (there[None] @ there[:, None]).dtype == torch.bfloat16
        with Copies() as copies:
            here.to(GPU).cpu()
    assert copies.seen == [("cpu", "cuda", torch.float32, (3,)), ("cuda", "cpu", torch.float32, (3,))]


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("candidates", ["minibatch", "other_windows", "current_window"])
@pytest.mark.parametrize("negatives", ["all", 6])
def test_the_loss_waits_for_nothing_but_drawn_negatives(
    on_gpu: Emulated, precision: str, candidates: str, negatives: int | str
) -> None:
    config = Config(**(SMALL | {"precision": precision, "candidates": candidates, "negatives": negatives}))
    with on_gpu():
        with GPU:
            model = build_model(config)
        with Copies() as copies:
            result = cpc_loss(model, waveform(torch.zeros(4, 3200, dtype=torch.int16), GPU), config, 0, 0, 0)
    assert is_there(result.loss) and is_there(result.accuracy)
    audio, *drawn = copies.seen
    assert audio == ("cpu", "cuda", torch.int16, (4, 3200))
    of_steps = [("cpu", "cuda", torch.int64, (4 * (20 - k), 6)) for k in (1, 2, 3)]
    assert drawn == (of_steps if negatives == 6 else [])


@pytest.mark.parametrize("processes", [1, 2])
def test_an_update_waits_once(on_gpu: Emulated, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config, place = Config(**SMALL), Processes(0, processes, GPU)
    waits, exchanged = [], []

    def tolist(tensor: Tensor) -> list[float]:
        waits.append(tensor.shape)
        return [1.0, 0.0, 1.0]

    with on_gpu():
        with GPU:
            model = build_model(config)
        optimizer = adam(model, config)

        def backward(loss: Tensor) -> None:  # autograd's engine wants a driver
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)

        monkeypatch.setattr(Tensor, "backward", backward)
        monkeypatch.setattr(FakeTensor, "tolist", tolist)
        monkeypatch.setattr(dist, "all_reduce", lambda flat: exchanged.append((is_there(flat), flat.numel())))
        results = [cpc_loss(model, torch.zeros(4, 3200, device=GPU), config, 0, 0, j) for j in range(2)]
        with Copies() as copies:
            update_weights(optimizer, 1e-3, (result.loss.mean() for result in results), 2, place)
        assert (waits, copies.seen) == ([(3,)], [])
        weights = sum(parameter.numel() for parameter in model.parameters())
        assert exchanged == [(True, weights + 2)] * (processes - 1)  # and the wish to stop, and the loss
        assert {state.device for moments in optimizer.state.values() for state in moments.values()} == {GPU}
        assert mean(results, 2, config.steps, place).loss.device.type == "cpu"


@pytest.mark.parametrize("layer, bf16", [("c", True), ("z", False), ("both", True), ("c1", False)])
@pytest.mark.parametrize("recurrence", ["gru", "lstm"])
def test_frames_are_where_the_network_is(on_gpu: Emulated, layer: str, bf16: bool, recurrence: str) -> None:
    config = Config(**(SMALL | {"recurrence": recurrence, "context_layers": 2}))
    with on_gpu():
        with GPU:
            representation = CPCFrames(layer, build_model(config), layer, precision="bf16" if bf16 else "fp32")
        frames = representation([torch.zeros(1000), torch.zeros(700), torch.zeros(10)])  # of the CPU
        assert all(map(is_there, frames)) and [len(rows) for rows in frames] == [6, 4, 0]
        stream = Stream(representation)
        pushed = [stream.push(torch.zeros(500)), stream.push(torch.zeros(500)), stream.flush()]
        assert all(map(is_there, pushed)) and [len(rows) for rows in pushed] == [2, 3, 1]


def test_steps_ahead_are_counted_there(on_gpu: Emulated) -> None:
    with on_gpu():
        with GPU:
            model = build_model(Config(**SMALL))
        with Copies() as copies:
            assert count(model, torch.zeros(4, 3200, device=GPU)).device == GPU
        z = torch.zeros(4, 20, 16, device=GPU)
        assert gained(z[:, 1:], z, 1, torch.Generator()).device == GPU
    assert copies.seen == []


@pytest.mark.parametrize("task", ["phone", "speaker"])
def test_supervised_loss(on_gpu: Emulated, data: Path, task: str) -> None:
    config = Config(**SMALL)
    audio, splits = load_splits(data)
    labelled = load_task(task, data, audio, splits)
    with on_gpu():
        with GPU:
            model = supervised.Classifier(config, labelled.classes)
        assert is_there(supervised._loss(model, config, audio, labelled, [Window(0, 0), Window(3, 200)]))


@pytest.mark.parametrize("head", HEADS)
def test_recogniser(on_gpu: Emulated, head: str) -> None:
    """One utterance: of one alone, torch's fakes on the CPU, as its number of steps, have a value."""
    with on_gpu():
        with GPU:
            model = Recogniser(torch.zeros(5), torch.ones(5), 7, head, 4, 6)
        log_probabilities, steps = model([torch.zeros(50, 5, device=GPU)])
        assert is_there(log_probabilities) and log_probabilities.shape == (1, 13, 8)
        assert steps.device.type == "cpu"  # where CTC wants lengths
