"""The linear probe where the right answer is known, and against scikit-learn."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cpc_speech import probe as module
from cpc_speech.features import FeatureStore
from cpc_speech.progress import Progress
from cpc_speech.tasks import Task

CPU = torch.device("cpu")


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
    monkeypatch.setattr(module, "Progress", functools.partial(Progress, disable=True))
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
    for k, rate in enumerate(module.LEARNING_RATES):
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
    assert facts["learning_rate"] == module.LEARNING_RATES[1]
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
    assert facts["hidden"] == 256 and facts["learning_rate"] in module.LEARNING_RATES


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
