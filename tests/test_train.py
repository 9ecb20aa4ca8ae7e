"""Training on a tiny corpus: resume, interruption, refusal, and where the loss starts."""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tqdm import tqdm

from cpc_speech import train as module
from cpc_speech.checkpoint import build_model, load_latest
from cpc_speech.config import Config
from cpc_speech.errors import UserError
from cpc_speech.infonce import PAPER_SETTINGS
from cpc_speech.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[1]
SMALL: dict[str, Any] = {
    "channels": 16, "context_dim": 8, "steps": 3, "window_samples": 3200, "windows": 4, "updates": 10, "minibatches": 2,
    "log_every": 3, "dev_every": 4, "dev_minibatches": 2, "checkpoint_every": 5, "final_learning_rate": 1e-5, "seed": 7,
    "warmup_updates": 2,
}  # fmt: skip


def arguments(data: Path, exp: Path, **settings: Any) -> list[str]:
    return ["--data", str(data), "--exp", str(exp), *(f"{key}={value}" for key, value in (SMALL | settings).items())]


def lines(exp: Path) -> list[dict]:
    """metrics.jsonl without the speed, which is a matter of the moment."""
    return [
        {k: v for k, v in json.loads(line).items() if k != "speed"}
        for line in (exp / "metrics.jsonl").read_text().splitlines()
    ]


def latest(exp: Path) -> dict[str, Any]:
    state = load_latest(exp)
    assert state is not None
    return state


def assert_equal_states(a: Any, b: Any) -> None:
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


def killed_at(update: int, argv: list[str]) -> None:
    """Run the command line in a process of its own that SIGKILL ends within this update (counted from 0)."""
    code = f"""
import os, signal, sys, torch
from cpc_speech import train as module
torch.set_num_threads({torch.get_num_threads()})
real = module.cpc_loss
def loss(model, waveform, config, *draw):
    if draw[1:] == ({update}, 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(model, waveform, config, *draw)
module.cpc_loss = loss
module.main(sys.argv[1:])
"""
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    "settings", [{"precision": "bf16"}, {"precision": "fp32", "negatives": 6, "batch_composition": "same_speaker"}]
)
def test_ten_updates_equal_five_a_kill_and_five_bit_for_bit(data: Path, tmp_path: Path, settings: dict) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    module.main(arguments(data, whole, **settings))
    killed_at(7, arguments(data, broken, **settings))  # line 6 is written then, and must not be there twice
    assert latest(broken)["update"] == 5
    assert [line["update"] for line in lines(broken)][-1] == 6
    with open(broken / "metrics.jsonl", "a") as file:
        file.write('{"split": "train", "upda')  # what a kill within a write leaves
    module.main(arguments(data, broken, **settings))
    assert_equal_states(latest(broken), latest(whole))
    assert lines(broken) == lines(whole)
    assert [(line["split"], line["update"]) for line in lines(whole)] == [
        ("train", 3), ("dev", 4), ("train", 6), ("dev", 8), ("train", 9), ("train", 10), ("dev", 10),
    ]  # fmt: skip
    summaries = [json.loads((exp / "train.json").read_text()) for exp in (whole, broken)]
    assert summaries[0]["dev_loss"] == summaries[1]["dev_loss"]


