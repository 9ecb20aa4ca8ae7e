"""Accuracy over frames and its intervals: utterances are resampled, since the frames of one are correlated."""

from __future__ import annotations

import functools
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cpc_speech.errors import UserError, require
from cpc_speech.files import atomic_write

_RESAMPLES = 2000


@dataclass
class Score:
    """Frames of every test utterance, and how many of them were classified right.

    Of several probes of one representation both are sums (``pooled``).
    """

    utterances: list[str]
    correct: list[int]
    frames: list[int]

    @property
    def accuracy(self) -> float:
        """Share of all frames, in per cent."""
        return 100 * sum(self.correct) / sum(self.frames)

    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy, in per cent (percentile bootstrap over utterances)."""
        return _percentiles(_resampled(self))

    def difference(self, other: Score) -> tuple[float, float, float]:
        """self − other in points, and its 95 % interval, from the same resamples of the same utterances.

        Raises:
            UserError: the two were measured on different utterances.
        """
        return (self.accuracy - other.accuracy, *_percentiles(_resampled_difference(self, other)))


def pooled(scores: Sequence[Score]) -> Score:
    """One score of the same classifier fitted several times, with one seed each: the sums of their counts.

    Its accuracy is the mean of theirs. An utterance is resampled with the counts of all of them, so that its interval,
    and a difference from any other score of these utterances, mean the same as for one fit; they do not widen with the
    spread of the seeds, which is to be shown beside them.
    """
    correct = [sum(counts) for counts in zip(*(score.correct for score in scores))]
    frames = [sum(counts) for counts in zip(*(score.frames for score in scores))]
    return Score(scores[0].utterances, correct, frames)


def mean_accuracy(scores: Sequence[Score]) -> tuple[float, float, float]:
    """Mean accuracy of models trained with one seed each, in per cent, and its 95 % interval: of one score, its own; of
    several, that of models of any seed, see ``mean_difference``."""
    if len(scores) == 1:
        return (scores[0].accuracy, *scores[0].interval())
    return _over_seeds([score.accuracy for score in scores], [_resampled(score) for score in scores], scores[0])


def mean_difference(pairs: Sequence[tuple[Score, Score]]) -> tuple[float, float, float]:
    """Mean of the differences a − b of models trained with one seed each, in points, and its 95 % interval.

    Of one pair it is ``Score.difference``, whose interval is about these two models. Of several it is about models of
    any seed: the variance of the mean over seeds is what the bootstrap over utterances finds (all seeds
    resampled together, as they were tested on the same utterances) plus s² / S, with s the standard deviation of
    the S differences. The interval is that of Student's t with the degrees of freedom of such a sum by Satterthwaite
    (1946): two or three seeds tell little about their spread, and resampling them would underestimate it
    (tests/test_scores.py counts how often intervals of three hold the truth).

    Raises:
        UserError: scores of a pair are of different utterances.
    """
    if len(pairs) == 1:
        return pairs[0][0].difference(pairs[0][1])
    values = [a.accuracy - b.accuracy for a, b in pairs]
    return _over_seeds(values, [_resampled_difference(a, b) for a, b in pairs], pairs[0][0])


def _over_seeds(values: Sequence[float], resampled: Sequence[np.ndarray], tested: Score) -> tuple[float, float, float]:
    """Mean of the seeds' values, and its interval by their spread and their bootstraps over ``tested`` utterances."""
    mean, seeds, utterances = statistics.fmean(values), len(values), len(tested.utterances)
    over_utterances = float(np.mean(resampled, axis=0).var(ddof=1))
    over_seeds = statistics.variance(values) / seeds
    if not (total := over_utterances + over_seeds):
        return mean, mean, mean
    freedom = total**2 / (over_seeds**2 / (seeds - 1) + over_utterances**2 / max(1, utterances - 1))
    half = student_t(freedom) * math.sqrt(total)
    return mean, mean - half, mean + half


def student_t(freedom: float) -> float:
    """How many standard errors a 95 % interval reaches to either side, with so many degrees of freedom."""
    return float(require("scipy.stats", "analysis").t.ppf(0.975, freedom))


def _resampled_difference(a: Score, b: Score) -> np.ndarray:
    if a.utterances != b.utterances:
        raise UserError("scores of different test utterances cannot be paired; probe both on one data directory")
    return _resampled(a) - _resampled(b)


def _resampled(score: Score) -> np.ndarray:
    times = _times_drawn(len(score.utterances))
    return 100 * (times @ np.array(score.correct, float)) / np.maximum(times @ np.array(score.frames, float), 1)


@functools.lru_cache(maxsize=1)
def _times_drawn(count: int) -> np.ndarray:
    """How often each utterance is in each resample, (resamples, utterances): the same for every score, which is what
    makes differences paired."""
    rng = np.random.default_rng(0)
    drawn = (rng.integers(count, size=count) for _ in range(_RESAMPLES))
    return np.array([np.bincount(rows, minlength=count) for rows in drawn], float)


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def wilson(share: float, number: int) -> tuple[float, float]:
    """95 % interval of a share of so many independent trials, both in per cent (Wilson, 1927). Unlike a bootstrap's it
    has a width where all of them succeed."""
    z, p = statistics.NormalDist().inv_cdf(0.975), share / 100
    centre, half = p + z * z / (2 * number), z * math.sqrt(p * (1 - p) / number + (z / (2 * number)) ** 2)
    scale = 100 / (1 + z * z / number)
    return scale * (centre - half), scale * (centre + half)


def show_accuracy(value: float, low: float, high: float) -> str:
    """An accuracy with its interval, as all tables have it."""
    return f"{value:.1f} ({low:.1f}–{high:.1f})"


def show_difference(value: float, low: float, high: float) -> str:
    """A difference of accuracies with its interval, as all tables have it."""
    return f"{value:+.1f} ({low:+.1f} … {high:+.1f})"


def show_seeds(compared: Sequence[int], of: int) -> str:
    """What follows a difference of which not all ``of`` seeds of a row have a counterpart; nothing where all have."""
    return f", of seed {', '.join(map(str, compared))}" if 0 < len(compared) < of else ""


def save_score(path: Path, score: Score, facts: Mapping[str, Any]) -> None:
    """Write a probe's result: facts about it, accuracy and interval, and the counts they come from."""
    low, high = score.interval()
    with atomic_write(path) as file:
        json.dump({**facts, "accuracy": score.accuracy, "ci95": [low, high], **asdict(score)}, file)


def load_score(path: Path) -> tuple[Score, dict[str, Any]]:
    """What ``save_score`` wrote: the counts, and everything else."""
    facts = json.loads(path.read_text(encoding="utf-8"))
    return Score(*(facts.pop(key) for key in ("utterances", "correct", "frames"))), facts
