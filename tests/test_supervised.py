"""The supervised baseline: aligned targets, the best network, resume."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cpc_speech import checkpoint
from cpc_speech import supervised as module
from cpc_speech.checkpoint import load_latest
from cpc_speech.config import Config
from cpc_speech.errors import UserError
from cpc_speech.probe import Answer
from cpc_speech.tasks import Task, load_splits, load_task
from cpc_speech.windows import Window, WindowSampler

CONFIG = Config(
    channels=16, context_dim=8, steps=2, window_samples=3200, windows=4, updates=8, minibatches=1, seed=2,
    learning_rate=1e-3, final_learning_rate=1e-3,
)  # fmt: skip


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(CONFIG.dump())
    return tmp_path / "tiny.yaml"


def arguments(data: Path, exp: Path, config: Path, *more: str, task: str = "speaker", dev_every: int = 2) -> list[str]:
    common = ["--data", str(data), "--exp", str(exp), "--config", str(config), "--task", task]
    return [*common, "--dev-every", str(dev_every), *more]


def result(exp: Path, task: str = "speaker") -> dict:
    return json.loads((exp / "probes" / f"supervised.{task}.end_to_end.json").read_text())


def weights(exp: Path) -> dict[str, torch.Tensor]:
    state = load_latest(exp)
    assert state is not None
    return {f"{part}.{name}": value for part in ("model", "best") for name, value in state[part].items()}


class Marked:
    """Audio whose sample n of utterance i says which frame it belongs to: 1000 i + n // 160."""

    num_samples = np.array([5000, 7001, 4000, 9999])
    utterances = ["a", "b", "c", "d"]
    speakers = ["x", "x", "y", "y"]

    def slice(self, i: int, start: int, length: int) -> np.ndarray:
        assert 0 <= start <= start + length <= self.num_samples[i]
        return (1000 * i + np.arange(start, start + length) // 160).astype(np.int16)


class Reader(torch.nn.Module):
    """Takes every frame for what its samples say; counts how often each was heard."""

    def __init__(self) -> None:
        super().__init__()
        self.output = torch.nn.Linear(1, 4000)  # tells what device to put the audio on
        self.frames: list[list[list[int]]] = []

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        marks = (waveform * 32768).view(len(waveform), -1, 160)
        assert torch.equal(marks, marks[:, :, :1].expand_as(marks))  # no window begins within a frame
        self.frames.append(marks[:, :, 0].int().tolist())
        return 50 * torch.nn.functional.one_hot(marks[:, :, 0].long(), 4000).float()


def marked_task(train: list[int]) -> Task:
    targets = [1000 * i + np.arange(n // 160) for i, n in enumerate(Marked.num_samples)]
    return Task("phone", 4000, targets, {"train": train})


def test_targets_belong_to_the_frames_of_their_windows() -> None:
    audio: Any = Marked()
    model: Any = Reader()
    task = marked_task([3, 1])
    sampler = WindowSampler(audio.num_samples[[3, 1]], ["x", "x"], 3200, 2, False, 0)
    config = Config(**{**vars(CONFIG), "windows": 2, "precision": "fp32"})
    for update in range(300):
        # 0 but for 4,000 e^-50; one frame of the 40 that is not its target's would add 50 / 40.
        assert module._loss(model, config, audio, task, sampler.minibatch(update, 0)).item() < 1e-6
    seen = {frame for batch in model.frames for window in batch for frame in window}
    assert seen == {1000 * i + t for i in (1, 3) for t in range(audio.num_samples[i] // 160)}  # to the last frame


def test_windows_that_only_just_do_not_overlap_stay_apart_when_aligned() -> None:
    audio: Any = Marked()
    model: Any = Reader()
    module._loss(model, CONFIG, audio, marked_task([1]), [Window(0, 159), Window(0, 3359)])
    assert model.frames == [[list(range(1000, 1020)), list(range(1020, 1040))]]


def test_unlabelled_frames_do_not_count() -> None:
    """The mean is over the labelled frames: here all right but one, which costs 50."""
    audio: Any = Marked()
    model: Any = Reader()
    task = marked_task([1])
    task.targets[1][:15], task.targets[1][15] = -1, 7
    loss = module._loss(model, CONFIG, audio, task, [Window(0, 0)])
    assert loss.item() == pytest.approx(50 / 5, rel=1e-6)  # fp32


def test_learns_what_can_be_learnt(data: Path, tmp_path: Path, config_file: Path) -> None:
    """Three colours of noise: the most frequent speaker is a third of the frames."""
    exp = tmp_path / "exp"
    module.main(arguments(data, exp, config_file, "updates=150", "learning_rate=5e-3", "precision=fp32", dev_every=50))
    found = result(exp)
    assert found["accuracy"] > 80 and found["majority"] == pytest.approx(100 / 3, abs=3)
    assert found["utterances"] == (data / "splits" / "test.list").read_text().split()
    assert found["row"] == "supervised" and found["updates"] in (50, 100, 150) and len(found["dev_accuracy"]) <= 3


def test_phone_task_runs_and_passes_over_unlabelled_frames(data: Path, tmp_path: Path, config_file: Path) -> None:
    module.main(arguments(data, tmp_path / "exp", config_file, "updates=2", task="phone"))
    found = result(tmp_path / "exp", "phone")
    samples = dict(line.split() for line in (data / "utt2num_samples").read_text().splitlines())
    assert found["classes"] == 41
    assert found["frames"] == [
        int(samples[u]) // 160 - 1 for u in found["utterances"]
    ]  # each first frame is unlabelled


def test_fewer_updates_than_dev_every(data: Path, tmp_path: Path, config_file: Path) -> None:
    module.main(arguments(data, tmp_path / "exp", config_file, "updates=3", dev_every=250))
    assert result(tmp_path / "exp")["updates"] == 3


def test_last_updates_are_evaluated_too(data: Path, tmp_path: Path, config_file: Path) -> None:
    """400 updates with a dev evaluation every 250 must not throw 150 of them away."""
    module.main(arguments(data, tmp_path / "exp", config_file, "updates=5", "--patience", "9", dev_every=3))
    assert len(result(tmp_path / "exp")["dev_accuracy"]) == 2


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_resumes_bit_for_bit(
    data: Path, tmp_path: Path, config_file: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    """Ctrl-C comes in update 1 (no evaluation yet), in 3, and in 5; a last evaluation is gone back to."""
    module.main(arguments(data, tmp_path / "whole", config_file))
    real = module._loss
    calls = []

    def loss(*rest: Any) -> Any:
        calls.append(1)
        if len(calls) == stop_at:
            signal.raise_signal(signal.SIGINT)
        return real(*rest)

    monkeypatch.setattr(module, "_loss", loss)
    with pytest.raises(KeyboardInterrupt):
        module.main(arguments(data, tmp_path / "broken", config_file))
    module.main(arguments(data, tmp_path / "broken", config_file))
    whole, broken = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert list(whole) == list(broken) and all(torch.equal(whole[name], broken[name]) for name in whole)
    for key in ("correct", "dev_accuracy", "updates"):
        assert result(tmp_path / "whole")[key] == result(tmp_path / "broken")[key]


def test_its_time_counts_from_the_beginning(data: Path, tmp_path: Path, config_file: Path) -> None:
    """Also of what was done before it was stopped, here 5,000 seconds."""
    module.main(arguments(data, tmp_path, config_file))
    state = load_latest(tmp_path)
    assert state is not None and 0 < state["seconds"] <= result(tmp_path)["seconds"] < 1000
    checkpoint.save(tmp_path, state | {"seconds": 5000.0}, keep=1)
    module.main(arguments(data, tmp_path, config_file))
    assert 5000 < result(tmp_path)["seconds"] < 6000


def test_a_resumed_run_does_not_repeat_or_skip_updates(
    data: Path, tmp_path: Path, config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even with another --dev-every: go on at update 4, where the state is from, or refuse."""
    real = module.learning_rate
    updates: list[int] = []

    def learning_rate(config: Config, update: int) -> float:
        updates.append(update)
        if update == 5 and len(updates) == 6:
            signal.raise_signal(signal.SIGINT)
        return real(config, update)

    monkeypatch.setattr(module, "learning_rate", learning_rate)
    with pytest.raises(KeyboardInterrupt):
        module.main(arguments(data, tmp_path / "exp", config_file, "--patience", "9", dev_every=2))
    updates.clear()
    updates.append(-1)
    try:
        module.main(arguments(data, tmp_path / "exp", config_file, "--patience", "9", dev_every=1))
    except UserError:
        return
    assert updates == [-1, 4, 5, 6, 7]


def test_another_task_in_the_same_folder_is_refused(data: Path, tmp_path: Path, config_file: Path) -> None:
    module.main(arguments(data, tmp_path / "exp", config_file, "updates=2"))
    with pytest.raises(UserError, match="--exp"):
        module.main(arguments(data, tmp_path / "exp", config_file, "updates=2", task="phone"))


@pytest.mark.parametrize(
    "dev, patience, evaluations, chosen",
    [
        ([50, 60, 55, 60, 40], 3, 5, 2),  # a tie does not count as an improvement, and the first of both is the best
        ([50, 40, 45], 2, 3, 1),
        ([50, 40, 60, 55, 70, 65, 64], 2, 7, 5),
    ],
)
def test_stops_by_dev_and_tests_the_network_it_reports(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dev: list[int],
    patience: int,
    evaluations: int,
    chosen: int,
) -> None:
    audio, splits = load_splits(data)
    task = load_task("speaker", data, audio, splits)
    snapshots: list[torch.Tensor] = []

    def evaluate(model: module.Classifier, config: Config, audio: Any, task: Task, split: str) -> list[Answer]:
        """As many per cent of all frames right as ``dev`` says, or on test 99."""
        snapshots.append(model.output.weight.detach().clone())
        accuracy = 99 if split == "test" else dev[len(snapshots) - 1]
        targets = [task.targets[i] for i in task.splits[split]]
        wrong = np.arange(sum(map(len, targets))) >= accuracy / 100 * sum(map(len, targets))
        parts = np.split(wrong, np.cumsum([len(target) for target in targets])[:-1])
        return [Answer(np.where(part, -1, target), 0) for part, target in zip(parts, targets, strict=True)]

    monkeypatch.setattr(module, "evaluate", evaluate)
    config = Config(**{**vars(CONFIG), "updates": 40})
    score, facts = module.train(config, tmp_path / "exp", audio, task, 2, patience)
    assert score.accuracy == pytest.approx(99, abs=0.5)
    assert len(snapshots) == evaluations + 1
    assert facts["updates"] == 2 * chosen
    assert torch.equal(snapshots[-1], snapshots[chosen - 1])


@pytest.mark.parametrize("cause", ["audio", "labels"])
def test_a_non_finite_loss_names_an_utterance(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    """Audio that overflows; or a minibatch without any label, whose mean is 0/0."""
    audio, splits = load_splits(data)
    task = load_task("phone", data, audio, splits)
    if cause == "labels":
        task.targets = [np.full_like(target, -1) for target in task.targets]
    else:
        real = module.load_windows
        monkeypatch.setattr(module, "load_windows", lambda *rest: real(*rest) * np.nan)
    with pytest.raises(UserError, match=r"(ann|bob|eve)-\d\d\d"):
        module.train(CONFIG, tmp_path / "exp", audio, task, 2, 4)


def test_network_is_cpcs_without_its_predictors() -> None:
    model = module.Classifier(CONFIG, 41)
    names = [name for name, _ in model.named_parameters()]
    assert not [name for name in names if "predictors" in name]
    assert model(torch.zeros(2, 3200)).shape == (2, 20, 41)
    model(0.1 * torch.randn(2, 3200)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_fine_tuning_begins_with_the_pretrained_network(data: Path, tmp_path: Path, config_file: Path) -> None:
    pretrained = tmp_path / "pretrained"
    torch.manual_seed(9)
    settings = Config(**{**vars(CONFIG), "seed": 9, "batch_composition": "same_speaker", "steps": 3})
    model = checkpoint.build_model(settings)
    checkpoint.settle_config(pretrained, settings)
    checkpoint.save(pretrained, {"update": 7, "model": model.state_dict()}, 1)
    seen = module.Classifier(CONFIG, 3)
    facts = module.load_pretrained(seen, CONFIG, pretrained)
    assert (facts["experiment"], facts["updates"], facts["config"]["steps"]) == ("pretrained", 7, 3)
    for name, value in seen.cpc.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name

    exp = tmp_path / "exp"
    module.main(arguments(data, exp, config_file, "--init-from", str(pretrained)))
    found = json.loads((exp / "probes" / "finetuned.speaker.end_to_end.json").read_text())
    begun = json.loads((exp / "network.json").read_text())
    assert begun == {"row": "finetuned", "task": "speaker", "pretrained": facts}
    assert found["row"] == "finetuned" and found["pretrained"] == facts and (exp / "probes").is_dir()
    assert (exp / "probes" / "finetuned.speaker.end_to_end.pt").is_file()
    tuned = {name.removeprefix("best.cpc."): value for name, value in weights(exp).items() if "best.cpc." in name}
    assert not any(torch.equal(value, model.state_dict()[name]) for name, value in tuned.items()), "all is trained"

    with pytest.raises(UserError, match="was begun with --task speaker --dev-every 2, from pretrained"):
        module.main(arguments(data, exp, config_file))
    wide = tmp_path / "wide.yaml"
    wide.write_text(Config(**{**vars(CONFIG), "context_dim": 16}).dump())
    with pytest.raises(UserError, match="pretrained: its context_dim is 8, the configuration says 16"):
        module.main(arguments(data, tmp_path / "other", wide, "--init-from", str(pretrained)))