def test_a_finished_run_is_left_as_it_is(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    argv = arguments(data, tmp_path / "exp", updates=2)
    module.main(argv)
    files = ("metrics.jsonl", "train.json", "checkpoints/update-00000002.pt")
    before = [(tmp_path / "exp" / name).read_bytes() for name in files]
    with caplog.at_level(logging.INFO):
        module.main(argv)
    assert [(tmp_path / "exp" / name).read_bytes() for name in files] == before
    assert "trained already" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_after_the_update(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    real, handler = module.cpc_loss, signal.getsignal(number)

    def loss(model: Any, waveform: Any, config: Config, *draw: int) -> Any:
        if draw[1:] == (2, 0):
            os.kill(os.getpid(), number)
        return real(model, waveform, config, *draw)

    monkeypatch.setattr(module, "cpc_loss", loss)
    with pytest.raises(KeyboardInterrupt):
        module.main(arguments(data, tmp_path / "exp"))
    assert latest(tmp_path / "exp")["update"] == 3
    assert signal.getsignal(number) is handler
    assert not (tmp_path / "exp" / "train.json").exists()


def test_another_configuration_is_refused_before_anything_changes(data: Path, tmp_path: Path) -> None:
    module.main(arguments(data, tmp_path / "exp", updates=2))
    before = (tmp_path / "exp" / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="channels 16 → 8"):
        module.main(arguments(data, tmp_path / "exp", updates=2, channels=8))
    assert (tmp_path / "exp" / "metrics.jsonl").read_bytes() == before


def test_a_non_finite_loss_stops_before_the_update_and_names_the_windows(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.load
    calls: list[list] = []

    def load(audio: Any, windows: list, window_samples: int) -> np.ndarray:
        batch = real(audio, windows, window_samples)
        if len(audio) == 18:  # the train split
            calls.append([f"{audio.utterances[w.utterance]} from sample {w.start}" for w in windows])
            if len(calls) == 14:  # the second minibatch of the seventh update
                batch[2] = np.nan
        return batch

    monkeypatch.setattr(module, "load", load)
    with pytest.raises(UserError, match="nan") as caught:
        module.main(arguments(data, tmp_path / "exp"))
    for name in calls[13]:
        assert name in str(caught.value)
    state = latest(tmp_path / "exp")
    assert state["update"] == 5 and all(torch.isfinite(x).all() for x in state["model"].values())


@pytest.mark.parametrize("row", sorted(PAPER_SETTINGS))
@pytest.mark.parametrize("negatives", ["all", 5])
def test_loss_starts_near_chance_and_every_setting_runs(
    data: Path, tmp_path: Path, row: str, negatives: int | str
) -> None:
    composition, candidates = PAPER_SETTINGS[row]
    settings = {"batch_composition": composition, "candidates": candidates, "negatives": negatives}
    exp = tmp_path / "exp"
    module.main(arguments(data, exp, updates=1, log_every=1, dev_every=10, **settings))
    config = Config(**(SMALL | settings))
    chance = math.log(config.num_candidates)
    (start,) = read_metrics(exp, "train")
    # Scores zᵀ W c of this untrained network have a standard deviation s of about 1 at most, which raises the
    # expected loss over chance by about s²/2 · (1 + 1/N); below chance it can only be by luck.
    assert chance - 0.3 < start["loss"] < chance + 1.0
    assert len(start["loss_by_step"]) == len(start["accuracy_by_step"]) == 3
    before, after = build_model(config).state_dict(), latest(exp)["model"]
    for name in before:
        assert not torch.equal(before[name], after[name]), f"{name} was not updated"


def test_same_speaker_minibatches_are_what_the_loss_is_given(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The noise of each speaker of this corpus has its own power: windows of one minibatch must share theirs."""
    real, spreads = module.cpc_loss, []

    def loss(model: Any, waveform: torch.Tensor, config: Config, *draw: int) -> Any:
        power = waveform.std(1)
        spreads.append((power.max() / power.min()).item())
        return real(model, waveform, config, *draw)

    monkeypatch.setattr(module, "cpc_loss", loss)
    module.main(arguments(data, tmp_path / "same", batch_composition="same_speaker", minibatches=1, dev_minibatches=1))
    same = max(spreads)
    spreads.clear()
    module.main(arguments(data, tmp_path / "mixed", minibatches=1, dev_minibatches=1))
    # Standard deviations are as 1 : 1/2 : 1/√7; one speaker's windows of 3,200 samples agree within 10 %.
    assert same < 1.2 < 1.3 < max(spreads)


def test_test_split_is_not_heard_unless_all_is_asked_for(data: Path, tmp_path: Path) -> None:
    for choice, splits in (("train", ["train"]), ("all", ["train", "dev", "test"])):
        module.main(arguments(data, tmp_path / choice, updates=1, pretrain_on=choice))
        ids = {u for split in splits for u in (data / "splits" / f"{split}.list").read_text().split()}
        samples = dict(line.split() for line in (data / "utt2num_samples").read_text().splitlines())
        summary = json.loads((tmp_path / choice / "train.json").read_text())
        assert summary["corpus_hours"] == pytest.approx(sum(int(samples[u]) for u in ids) / 16000 / 3600)


def test_summary_counts_the_audio_heard(data: Path, tmp_path: Path) -> None:
    module.main(arguments(data, tmp_path / "exp", updates=3))
    summary = json.loads((tmp_path / "exp" / "train.json").read_text())
    assert summary["hours_heard"] == pytest.approx(3 * 2 * 4 * 0.2 / 3600)  # updates, minibatches, windows, seconds
    assert summary["candidates"] == 80 and summary["updates"] == 3 and len(summary["dev_loss"]) == 3
    assert summary["log_n_minus_loss_is_a_bound"] is False


def test_without_dev_the_training_goes_on_with_a_warning(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (data / "splits" / "dev.list").write_text("")
    module.main(arguments(data, tmp_path / "exp", updates=1))
    assert "no dev loss" in caplog.text
    assert json.loads((tmp_path / "exp" / "train.json").read_text())["dev_loss"] is None


def test_results_do_not_depend_on_the_progress_bar(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TQDM_DISABLE=1, which tqdm reads from the environment, is usual on clusters."""
    module.main(arguments(data, tmp_path / "bar", updates=3))
    monkeypatch.setattr(module, "tqdm", functools.partial(tqdm, disable=True))
    module.main(arguments(data, tmp_path / "none", updates=3))
    assert_equal_states(latest(tmp_path / "bar"), latest(tmp_path / "none"))
    assert all(line["speed"] > 0 for line in read_metrics(tmp_path / "none", "train"))


def test_learning_rate_schedule() -> None:
    config = Config(updates=110, warmup_updates=10, learning_rate=1e-3, final_learning_rate=1e-4)
    rates = [module.learning_rate(config, update) for update in range(111)]
    assert rates[:10] == pytest.approx([1e-4 * (i + 1) for i in range(10)])
    assert (
        rates[10] == pytest.approx(1e-3)
        and rates[60] == pytest.approx((1e-3 + 1e-4) / 2)
        and rates[110] == pytest.approx(1e-4)
    )
    assert all(a > b for a, b in zip(rates[10:], rates[11:], strict=False))
    constant = Config(updates=100)
    assert {module.learning_rate(constant, update) for update in range(100)} == {2e-4}


def test_accumulated_minibatches_equal_one_gradient_of_their_mean(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One update of 3 minibatches: Adam's first moment is (1 − β₁) times the gradient of the mean loss."""
    seen: list[tuple[torch.Tensor, tuple]] = []
    real = module.cpc_loss

    def loss(model: Any, waveform: torch.Tensor, config: Config, *draw: int) -> Any:
        if torch.is_grad_enabled():
            seen.append((waveform.clone(), draw))
        return real(model, waveform, config, *draw)

    monkeypatch.setattr(module, "cpc_loss", loss)
    module.main(arguments(data, tmp_path / "exp", updates=1, minibatches=3, precision="fp32"))
    assert [draw for _, draw in seen] == [(7, 0, 0), (7, 0, 1), (7, 0, 2)]
    config = Config(**(SMALL | {"precision": "fp32"}))
    model = build_model(config)
    torch.stack([real(model, waveform, config, *draw).loss.mean() for waveform, draw in seen]).mean().backward()
    moments = latest(tmp_path / "exp")["optimizer"]["state"]
    for (name, parameter), moment in zip(model.named_parameters(), moments.values(), strict=True):
        assert parameter.grad is not None
        scale = parameter.grad.abs().max().item()
        # fp32: the same sums in another order.
        torch.testing.assert_close(moment["exp_avg"] / 0.1, parameter.grad, rtol=0, atol=1e-4 * scale, msg=name)


def test_predictors_take_a_context_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU autocast's GRU returns half precision, here imitated; the fp32 weights W_k must still apply to it."""
    config = Config(**SMALL)
    model = build_model(config)
    real = model.context.forward

    def half(z: torch.Tensor, state: Any = None) -> Any:
        c, state = real(z, state)
        return c.bfloat16(), state

    monkeypatch.setattr(model.context, "forward", half)
    waveform = 0.1 * torch.randn(4, 3200, generator=torch.Generator().manual_seed(0))
    result = module.cpc_loss(model, waveform, config, 0)
    assert torch.isfinite(result.loss).all()
