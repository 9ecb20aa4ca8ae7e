"""Which phones of two transcriptions of one utterance are the same: an alignment with the fewest edits."""

from __future__ import annotations

import numpy as np

EDIT = 1 << 40  # the cost of an edit, above what all differences of time together can come to: 2 years of samples
MATCH, DELETE, INSERT = 0, 1, 2


def match_phones(a: np.ndarray, b: np.ndarray, starts_a: np.ndarray, starts_b: np.ndarray) -> np.ndarray:
    """Align two sequences by Levenshtein distance: insertions, deletions and substitutions cost 1 each.

    Where alignments with the fewest edits are several, the one with the least sum of differences between the starts of
    paired phones is taken, so that of two equal neighbours the right one is matched. One row of the table at a time is
    computed, and of it one byte a cell is kept.

    Args:
        a, b: (N,), (M,) integers that stand for phones.
        starts_a, starts_b: (N,), (M,) int64, samples, ascending.

    Returns:
        (N,) int64: for each phone of ``a`` the place of its equal in ``b``, -1 where it has none.
    """
    matched = np.full(len(a), -1, dtype=np.int64)
    if np.array_equal(a, b):  # no edit is needed, and no other alignment does without
        return np.arange(len(a))
    inserts = EDIT * np.arange(len(b) + 1, dtype=np.int64)
    moves = np.full((len(a) + 1, len(b) + 1), INSERT, dtype=np.uint8)
    row = inserts
    for i in range(len(a)):
        paired = row[:-1] + EDIT * (b != a[i]) + np.abs(starts_b - starts_a[i])
        deleted = row + EDIT
        row = deleted.copy()
        np.minimum(row[1:], paired, out=row[1:])
        # A cell may also be reached by insertions from any cell before it in its row: a running minimum.
        row = np.minimum.accumulate(row - inserts) + inserts
        moves[i + 1][row == deleted] = DELETE
        moves[i + 1, 1:][row[1:] == paired] = MATCH
    i, j = len(a), len(b)
    while i and j:
        move = moves[i, j]
        i, j = i - (move != INSERT), j - (move != DELETE)
        if move == MATCH and a[i] == b[j]:
            matched[i] = j
    return matched
