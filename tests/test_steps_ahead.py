"""Accuracies by steps ahead: against plain loops, where they are known, and over the same windows for every model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MakeData
from runs import SMALL, packed_samples
from torch import Tensor

from cpc_speech import checkpoint, steps_ahead
from cpc_speech.config import Config
from cpc_speech.errors import UserError
from cpc_speech.provenance import provenance


def beaten_by_loops(prediction: Any, z: Any, k: int) -> list[list[int]]:
    """Negatives below the positive, of frame (i, t): every frame of every window but (i, t + k) is one."""
    B, T = len(z), len(z[0])

    def score(i: int, t: int, j: int, s: int) -> float:
        return sum(p * x for p, x in zip(prediction[i][t], z[j][s], strict=True))

    return [
        [
            sum(score(i, t, j, s) < score(i, t, i, t + k) for j in range(B) for s in range(T) if (j, s) != (i, t + k))
            for t in range(T - k)
        ]
        for i in range(B)
    ]


@pytest.mark.parametrize("k", [1, 3])
def test_beaten_equals_plain_loops(k: int) -> None:
    """Of small whole numbers, so that sums are exact and many scores tie."""
    random = torch.Generator().manual_seed(k)
    z = torch.randint(-2, 3, (3, 6, 4), generator=random)
    prediction = torch.randint(-2, 3, (3, 6 - k, 4), generator=random)
    beaten = steps_ahead.negatives_beaten(prediction.float(), z.float(), k)
    expected = beaten_by_loops(prediction.tolist(), z.tolist(), k)
    assert beaten.tolist() == expected
    assert len(set(sum(expected, []))) > 4


def test_a_tie_is_a_miss() -> None:
    z = torch.ones(2, 5, 3)
    assert not steps_ahead.negatives_beaten(z[:, 1:], z, 1).any()


def test_a_perfect_prediction_beats_all() -> None:
    z = torch.eye(12).view(2, 6, 12)
    assert (steps_ahead.negatives_beaten(z[:, 2:], z, 2) == 11).all()


def test_counts_of_a_model_equal_plain_loops() -> None:
    """Every step by its own predictor, the context from the frame that many steps before."""
    model = checkpoint.build_model(Config(**SMALL)).eval()
    heard = 0.1 * torch.randn(2, 960, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z, c = model(heard)
    expected = []
    for k, predictor in enumerate(model.predictors, 1):
        W = predictor.get_parameter("weight").double()
        prediction = [[(W @ c[i, t].double()).tolist() for t in range(6 - k)] for i in range(2)]
        beaten = sum(beaten_by_loops(prediction, z.double().tolist(), k), [])
        expected.append([sum(number == 11 for number in beaten), sum(beaten)])
    assert steps_ahead.count(model, heard).tolist() == expected


def long_data(make_data: MakeData, **options: int) -> Path:
    """3 speakers with 8 utterances each of 2 s: of test 2 each, with room for 8 windows and more."""
    return make_data([56000] * 24, [("ann", "bob", "eve")[i // 8] for i in range(24)], **options)


def test_windows_are_of_test_and_always_the_same(make_data: MakeData) -> None:
    data = long_data(make_data)
    test = (data / "splits" / "test.list").read_text().split()
    windows, again = steps_ahead.fixed_windows(data), steps_ahead.fixed_windows(data)
    samples = packed_samples(data)
    seen = set()
    for j in range(20):
        minibatch = windows[0, j]
        assert minibatch.windows == again[0, j].windows
        for window, heard in zip(minibatch.windows, minibatch.samples.numpy(), strict=True):
            utterance = windows.audio.utterances[window.utterance]
            seen.add(utterance)
            np.testing.assert_array_equal(heard, samples[utterance][window.start : window.start + 20480])
    assert seen == set(test)


def test_a_small_test_split_has_smaller_minibatches(make_data: MakeData, caplog: pytest.LogCaptureFixture) -> None:
    assert steps_ahead.fixed_windows(long_data(make_data, test_every=4)).sampler.windows == 6
    assert "sure to hold only 6 windows" in caplog.text


def test_too_small_a_test_split(make_data: MakeData) -> None:
    data = make_data([20479, 20480, 20480, 30000], ["ann"] * 4)
    with pytest.raises(UserError, match=r"test\.list: its audio has room for 0 windows of 20480 samples"):
        steps_ahead.fixed_windows(data)


def experiment(folder: Path, **settings: Any) -> Path:
    config = Config(**(SMALL | settings))
    checkpoint.settle_config(folder, config)
    model = checkpoint.build_model(config)
    checkpoint.save(folder, {"model": model.state_dict(), "update": 5}, keep=1)
    return folder


def run(data: Path, exp: Path, *options: str) -> dict[str, Any]:
    steps_ahead.main(["--data", str(data), "--exp", str(exp), "--minibatches", "3", *options])
    return json.loads((exp / "steps_ahead.json").read_text())


def test_the_command(make_data: MakeData, tmp_path: Path) -> None:
    data = long_data(make_data)
    facts = run(data, experiment(tmp_path / "a", steps=3))
    windows = steps_ahead.fixed_windows(data)
    _, model, _ = checkpoint.load_experiment(tmp_path / "a")
    counted = torch.stack([steps_ahead.count(model, heard(windows, j)) for j in range(3)]).sum(0)
    n = 6 * 128
    for k in (1, 2, 3):
        predictions = 3 * 6 * (128 - k)
        top1, beaten = counted[k - 1].tolist()
        assert facts["top1"][k - 1] == pytest.approx(100 * top1 / predictions)
        assert facts["pairwise"][k - 1] == pytest.approx(100 * beaten / predictions / (n - 1))
        for name in ("top1", "pairwise"):
            low, high = facts[f"{name}_ci95"][k - 1]
            assert 0 <= low <= facts[name][k - 1] <= high <= 100
    # An untrained network's predictions know nothing: half of the negatives, within many times the interval.
    assert facts["pairwise"] == pytest.approx([50] * 3, abs=20)
    assert (facts["candidates"], facts["chance"]) == (n, {"top1": 100 / n, "pairwise": 50})
    assert facts["row"] == "mixed speaker, 3 steps, windows of 3,200 samples"
    assert (facts["steps"], facts["updates"], facts["split"]) == (3, 5, "test")
    assert set(provenance()) <= set(facts)


def heard(windows: Any, j: int) -> Tensor:
    return windows[0, j].samples.float() / 32768


def test_models_of_any_negatives_and_precision_choose_among_the_same(make_data: MakeData, tmp_path: Path) -> None:
    """One network, said to be trained in different ways, gets the same figures."""
    data = long_data(make_data)
    first = run(data, experiment(tmp_path / "a"))
    other = {"candidates": "current_window", "batch_composition": "same_speaker", "negatives": 5, "precision": "fp32"}
    again = run(data, experiment(tmp_path / "b", **other))
    for key in ("candidates", "chance", "top1", "top1_ci95", "pairwise", "pairwise_ci95", "information"):
        assert first[key] == again[key]


def test_slips(make_data: MakeData, tmp_path: Path) -> None:
    data = long_data(make_data)
    with pytest.raises(UserError, match="128 steps do not fit the 128 frames"):
        run(data, experiment(tmp_path / "a", steps=128, window_samples=40960))
    with pytest.raises(UserError, match="holds no checkpoint; name an experiment"):
        run(data, tmp_path / "nothing")
    with pytest.raises(SystemExit):
        run(data, tmp_path / "a", "--minibatches", "1")
    assert not (tmp_path / "a" / "steps_ahead.json").exists()
