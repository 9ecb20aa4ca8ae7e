"""Accuracy over frames, and how sure it is: utterances are resampled, since the frames of one are correlated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cpc_speech.errors import UserError
from cpc_speech.files import atomic_write

_RESAMPLES = 2000


@dataclass
class Score:
    """Frames of every test utterance, and how many of them were classified right."""

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
        if self.utterances != other.utterances:
            raise UserError("scores of different test utterances cannot be paired; probe both on one data directory")
        return (self.accuracy - other.accuracy, *_percentiles(_resampled(self) - _resampled(other)))


def _resampled(score: Score) -> np.ndarray:
    rng = np.random.default_rng(0)  # the same resamples for every score: that is what pairs two of them
    count = len(score.utterances)
    correct, frames = np.asarray(score.correct), np.asarray(score.frames)
    drawn = (rng.integers(count, size=count) for _ in range(_RESAMPLES))
    return np.array([100 * correct[rows].sum() / max(frames[rows].sum(), 1) for rows in drawn])


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def show_accuracy(value: float, low: float, high: float) -> str:
    """An accuracy with its interval, as all tables have it."""
    return f"{value:.1f} ({low:.1f}–{high:.1f})"


def show_difference(value: float, low: float, high: float) -> str:
    """A difference of accuracies with its interval, as all tables have it."""
    return f"{value:+.1f} ({low:+.1f} … {high:+.1f})"


def save_score(path: Path, score: Score, facts: Mapping[str, Any]) -> None:
    """Write a probe's result: facts about it, accuracy and interval, and the counts they come from."""
    low, high = score.interval()
    with atomic_write(path) as file:
        json.dump({**facts, "accuracy": score.accuracy, "ci95": [low, high], **asdict(score)}, file)


def load_score(path: Path) -> tuple[Score, dict[str, Any]]:
    """What ``save_score`` wrote: the counts, and everything else."""
    facts = json.loads(path.read_text(encoding="utf-8"))
    return Score(*(facts.pop(key) for key in ("utterances", "correct", "frames"))), facts
