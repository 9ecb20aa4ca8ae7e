"""A loss or gradient that is infinite or no number: training stops before it harms, and shows the audio."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from runs import SMALL, Trainers, arguments, assert_equal_states, checkpoints, latest, windows_heard

from cpc_speech import train as module
from cpc_speech.config import Config
from cpc_speech.errors import UserError
from cpc_speech.infonce import InfoNCE

CONFIG = Config(**SMALL)


class InfiniteGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * torch.inf


def spoil(monkeypatch: pytest.MonkeyPatch, update: int, minibatch: int, how: str) -> list[Any]:
    """Make one minibatch's loss nan or infinite, or its gradient alone; the list gets the model that is trained."""
    real = module.cpc_loss
    models: list[Any] = []

    def loss(model: Any, waveform: torch.Tensor, config: Config, *draw: int) -> InfoNCE:
        models[:] = [model]
        result = real(model, waveform, config, *draw)
        if draw != (config.seed, update, minibatch):
            return result
        if how == "gradient":
            return result._replace(loss=InfiniteGradient.apply(result.loss))
        return result._replace(loss=result.loss * torch.tensor([1, 1, float(how)]))  # of one step of three

    monkeypatch.setattr(module, "cpc_loss", loss)
    return models


def assert_written(data: Path, exp: Path, update: int, minibatches: list[int]) -> list[str]:
    """These minibatches' windows, and nothing else, lie there bit for bit; returns how the message names them."""
    expected = {
        f"minibatch-{j}/{utterance}.{start}.wav": samples
        for j in minibatches
        for utterance, start, samples in windows_heard(data, CONFIG, update, j)
    }
    folder = exp / "not_finite" / f"update-{update + 1:08d}"
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*.wav")}
    assert sorted(found) == sorted(expected)
    for name, path in found.items():
        samples, rate = soundfile.read(path, dtype="int16")
        assert rate == 16000
        np.testing.assert_array_equal(samples, expected[name])
    return [re.sub(r".*/(.*)\.(\d+)\.wav", r"\1 from sample \2", name) for name in expected]


@pytest.mark.parametrize("how, minibatches", [("nan", [1]), ("inf", [1]), ("gradient", [0, 1])])
def test_training_stops_before_the_update_and_shows_the_windows(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, minibatches: list[int]
) -> None:
    exp = tmp_path / "exp"
    models = spoil(monkeypatch, 6, 1, how)
    what = "gradient" if how == "gradient" else f"loss {how}"
    with pytest.raises(UserError, match=f"the {what} of update 7 ") as caught:
        module.main(arguments(data, exp, checkpoint_every=1))
    names = assert_written(data, exp, 6, minibatches)
    assert len(names) == 4 * len(minibatches) and all(name in str(caught.value) for name in names)
    assert str(exp / "not_finite" / "update-00000007") in str(caught.value)
    assert checkpoints(exp)[-1] == "update-00000006.pt"
    (model,) = models
    assert_equal_states(dict(model.state_dict()), dict(latest(exp)["model"]))


def test_weights_that_are_infinite_stop_the_resumed_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a fault of memory or disk may leave them: every loss is nan, with nothing pretended."""
    exp, real = tmp_path / "exp", module.cpc_loss

    def stop(model: Any, waveform: torch.Tensor, config: Config, *draw: int) -> InfoNCE:
        if draw == (7, 2, 0):
            signal.raise_signal(signal.SIGTERM)
        return real(model, waveform, config, *draw)

    with monkeypatch.context() as patch:
        patch.setattr(module, "cpc_loss", stop)
        with pytest.raises(KeyboardInterrupt):
            module.main(arguments(data, exp))
    (name,) = checkpoints(exp)
    state = latest(exp)
    state["model"]["context.rnn.weight_ih_l0"][3, 5] = torch.inf
    torch.save(state, exp / "checkpoints" / name)
    with pytest.raises(UserError, match=f"of update {state['update'] + 1} is not finite"):
        module.main(arguments(data, exp))
    assert_written(data, exp, state["update"], [0, 1])
    assert checkpoints(exp) == [name]


def test_all_processes_stop_and_the_one_that_heard_it_shows_the_windows(data: Path, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    argv = arguments(data, exp, "--workers", "1", checkpoint_every=1)
    poison = """
if (update, minibatch) == (6, 1):
    with __import__("torch").no_grad():
        model.encoder.layers[0].conv.bias.fill_(float("nan"))
"""
    pair = Trainers(tmp_path, argv, 2, poison)
    assert pair.finish() == [1, 1], pair.all_output()
    for rank in range(2):
        assert "update 7 is not finite" in pair.output(rank) and "Traceback" not in pair.output(rank)
    assert "the loss nan of update 7" in pair.output(1)
    folder = exp / "not_finite" / "update-00000007" / "minibatch-1"
    heard = windows_heard(data, CONFIG, 6, 1)
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{key}.{start}.wav" for key, start, _ in heard)
    assert checkpoints(exp)[-1] == "update-00000006.pt"
    assert all(torch.isfinite(weight).all() for weight in latest(exp)["model"].values())
