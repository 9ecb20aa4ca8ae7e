"""The linear probe where the right answer is known, against scikit-learn, and as a command."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import assert_equal_states
from tqdm import tqdm

from cpc_speech import checkpoint
from cpc_speech import probe as module
from cpc_speech.config import Config
from cpc_speech.errors import UserError
from cpc_speech.features import FeatureStore
from cpc_speech.kaldi import read_int_vectors, write_int_vectors
from cpc_speech.tasks import Task

CPU = torch.device("cpu")


@pytest.fixture
def few_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten passes, however small the corpus: for tests that do not need the optimum."""
    monkeypatch.setattr(module, "UPDATES", 1, raising=False)


def gaussians(
    folder: Path, means: np.ndarray, utterances: int = 60, frames: int = 500, mixed: bool = True
) -> tuple[FeatureStore, Task]:
    """Frames of normal classes of unit covariance, shifted and, if ``mixed``, correlated by a linear map.

    Every tenth frame is unlabelled and lies elsewhere. Of the utterances, 3/6 are train, 1/6 dev and 2/6 test.
    """
    rng = np.random.default_rng(0)
    classes, dim = means.shape
    mix, shift = 3 * np.eye(dim) + mixed * rng.normal(size=(dim, dim)), rng.normal(size=dim)
    targets = [rng.integers(classes, size=frames) for _ in range(utterances)]
    rows = [(means[y] + rng.normal(size=(frames, dim))) @ mix + shift for y in targets]
    for y, x in zip(targets, rows, strict=True):
        y[::10] = -1
        x[::10] += 3
    np.concatenate(rows).astype(np.float16).tofile(folder / "x.f16")
    store = FeatureStore(folder / "x.f16", [f"u{i:02d}" for i in range(utterances)], np.full(utterances, frames), dim)
    splits = {
        "train": [i for i in range(utterances) if i % 6 < 3],
        "dev": [i for i in range(utterances) if i % 6 == 3],
        "test": [i for i in range(utterances) if i % 6 > 3],
    }
    store.standardise(splits["train"])
    return store, Task("phone", classes, targets, splits)


@pytest.mark.parametrize("distance", [1.0, 2.0])
def test_reaches_the_accuracy_of_the_best_classifier(tmp_path: Path, distance: float) -> None:
    """Two unit normals at this distance: Bayes' rule is linear and right with probability Φ(distance / 2)."""
    direction = np.array([0.6, 0, 0.8, 0])
    store, task = gaussians(tmp_path, np.stack([-distance / 2 * direction, distance / 2 * direction]))
    score, _, _ = module.probe(store, task, seed=0)
    best = 100 * (1 + math.erf(distance / 2 / math.sqrt(2))) / 2
    assert sum(score.frames) == 20 * 450  # the labelled ones of test
    # 9,000 frames: a standard error of at most 0.5 points, three of which either way.
    assert score.accuracy == pytest.approx(best, abs=1.5)


