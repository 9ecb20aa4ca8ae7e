"""Alignment to one sequence of phones against an enumeration of all paths, and where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from path_oracle import best

from data_prep.linear_align import best_path


def peaks(sequence: list[tuple[int, int]], frames: int, classes: int = 6) -> torch.Tensor:
    """Scores that are 0 for the segments (class, first frame) and −5 elsewhere."""
    firsts = [first for _, first in sequence[1:]]
    label = np.repeat([c for c, _ in sequence], np.diff([0, *firsts, frames]))
    return torch.from_numpy(np.where(np.arange(classes) == label[:, None], 0.0, -5.0)).float()


@pytest.mark.parametrize("seed", range(40))
def test_best_of_all_paths(seed: int) -> None:
    """Sequences of three of four classes, so that neighbours are often equal; class 3 is silence."""
    rng = np.random.default_rng(seed)
    frames = int(rng.integers(3, 9))
    phones = rng.integers(3, size=rng.integers(1, 4)).tolist()
    scores = rng.normal(size=(frames, 4))
    expected = best(scores.tolist(), [[(phone,)] for phone in phones], silence=3)
    assert expected is not None
    assert best_path(torch.from_numpy(scores), phones, silence=3) == expected[1]


@pytest.mark.parametrize(
    "segments",
    [
        [(0, 0), (2, 3), (4, 5), (0, 9)],
        [(2, 0), (0, 4), (2, 8)],  # silence between
        [(1, 0)],
        [(3, 0), (4, 1), (5, 2), (3, 3)],
    ],
)
def test_recovers_peaks(segments: list[tuple[int, int]]) -> None:
    assert best_path(peaks(segments, 12), [c for c, _ in segments if c != 0]) == segments


def test_equal_neighbours_stay_two_phones() -> None:
    """Where they meet, the scores do not say; both are there, and no silence is needed between."""
    path = best_path(peaks([(1, 0), (2, 2), (3, 6)], 8), [1, 2, 2, 3])
    assert path is not None
    assert [c for c, _ in path] == [1, 2, 2, 3]
    assert path[1] == (2, 2) and 2 < path[2][1] < 6 and path[3] == (3, 6)


def test_silence_in_the_sequence_is_there() -> None:
    """And with the optional ones around it, it is as long as one alone would be."""
    path = best_path(peaks([(1, 0), (2, 3)], 6), [1, 0, 2])
    assert path is not None and [c for c, _ in path if c] == [1, 2]
    assert [t for c, t in path if c == 0] in ([2], [3])  # one frame, which costs the same on either side


def test_no_room() -> None:
    scores = torch.zeros(3, 5)
    assert best_path(scores, [1, 2, 3, 4]) is None
    assert best_path(scores[:0], [1]) is None and best_path(scores[:0], []) is None
    assert best_path(scores, [1, 1, 1]) == [(1, 0), (1, 1), (1, 2)]
    assert best_path(scores, []) == [(0, 0)]
