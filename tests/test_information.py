"""The bound of mutual information: by plain loops, where it is known, and where the loss of training is none."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from conftest import MakeData
from runs import SMALL

from cpc_speech import checkpoint, information, steps_ahead
from cpc_speech.config import Config

SPEAKERS, WINDOWS, FRAMES = 20, 8, 128


def by_speaker(windows: int, seed: int) -> torch.Tensor:
    """Frames of windows that tell the window's speaker, drawn at random, and nothing else: a score of two is 100 where
    they have the speaker in common, else 0."""
    speakers = torch.randint(SPEAKERS, (windows,), generator=torch.Generator().manual_seed(seed))
    frames = 10 * torch.nn.functional.one_hot(speakers, SPEAKERS).float()
    return frames[:, None].expand(windows, FRAMES, SPEAKERS)


def expected_gain(others: int, each: int) -> float:
    """log N − loss where others' speakers are drawn independently, with so many frames each: a tie with all frames of
    the same speaker. E[log N − log(1 + each · Binomial(others, 1 / SPEAKERS))], exactly."""
    p = 1 / SPEAKERS
    chance = [math.comb(others, j) * p**j * (1 - p) ** (others - j) for j in range(others + 1)]
    return math.log(1 + others * each) - sum(q * math.log(1 + each * j) for j, q in enumerate(chance))


def test_what_is_known_is_the_speaker() -> None:
    """Below log 20, which is all that there is to know, and as computed exactly: 400 draws of 8 windows have a standard
    error of about 0.02 (a draw's values, between log 8 and 0, deviate by 0.4)."""
    random = torch.Generator().manual_seed(0)
    found = []
    for seed in range(400):
        z = by_speaker(WINDOWS, seed)
        found.append(float(information.gained(z[:, 1:], z, 1, random)))
    mean = sum(found) / len(found)
    assert mean == pytest.approx(expected_gain(WINDOWS - 1, 1), abs=0.06)
    assert expected_gain(WINDOWS - 1, 1) < expected_gain(information.CANDIDATES - 1, 1) < math.log(SPEAKERS)


def test_of_negatives_that_share_windows_it_would_be_no_bound() -> None:
    """What the module says of mixed speaker (excl.): all frames of the 7 other windows."""
    assert expected_gain(WINDOWS - 1, FRAMES) == pytest.approx(5.30, abs=0.005) and math.log(SPEAKERS) < 3.0


@pytest.mark.parametrize("k", [1, 3])
def test_equals_plain_loops(k: int) -> None:
    random = torch.Generator().manual_seed(0)
    z, prediction = torch.randn(4, 6, 5, generator=random), torch.randn(4, 6 - k, 5, generator=random)
    chosen = torch.randint(k, 6, (6 - k, 4), generator=torch.Generator().manual_seed(7))
    total = 0.0
    for i in range(4):
        for t in range(6 - k):
            positive = float(prediction[i, t] @ z[i, t + k])
            negatives = [float(prediction[i, t] @ z[j, chosen[t, j]]) for j in range(4) if j != i]
            total += math.log(4) - math.log(sum(math.exp(score - positive) for score in [positive, *negatives]))
    found = float(information.gained(prediction, z, k, torch.Generator().manual_seed(7)))
    assert found == pytest.approx(total / (4 * (6 - k)), abs=1e-5)  # of float32


def test_a_model_that_tells_nothing(make_data: MakeData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictors of zeros score all candidates alike: 0 nats for each step."""
    monkeypatch.setattr(information, "CANDIDATES", 6)
    data = make_data([56000] * 24, [("ann", "bob", "eve")[i // 8] for i in range(24)])
    model = checkpoint.build_model(Config(**SMALL)).eval()
    windows = steps_ahead.fixed_windows(data, 1)
    assert {len(windows[0, j].windows) for j in range(5)} == {1}
    with torch.no_grad():
        for predictor in model.predictors:
            predictor.get_parameter("weight").zero_()
    measured = information.measure(model, windows)
    steps = Config(**SMALL).steps
    assert measured["information"] == pytest.approx([0] * steps, abs=1e-6) and measured["independent_windows"] == 6
    assert len(measured["information_ci95"]) == steps