@pytest.mark.parametrize("mixed", [False, True])
def test_agrees_with_scikit_learn(tmp_path: Path, mixed: bool) -> None:
    """Also where the inputs are correlated, as every network's are, and the loss is flat in some directions."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    means = 1.2 * np.random.default_rng(3).normal(size=(6, 8))
    store, task = gaussians(tmp_path, means, utterances=120, mixed=mixed)
    score, _, _ = module.probe(store, task, seed=0)

    def frames(split: str) -> tuple[np.ndarray, np.ndarray]:
        y = np.concatenate([task.targets[i] for i in task.splits[split]])
        return np.concatenate([store[i].numpy() for i in task.splits[split]])[y >= 0], y[y >= 0]

    reference = linear_model.LogisticRegression(C=1e6, max_iter=500).fit(*frames("train"))
    # Two optimisers of one convex loss, judged on the same frames: only frames near a boundary may differ.
    assert score.accuracy == pytest.approx(100 * reference.score(*frames("test")), abs=0.5)
    assert score.accuracy > 60  # of six classes: something was learnt


@pytest.mark.usefixtures("few_passes")
def test_result_depends_on_the_seed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on the progress bar, which TQDM_DISABLE=1 in the environment turns off."""
    store, task = gaussians(tmp_path, np.eye(3, 4), utterances=12, frames=300)
    first = [p.get_parameter("weight") for p in module.fit(store, task, 1, CPU)]
    other = [p.get_parameter("weight") for p in module.fit(store, task, 2, CPU)]
    monkeypatch.setattr(module, "tqdm", functools.partial(tqdm, disable=True))
    again = [p.get_parameter("weight") for p in module.fit(store, task, 1, CPU)]
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.usefixtures("few_passes")
def test_learning_rate_falls_to_zero_over_the_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, task = gaussians(tmp_path, np.eye(3, 4), utterances=12, frames=300)
    rates: list[list[float]] = []
    real = torch.optim.Adam.step

    def step(self: torch.optim.Adam, *rest: Any) -> Any:
        rates.append([group["lr"] for group in self.param_groups])
        return real(self, *rest)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    module.fit(store, task, 0, CPU)
    labelled = 6 * 270
    passes = len(rates) // 2
    assert passes >= module.PASSES
    sizes = [1024, labelled - 1024] * passes
    done = np.cumsum([0, *sizes[:-1]]) / (labelled * passes)
    for k, rate in enumerate(module.LEARNING_RATES["linear"]):
        np.testing.assert_allclose([r[k] for r in rates], rate * (1 - done), rtol=1e-9)


