"""Training on a tiny corpus: interruption, refusal, what is left behind, and where the loss starts."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import (
    SMALL,
    Trainers,
    arguments,
    assert_equal_runs,
    assert_equal_states,
    checkpoints,
    latest,
    metrics_lines,
)

from cpc_speech import train as module
from cpc_speech.checkpoint import build_model, load_experiment
from cpc_speech.config import Config
from cpc_speech.errors import UserError
from cpc_speech.infonce import PAPER_SETTINGS, InfoNCE
from cpc_speech.metrics import read_metrics
from cpc_speech.objective import cpc_loss
from cpc_speech.processes import Processes
from cpc_speech.progress import Progress


def test_a_finished_run_is_left_as_it_is(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    argv = arguments(data, tmp_path / "exp", updates=2)
    module.main(argv)
    files = ("metrics.jsonl", "train.json", "checkpoints/update-00000002.pt")
    before = [(tmp_path / "exp" / name).read_bytes() for name in files]
    with caplog.at_level(logging.INFO):
        module.main(argv)
    assert [(tmp_path / "exp" / name).read_bytes() for name in files] == before
    assert "trained already" in caplog.text


def test_training_starts_at_once_where_bf16_products_are_slow(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Products in a naive loop, 0.25e9 operations a second, as processors without AVX-512 have them: by the clock of
    such a machine, what is measured before the first update takes less than a second."""
    real, now, first = torch.nn.functional.linear, [0.0], list[float]()

    def clock() -> float:
        now[0] += 1e-6
        return now[0]

    def linear(a: torch.Tensor, b: torch.Tensor, *bias: torch.Tensor) -> torch.Tensor:
        if a.dtype == torch.bfloat16:
            now[0] += 2 * a.numel() * len(b) / 0.25e9
        return real(a, b, *bias)

    def loss(*rest: Any) -> Any:
        first.append(now[0])
        return cpc_loss(*rest)

    monkeypatch.setattr("time.perf_counter", clock)
    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    monkeypatch.setattr(module, "cpc_loss", loss)
    module.main(arguments(data, tmp_path / "exp", updates=1, precision="bf16"))
    assert 0.01 < first[0] < 1


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
    # The update that it came in, or the next: whether to stop is agreed on before an update is computed.
    assert latest(tmp_path / "exp")["update"] in (3, 4)
    assert signal.getsignal(number) is handler
    assert not (tmp_path / "exp" / "train.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_workers_too_stops_the_trainer_alone(
    data: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """A terminal's ctrl-C goes to all processes of the foreground, Slurm's SIGTERM to all of a job."""
    argv = arguments(data, tmp_path / "exp", "--workers", "2")
    trainer = Trainers(tmp_path, argv, hook=f"if (update, minibatch) == (2, 0): os.killpg(0, {number:d})")
    assert trainer.finish() == [130], trainer.all_output()
    assert "Traceback" not in trainer.output()
    assert latest(tmp_path / "exp")["update"] in (3, 4)  # as above
    module.main(argv)
    module.main(arguments(data, tmp_path / "whole"))
    assert_equal_runs(tmp_path / "exp", tmp_path / "whole")


def test_an_error_of_a_worker_ends_the_trainer_with_one_sentence(data: Path, tmp_path: Path) -> None:
    shard = data / "audio.000.i16"
    os.truncate(shard, shard.stat().st_size - 2)
    trainer = Trainers(tmp_path, arguments(data, tmp_path / "exp", "--workers", "2"))
    assert trainer.finish(30) == [1], trainer.all_output()
    assert "Traceback" not in trainer.output()
    assert re.search(rf"^error: {shard} has [0-9,]+ bytes; .* run python -m data_prep.pack", trainer.output(), re.M)


def test_another_configuration_is_refused_before_anything_changes(data: Path, tmp_path: Path) -> None:
    module.main(arguments(data, tmp_path / "exp", updates=2))
    before = (tmp_path / "exp" / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="channels 16 → 8"):
        module.main(arguments(data, tmp_path / "exp", updates=2, channels=8))
    assert (tmp_path / "exp" / "metrics.jsonl").read_bytes() == before


def test_other_audio_is_refused_before_anything_changes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows are drawn by number: with one utterance less, a resumed run would go on with other audio."""
    exp = tmp_path / "exp"
    monkeypatch.setattr(module, "_summarise", lambda *rest: None)  # so that the run is not done
    module.main(arguments(data, exp, updates=2))
    before = (exp / "metrics.jsonl").read_bytes(), checkpoints(exp)
    train_list = data / "splits" / "train.list"
    train_list.write_text("".join(train_list.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(UserError, match="begun with other audio"):
        module.main(arguments(data, exp, updates=2))
    assert before == ((exp / "metrics.jsonl").read_bytes(), checkpoints(exp))


def test_more_processes_than_minibatches_are_refused(data: Path, tmp_path: Path) -> None:
    three = Processes(0, 3, torch.device("cpu"))
    with pytest.raises(UserError, match="3 processes cannot share out 2 minibatches"):
        module.train(Config(**SMALL), data, tmp_path / "exp", three)
    assert not (tmp_path / "exp").exists()


def test_a_run_killed_between_its_last_checkpoint_and_its_summary(data: Path, tmp_path: Path) -> None:
    module.main(arguments(data, tmp_path / "exp"))
    summary = tmp_path / "exp" / "train.json"
    before, lines = json.loads(summary.read_text()), metrics_lines(tmp_path / "exp")
    summary.unlink()
    module.main(arguments(data, tmp_path / "exp"))
    after = json.loads(summary.read_text())
    for key in ("updates", "hours_heard", "candidates", "dev_loss", "dev_accuracy"):
        assert before[key] == after[key]
    assert metrics_lines(tmp_path / "exp") == lines


def test_the_best_checkpoint_is_that_of_the_lowest_dev_loss(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exp, losses = tmp_path / "exp", [4.0, 3.5, 2.0, 3.0, 2.0, 5.0]  # of two that are equal it is the first
    given = iter(losses)
    monkeypatch.setattr(
        module.DevLoss, "evaluate", lambda self, model: InfoNCE(torch.full((3,), next(given)), torch.zeros(3))
    )
    module.main(arguments(data, exp, updates=6, dev_every=1, checkpoint_every=1, keep_checkpoints=6))
    assert [line["loss"] for line in read_metrics(exp, "dev")] == losses
    _, model, update = load_experiment(exp, "best")
    assert update == 3
    state = torch.load(exp / "checkpoints" / "update-00000003.pt", weights_only=True)
    assert_equal_states(dict(model.state_dict()), dict(state["model"]))


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
    monkeypatch.setattr(module, "Progress", lambda **options: Progress(**options | {"disable": True}))
    module.main(arguments(data, tmp_path / "none", updates=3))
    assert_equal_states(latest(tmp_path / "bar"), latest(tmp_path / "none"))
    assert all(line["speed"] > 0 for line in read_metrics(tmp_path / "none", "train"))


def test_an_error_of_any_kind_ends_the_run_and_its_workers(data: Path, tmp_path: Path) -> None:
    """A full disk, memory that is used up: the workers, which heed no signal, must not keep the process from ending."""
    argv = arguments(data, tmp_path / "exp", "--workers", "2")
    trainer = Trainers(tmp_path, argv, hook="if update == 3: raise MemoryError('of the device')")
    assert trainer.finish() == [1]
    assert trainer.output().rstrip().endswith("MemoryError: of the device")
