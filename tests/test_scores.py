"""Intervals against the normal approximation and a bootstrap in loops."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import oracles
import pytest

from cpc_speech.errors import UserError
from cpc_speech.probe_facts import show_grid_ends
from cpc_speech.scores import Score, load_score, mean_accuracy, mean_difference, pooled, save_score, wilson


def score(seed: int, utterances: int = 300, p: float = 0.6) -> Score:
    """Utterances of different length and difficulty."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(50, 1500, utterances)
    correct = rng.binomial(frames, np.clip(rng.normal(p, 0.1, utterances), 0, 1))
    return Score([f"u{i:04d}" for i in range(utterances)], correct.tolist(), frames.tolist())


def test_accuracy_is_over_frames_not_over_utterances() -> None:
    assert Score(["a", "b"], [9, 0], [10, 90]).accuracy == pytest.approx(9.0)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_interval_agrees_with_the_normal_approximation(seed: int) -> None:
    s = score(seed)
    error = oracles.ratio_standard_error(s.correct, s.frames)
    low, high = s.interval()
    # The 2.5 % quantile of 2,000 resamples has a standard deviation of √(0.025·0.975/2000)/φ(1.96) = 0.06 errors:
    # four of those, and as much again for the skewness of 300 utterances, which the approximation leaves out.
    assert low == pytest.approx(s.accuracy - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(s.accuracy + 1.96 * error, abs=0.3 * error)


def test_interval_agrees_with_a_bootstrap_in_loops() -> None:
    s = score(4, utterances=40)  # few, so that a normal approximation would not do
    error = oracles.ratio_standard_error(s.correct, s.frames)
    # Monte Carlo errors of both (0.06 standard errors each): four times √2 · 0.06.
    assert s.interval() == pytest.approx(oracles.bootstrap(s.correct, s.frames, 2000, seed=9), abs=0.34 * error)


def test_frames_of_one_utterance_are_not_taken_for_independent() -> None:
    """All frames of an utterance right or all wrong: the interval is that of 100 coins, not of 100,000."""
    s = Score([f"u{i:03d}" for i in range(100)], [1000 * (i % 2) for i in range(100)], [1000] * 100)
    low, high = s.interval()
    assert high - low == pytest.approx(2 * 1.96 * 5.0, rel=0.15)  # √(¼/100) = 5 points


def test_constant_accuracy_has_no_width() -> None:
    assert Score(["a", "b", "c"], [5, 10, 20], [10, 20, 40]).interval() == (50.0, 50.0)


def test_mean_over_seeds() -> None:
    """45, 47 and 52 % of every utterance: only seeds vary, by √(13 / 3) of the mean, and Student's t of 2 is 4.3027. Of
    one seed, the interval over utterances."""
    seeds = [Score(["a", "b", "c"], [share, 2 * share, 4 * share], [100, 200, 400]) for share in (45, 47, 52)]
    half = 4.302653 * (13 / 3) ** 0.5
    assert mean_accuracy(seeds) == pytest.approx((48, 48 - half, 48 + half), abs=1e-5)
    assert mean_accuracy([score(1)]) == (score(1).accuracy, *score(1).interval())


def test_wilson() -> None:
    """By its definition, the shares p of which the observed one is 1.96 standard errors away; and of all right."""
    for share, number in ((75.0, 20), (100.0, 262), (0.0, 5), (99.6, 262)):
        for p in (bound / 100 for bound in wilson(share, number)):
            assert abs(share / 100 - p) == pytest.approx(1.959964 * math.sqrt(p * (1 - p) / number), abs=1e-6)
    low, high = wilson(100, 262)
    assert low == pytest.approx(98.55, abs=0.01) and high == pytest.approx(100)


def test_grid_ends_are_told_where_all_seeds_chose_them() -> None:
    facts = {"task": "phone", "learning_rates": [1e-3, 3e-3, 1e-2]}
    low = facts | {"learning_rate_by_seed": [1e-3] * 2, "dev_accuracy_by_seed": [[50.5, 50.0, 49], [50.3, 50.0, 49]]}
    high = facts | {"learning_rate_by_seed": [1e-2], "dev_accuracy_by_seed": [[48, 50.0, 51.0]]}
    mixed = low | {"learning_rate_by_seed": [1e-3, 3e-3]}
    assert show_grid_ends([("a", mixed), ("b", {"task": "phone"})]) == ""
    said = show_grid_ends([("a", low), ("b", high), ("c", mixed)])
    assert said.endswith("worse on dev: a, phone: 0.001, 0.40; b, phone: 0.01, 1.00. ")


def test_difference_is_paired() -> None:
    """Better by exactly 5 frames of every hundred: certain, though each accuracy alone is not."""
    frames = [100] * 60
    a = Score([f"u{i:02d}" for i in range(60)], [20 + i for i in range(60)], frames)
    b = Score(a.utterances, [c + 5 for c in a.correct], frames)
    assert b.difference(a) == pytest.approx((5.0, 5.0, 5.0))
    assert a.difference(b) == pytest.approx((-5.0, -5.0, -5.0))
    assert a.interval()[1] - a.interval()[0] > 5


def test_difference_of_independent_errors_has_the_interval_of_their_sum() -> None:
    a, b = score(5), score(6, p=0.5)
    b = Score(a.utterances, [round(c * f / g) for c, f, g in zip(b.correct, a.frames, b.frames, strict=True)], a.frames)
    error = (
        100
        * np.sqrt(
            sum(
                ((x - a.accuracy / 100 * f) - (y - b.accuracy / 100 * f)) ** 2
                for x, y, f in zip(a.correct, b.correct, a.frames, strict=True)
            )
        )
        / sum(a.frames)
    )
    value, low, high = a.difference(b)
    assert value == pytest.approx(a.accuracy - b.accuracy)
    assert (low, high) == pytest.approx((value - 1.96 * error, value + 1.96 * error), abs=0.3 * error)  # as above


def test_other_utterances_cannot_be_paired() -> None:
    with pytest.raises(UserError, match="cannot be paired"):
        Score(["a", "b"], [1, 2], [3, 3]).difference(Score(["a", "c"], [1, 2], [3, 3]))


def test_pooled_scores_are_resampled_as_one() -> None:
    """The accuracy is the mean of the seeds'; counts that agree add nothing to how sure one is."""
    a, b = score(8), score(9)
    b = Score(a.utterances, [min(c, f) for c, f in zip(b.correct, a.frames, strict=True)], a.frames)
    assert pooled([a, b]).accuracy == pytest.approx((a.accuracy + b.accuracy) / 2)
    assert pooled([a, a, a]).interval() == pytest.approx(a.interval())
    assert pooled([a, a]).difference(b) == pytest.approx(a.difference(b))
    # Of one reference, the difference of the sum is the mean of the differences.
    assert pooled([a, b]).difference(a)[0] == pytest.approx(b.difference(a)[0] / 2)


def better(by: Sequence[int]) -> list[tuple[Score, Score]]:
    """Pairs of scores, the first of which is right in so many more of every hundred frames."""
    base = Score([f"u{i:02d}" for i in range(60)], [20 + i for i in range(60)], [100] * 60)
    return [(Score(base.utterances, [c + more for c in base.correct], base.frames), base) for more in by]


def test_mean_difference_of_one_seed_is_its_paired_bootstrap() -> None:
    a, b = score(5), score(5, p=0.55)
    assert mean_difference([(a, b)]) == a.difference(b)


def test_mean_difference_knows_the_spread_of_seeds() -> None:
    """All utterances alike, so that the seeds alone vary: Student's interval of their mean. Of 1, 2, 6: s² = 7, and
    t(0.975) of 2 degrees of freedom is 4.3027."""
    half = 4.3027 * (7 / 3) ** 0.5
    assert mean_difference(better([1, 2, 6])) == pytest.approx((3, 3 - half, 3 + half), abs=1e-3)
    assert mean_difference(better([4, 4])) == pytest.approx((4, 4, 4))


def test_mean_difference_knows_the_spread_of_utterances() -> None:
    """Seeds that agree: no more certain than one alone."""
    a, b = score(5), score(6, p=0.5)
    b = Score(a.utterances, [round(c * f / g) for c, f, g in zip(b.correct, a.frames, b.frames, strict=True)], a.frames)
    one, three = a.difference(b), mean_difference([(a, b)] * 3)
    # Percentiles and the normal approximation of the same 2,000 resamples: see the tests of intervals above.
    error = (one[2] - one[1]) / (2 * 1.96)
    assert three == pytest.approx(one, abs=0.3 * error)


def test_mean_difference_covers_as_often_as_it_says() -> None:
    """Models whose true difference is 2 points, give or take 1 by seed, told of three seeds on the same 80 utterances
    of varying difficulty. In 3,000 trials 93.8 % of the intervals held it, in 400 those of a bootstrap over seeds and
    utterances 89 %, over utterances alone 77 %."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        easy = rng.normal(0, 4, 80)  # by how much an utterance favours the one model, whatever the seed
        pairs = []
        for seed in rng.normal(2, 1, 3):
            more = np.round(seed * 10 + 10 * easy + rng.normal(0, 20, 80)).astype(int)
            base = Score([f"u{i:02d}" for i in range(80)], [500] * 80, [1000] * 80)
            pairs.append((Score(base.utterances, (500 + more).tolist(), base.frames), base))
        _, low, high = mean_difference(pairs)
        held += low <= 2 <= high
    # 200 trials: a standard error of √(200·0.94·0.06) = 3.4 of them, three of which.
    assert held == pytest.approx(0.938 * 200, abs=3 * 3.4)


def test_utterance_without_a_labelled_frame_counts_nothing() -> None:
    with_empty = Score(["a", "b", "c"], [5, 0, 20], [10, 0, 40])
    assert with_empty.accuracy == 50 and with_empty.interval()[1] <= 100


def test_saved_score_reads_back(tmp_path: Path) -> None:
    s = score(7, utterances=10)
    save_score(tmp_path / "probes" / "x.json", s, {"row": "mfcc", "config": {"steps": 3}})
    loaded, facts = load_score(tmp_path / "probes" / "x.json")
    assert loaded == s
    assert facts == {"row": "mfcc", "config": {"steps": 3}, "accuracy": s.accuracy, "ci95": list(s.interval())}
    raw = json.loads((tmp_path / "probes" / "x.json").read_text())
    assert sum(raw["correct"]) / sum(raw["frames"]) * 100 == pytest.approx(raw["accuracy"])