def test_dev_chooses_and_test_is_read_once_by_the_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four classifiers of known accuracy; the best on test is not the best on dev."""
    store, task = gaussians(tmp_path, np.eye(2, 4), utterances=12, frames=100)
    truth = {tuple(store[i][0].tolist()): (i, task.targets[i]) for i in range(12)}
    right_share = {"dev": [0.2, 0.9, 0.5, 0.3], "test": [1.0, 0.6, 0.9, 0.95]}
    reads = {"dev": 0, "test": 0}

    def classifier(k: int) -> Any:
        def classify(x: torch.Tensor) -> torch.Tensor:
            i, y = truth[tuple(x[0].tolist())]
            split = next(split for split in task.splits if i in task.splits[split])
            reads[split] += 1
            right = np.arange(len(y)) < round(right_share[split][k] * len(y))
            return torch.nn.functional.one_hot(
                torch.from_numpy(np.where(right, np.maximum(y, 0), 1 - np.maximum(y, 0))), 2
            )

        return classify

    monkeypatch.setattr(module, "fit", lambda *_: [classifier(k) for k in range(4)])
    score, _, facts = module.probe(store, task, 0)
    assert facts["learning_rate"] == module.LEARNING_RATES["linear"][1]
    assert facts["dev_accuracy"] == pytest.approx([20, 90, 50, 30], abs=1)  # every tenth frame does not count
    assert score.accuracy == pytest.approx(60, abs=1)
    assert reads == {"dev": 4 * 2, "test": 4}


def test_a_hidden_layer_tells_what_no_line_can(tmp_path: Path) -> None:
    """Two classes at opposite corners of a square each: a line is right at three corners at most, two are for
    Φ(d)² + Φ(−d)² of the frames, where every corner is d from the axes."""
    rng = np.random.default_rng(0)
    targets = [rng.integers(2, size=500) for _ in range(60)]
    corners = [rng.choice([-2.0, 2.0], size=500) for _ in targets]
    rows = [np.stack([c, c * (1 - 2 * y)], 1) + rng.normal(size=(500, 2)) for c, y in zip(corners, targets)]
    np.concatenate(rows).astype(np.float16).tofile(tmp_path / "x.f16")
    store = FeatureStore(tmp_path / "x.f16", [f"u{i:02d}" for i in range(60)], np.full(60, 500), 2)
    splits = {"train": list(range(30)), "dev": list(range(30, 40)), "test": list(range(40, 60))}
    store.standardise(splits["train"])
    task = Task("phone", 2, targets, splits)
    right = (1 + math.erf(2 / math.sqrt(2))) / 2
    linear, _, _ = module.probe(store, task, seed=0)
    hidden, _, facts = module.probe(store, task, seed=0, kind="mlp")
    # 10,000 frames: a standard error of at most 0.5 points, three of which either way.
    assert linear.accuracy < 75 + 1.5
    assert hidden.accuracy == pytest.approx(100 * (right**2 + (1 - right) ** 2), abs=1.5)
    assert facts["hidden"] == 256 and facts["learning_rate"] in module.LEARNING_RATES["mlp"]


def test_utterances_by_their_mean_over_time() -> None:
    task = Task("speaker", 2, [np.array([1, 1, 1]), np.array([0]), np.array([], np.int64), np.array([0, 0])], {})
    task.splits["test"] = [3, 0, 1, 2]
    logits = [
        torch.tensor([[0.0, 1.0], [3.0, 0.0]]),  # class 1 has one frame, class 0 the greater mean
        torch.tensor([[9.0, 0.0], [0.0, 4.0], [0.0, 4.0]]),  # class 1 has two frames, class 0 the greater mean
        torch.tensor([[0.0, 1.0]]),
        torch.empty(0, 2),
    ]
    score, details = module.score_test([module.answer(frames) for frames in logits], ["a", "b", "c", "d"], task)
    assert details == {"utterances_right": [1, 0, 0, 0]}
    assert score.correct == [1, 2, 0, 0] and score.frames == [2, 3, 1, 0] and score.utterances == ["d", "a", "b", "c"]


def test_confusion_counts_the_labelled_frames_of_test() -> None:
    task = Task("phone", 3, [np.array([0, 1, -1, 2]), np.array([1, 1])], {"test": [1, 0]})
    said = [np.array([1, 2]), np.array([0, 1, 1, 0])]
    score, details = module.score_test([module.Answer(classes, 0) for classes in said], ["a", "b"], task)
    assert details == {"confusion": [[1, 0, 0], [0, 2, 1], [1, 0, 0]]}
    assert score.correct == [1, 2] and score.frames == [2, 3]


def run(data: Path, exp: Path, *more: str) -> dict[str, dict]:
    module.main(["--data", str(data), "--exp", str(exp), *more])
    left = {path.name for path in exp.iterdir()} - {"config.yaml", "checkpoints"}
    assert left == {"probes"}  # and no features: of a large corpus they are gigabytes
    return {path.name: json.loads(path.read_text()) for path in sorted((exp / "probes").glob("*.json"))}


@pytest.fixture
def settings(tmp_path: Path) -> tuple[Config, Path]:
    config = Config(channels=16, context_dim=8, steps=2, window_samples=1600, windows=2, seed=3)
    (tmp_path / "tiny.yaml").write_text(config.dump())
    return config, tmp_path / "tiny.yaml"


@pytest.mark.usefixtures("few_passes")
def test_mfcc_command_tells_the_speakers_apart(data: Path, tmp_path: Path) -> None:
    results = run(data, tmp_path / "exp", "--representation", "mfcc")
    assert list(results) == ["mfcc.phone.linear.json", "mfcc.speaker.linear.json"]
    speaker, phone = results["mfcc.speaker.linear.json"], results["mfcc.phone.linear.json"]
    assert speaker["accuracy"] > 90  # noise of three colours
    assert phone["accuracy"] < phone["majority"] + 10  # the labels of noise mean nothing
    assert speaker["utterances"] == (data / "splits" / "test.list").read_text().split()
    assert sum(speaker["frames"]) == sum(phone["frames"]) + 9  # one unlabelled frame in each of 9 test utterances
    for facts in results.values():
        assert {
            "row",
            "task",
            "probe",
            "accuracy",
            "ci95",
            "majority",
            "learning_rate_by_seed",
            "commit",
            "command",
            "machine",
        } <= set(facts)
        assert facts["ci95"][0] <= facts["accuracy"] <= facts["ci95"][1]


@pytest.mark.usefixtures("few_passes")
@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_several_seeds_are_the_sum_of_each(data: Path, tmp_path: Path, kind: str) -> None:
    """All counts, so that the accuracy is the mean; the classifier that is kept is the first seed's."""
    common = ["--representation", "mfcc", "--probe", kind, "--seed"]
    alone = [run(data, tmp_path / seed, *common, seed) for seed in "583"]
    both = run(data, tmp_path / "all", *common, "5", "8", "3", "8")
    for name, facts in both.items():
        each = [results[name] for results in alone]
        assert facts["probe_seeds"] == [5, 8, 3] and facts["utterances"] == each[0]["utterances"]
        keys = ["correct", "frames", "confusion" if facts["task"] == "phone" else "utterances_right"]
        for key in keys:
            assert np.array_equal(facts[key], np.sum([one[key] for one in each], axis=0)), key
        for key in ("accuracy", "learning_rate", "dev_accuracy"):
            assert facts[f"{key}_by_seed"] == [one[f"{key}_by_seed"][0] for one in each]
        assert facts["accuracy"] == pytest.approx(np.mean([one["accuracy"] for one in each]))
    phones = [results[f"mfcc.phone.{kind}.json"]["correct"] for results in alone]
    assert phones[0] != phones[1], "a seed makes a difference"
    kept, first = (tmp_path / folder / "probes" / "mfcc.phone.linear.pt" for folder in ("all", "5"))
    if kind == "linear":
        assert_equal_states(*(torch.load(path, weights_only=True) for path in (kept, first)))


