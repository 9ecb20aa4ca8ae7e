"""The alignment of two phone sequences against all alignments that there are."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.match_phones import match_phones


def alignments(n, m):
    """Every way to pair, delete and insert: lists of (i, j), with None for the side that has nothing."""
    if n == m == 0:
        yield []
    if n and m:
        yield from ([*rest, (n - 1, m - 1)] for rest in alignments(n - 1, m - 1))
    if n:
        yield from ([*rest, (n - 1, None)] for rest in alignments(n - 1, m))
    if m:
        yield from ([*rest, (None, m - 1)] for rest in alignments(n, m - 1))


def cost(alignment, a, b, starts_a, starts_b):
    edits = sum(i is None or j is None or a[i] != b[j] for i, j in alignment)
    return edits, sum(abs(starts_a[i] - starts_b[j]) for i, j in alignment if i is not None and j is not None)


def equal_pairs(alignment, a, b):
    places = {i: j for i, j in alignment if i is not None and j is not None and a[i] == b[j]}
    return [places.get(i, -1) for i in range(len(a))]


@pytest.mark.parametrize("seed", range(60))
def test_fewest_edits_then_least_difference_of_time(seed):
    random = np.random.default_rng(seed)
    n, m = random.integers(0, 6, size=2)
    a, b = random.integers(1, 4, n), random.integers(1, 4, m)  # few phones: equal neighbours are frequent
    starts_a, starts_b = (np.sort(random.integers(0, 1_000, size)) for size in (n, m))
    every = list(alignments(int(n), int(m)))
    least = min(cost(alignment, a, b, starts_a, starts_b) for alignment in every)
    best = [x for x in every if cost(x, a, b, starts_a, starts_b) == least]
    assert match_phones(a, b, starts_a, starts_b).tolist() in [equal_pairs(x, a, b) for x in best]


def test_of_two_equal_neighbours_the_nearer_is_matched():
    a, b = np.array([1, 5, 5, 2]), np.array([1, 5, 2])
    starts_a = np.array([0, 100, 200, 300])
    assert match_phones(a, b, starts_a, np.array([0, 110, 300])).tolist() == [0, 1, -1, 2]
    assert match_phones(a, b, starts_a, np.array([0, 190, 300])).tolist() == [0, -1, 1, 2]


def test_long_sequences_have_the_distance_of_the_textbook():
    random = np.random.default_rng(0)
    a = random.integers(1, 42, 150)
    b = a[random.random(150) > 0.1]
    b = np.where(random.random(len(b)) < 0.1, random.integers(1, 42, len(b)), b)
    table = [[i + j if not i * j else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            pair = table[i - 1][j - 1] + int(a[i - 1] != b[j - 1])
            table[i][j] = min(pair, table[i - 1][j] + 1, table[i][j - 1] + 1)
    matched = match_phones(a, b, np.arange(len(a)) * 1_000, np.arange(len(b)) * 1_000)
    pairs = [(-1, -1), *((i, int(j)) for i, j in enumerate(matched) if j >= 0), (len(a), len(b))]
    assert all(a[i] == b[j] for i, j in pairs[1:-1])
    # between two matches all are pairs of different phones, and what is left over on one side is deleted or inserted
    edits = sum(max(i - before_i, j - before_j) - 1 for (before_i, before_j), (i, j) in zip(pairs, pairs[1:]))
    assert edits == table[-1][-1]