@pytest.mark.usefixtures("few_passes")
def test_network_commands(data: Path, tmp_path: Path, settings: tuple[Config, Path]) -> None:
    config, file = settings
    exp = tmp_path / "exp"
    checkpoint.settle_config(exp, config)
    checkpoint.save(exp, {"update": 0, "model": checkpoint.build_model(config).state_dict()}, 1)
    results = run(data, exp, "--task", "speaker")
    results = run(data, exp, "--task", "speaker", "--probe-context", "window")
    results = run(data, exp, "--task", "speaker", "--representation", "z")
    results = run(data, exp, "--task", "speaker", "--representation", "random", "--config", str(file))
    assert list(results) == [f"{name}.speaker.linear.json" for name in ("c", "c.window", "random", "z")]
    c, random = results["c.speaker.linear.json"], results["random.speaker.linear.json"]
    assert c["correct"] == random["correct"]  # the checkpoint holds the untrained network of the same seed
    assert c["correct"] != results["c.window.speaker.linear.json"]["correct"]
    assert c["config"] == vars(config) and c["seed"] == 3 and random["updates"] == 0


@pytest.mark.usefixtures("few_passes")
def test_probe_computes_in_fp32_for_every_representation(
    data: Path, tmp_path: Path, settings: tuple[Config, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network's bf16 must not reach the classifier: MFCC's is fitted in fp32, and the rows are compared."""
    seen = []
    real = module.fit

    def fit(*rest: Any) -> Any:
        seen.append([getattr(torch.backends, name).matmul.fp32_precision for name in ("mkldnn", "cuda")])
        return real(*rest)

    monkeypatch.setattr(module, "fit", fit)
    run(data, tmp_path / "a", "--task", "speaker", "--representation", "random", "--config", str(settings[1]))
    assert settings[0].precision == "bf16"
    assert all("bf16" not in precision and "tf32" not in precision for precision in seen[0])


def test_what_is_missing_is_said(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--config"):
        run(data, tmp_path, "--representation", "random")
    with pytest.raises(UserError, match="carry no context"):
        run(data, tmp_path, "--representation", "mfcc", "--probe-context", "window")
    with pytest.raises(UserError, match="holds no checkpoint"):
        run(data, tmp_path / "nothing")


@pytest.mark.usefixtures("few_passes")
def test_labels_of_others_and_moved_ones_are_results_of_their_own(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("phones.ark", "phones.scp"):
        (other / name).write_bytes((data / name).read_bytes())
    (other / "labels.json").write_text('{"by": "phones by hand.ctm"}')
    exp = tmp_path / "exp"
    command = ["--representation", "mfcc", "--labels", str(other), "--label-shift", "-1", "2"]
    assert run(data, exp, *command) == {}, "table 1 is not touched"
    found = {path.name: json.loads(path.read_text()) for path in (exp / "probes" / "labels").iterdir()}
    assert set(found) == {"mfcc.phones_by_hand_ctm.-1.json", "mfcc.phones_by_hand_ctm.+2.json"}
    frames = sum(found["mfcc.phones_by_hand_ctm.-1.json"]["frames"])
    # A frame at each end has no label that was moved onto it; the first, unlabelled one has left, or come in.
    assert sum(found["mfcc.phones_by_hand_ctm.+2.json"]["frames"]) == frames - 2 * 9
    for facts in found.values():
        assert facts["labels"] == "phones by hand.ctm" and facts["task"] == "phone"
    with pytest.raises(UserError, match="leave out --task speaker"):
        run(data, exp, *command, "--task", "speaker")


def undated(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: {**facts, "date": None, "command": None} for name, facts in results.items()}


@pytest.mark.usefixtures("few_passes")
def test_what_was_probed_before_a_kill_is_left_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["--representation", "mfcc", "--probe", "linear", "mlp"]
    undisturbed = run(data, tmp_path / "undisturbed", *command)
    fitted: list[str] = []
    real = module.probe_seeds

    def probe_seeds(store: FeatureStore, task: Task, seeds: Any, kind: str) -> Any:
        if len(fitted) == 2:
            raise KeyboardInterrupt
        fitted.append(f"{task.name}.{kind}")
        return real(store, task, seeds, kind)

    monkeypatch.setattr(module, "probe_seeds", probe_seeds)
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "exp", *command)
    again = fitted[:]
    fitted.clear()
    results = run(data, tmp_path / "exp", *command)
    assert len(again + fitted) == len({*again, *fitted}) == 4, "each was fitted once"
    assert undated(results) == undated(undisturbed)
    fitted.clear()
    run(data, tmp_path / "exp", *command, "--task", "phone")
    assert fitted == []
    run(data, tmp_path / "exp", *command, "--task", "phone", "--force")
    assert fitted == ["phone.linear", "phone.mlp"]


@pytest.mark.usefixtures("few_passes")
@pytest.mark.parametrize("change", ["seed", "weights", "labels", "splits", "audio", "nothing"])
def test_a_result_of_other_inputs_is_made_anew(
    data: Path, tmp_path: Path, settings: tuple[Config, Path], caplog: pytest.LogCaptureFixture, change: str
) -> None:
    config, _ = settings
    exp, command = tmp_path / "exp", ["--task", "speaker" if change == "audio" else "phone"]
    checkpoint.settle_config(exp, config)
    weights = checkpoint.build_model(config).state_dict()
    checkpoint.save(exp, {"update": 0, "model": weights}, 1)
    run(data, exp, *command)
    caplog.set_level("INFO")
    if change == "seed":
        command += ["--seed", "7"]
    elif change == "weights":
        next(iter(weights.values())).add_(0.1)
        checkpoint.save(exp, {"update": 0, "model": weights}, 1)
    elif change == "labels":
        rolled = [(utterance, np.roll(labels, 1)) for utterance, labels in read_int_vectors(data / "phones.scp")]
        write_int_vectors(data / "phones.ark", data / "phones.scp", rolled)
    elif change == "splits":
        train, dev = data / "splits" / "train.list", data / "splits" / "dev.list"
        first, *rest = train.read_text().split()
        train.write_text("".join(f"{utterance}\n" for utterance in rest))
        dev.write_text("".join(f"{utterance}\n" for utterance in sorted([first, *dev.read_text().split()])))
    elif change == "audio":
        (data / "audio.scp").write_text((data / "audio.scp").read_text())
    run(data, exp, *command)
    assert ("probed already" in caplog.text) == (change == "nothing")
