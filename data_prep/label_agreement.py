"""Two sets of phone labels of one corpus, counted side by side: frames that agree, and how far boundaries differ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cpc_speech.datadir import read_num_samples
from cpc_speech.errors import UserError
from cpc_speech.phones import HOP, PHONE_ID, SAMPLE_RATE, SYMBOLS, Interval
from cpc_speech.progress import Progress
from data_prep.label_sets import Labels, Load, read_label_set
from data_prep.match_phones import match_phones

SHIFTS = range(-3, 4)  # frames by which B is moved later


class Comparison(NamedTuple):
    """What was counted of labels A, the reference, and B."""

    utterances: dict[str, int]  # compared; only_a, only_b; not_in_data: in A and B, but not in the data directory
    pairs: np.ndarray  # (42, 42) int64: frames with this label in A and that one in B; 0 where unlabelled
    shifted: np.ndarray  # (len(SHIFTS), 2) int64: frames labelled in both, and those that agree, with B moved
    boundaries: dict[str, int]  # in_a; guesses: those of them that A is not sure of
    differences: np.ndarray  # (boundaries compared,) int64: B's time minus A's in samples
    agreement: dict[str, tuple[int, int]]  # utterance -> frames labelled in both, if any, and those that agree


def compare(data_dir: str | Path, a: str | Path, b: str | Path) -> Comparison:
    """Compare the utterances that both sets label; one utterance's labels are in memory at a time.

    Args:
        data_dir: has utt2num_samples.
        a, b: a CTM file, a folder of TextGrids or a phones.scp each; see data_prep/label_sets.py.

    Raises:
        UserError: no utterance is in both and the data directory, or one's labels belong to other audio.
    """
    num_samples = read_num_samples(data_dir)
    utterances = dict.fromkeys(("compared", "only_a", "only_b", "not_in_data"), 0)
    boundaries = {"in_a": 0, "guesses": 0}
    pairs = np.zeros((len(SYMBOLS), len(SYMBOLS)), dtype=np.int64)
    shifted = np.zeros((len(SHIFTS), 2), dtype=np.int64)
    differences = [np.zeros(0, dtype=np.int64)]
    agreement: dict[str, tuple[int, int]] = {}
    for utterance, load_a, load_b in Progress(_side_by_side(a, b), desc="compare", unit="utt"):
        if load_a is None or load_b is None:
            utterances["only_b" if load_a is None else "only_a"] += 1
            continue
        if utterance not in num_samples:
            utterances["not_in_data"] += 1
            continue
        utterances["compared"] += 1
        labels_a, labels_b = load_a(num_samples[utterance]), load_b(num_samples[utterance])
        cells = labels_a.frames * len(SYMBOLS) + labels_b.frames
        pairs += np.bincount(cells, minlength=pairs.size).reshape(pairs.shape)
        counts = np.array([_agreement(labels_a.frames, labels_b.frames, shift) for shift in SHIFTS])
        shifted += counts
        both, agree = counts[SHIFTS.index(0)].tolist()
        if both:
            agreement[utterance] = (both, agree)
        found, guesses, moved = _boundaries(labels_a, labels_b)
        boundaries["in_a"] += found
        boundaries["guesses"] += guesses
        differences.append(moved)
    if not utterances["compared"]:
        raise UserError(
            f"{a} and {b} have no utterance of {data_dir} in common ({utterances['only_a']} are only in the first, "
            f"{utterances['only_b']} only in the second, {utterances['not_in_data']} in both but not in "
            f"{data_dir}/utt2num_samples); compare labels of one corpus, under the ids of its data directory"
        )
    return Comparison(utterances, pairs, shifted, boundaries, np.concatenate(differences), agreement)


def _side_by_side(a: str | Path, b: str | Path) -> Iterator[tuple[str, Load | None, Load | None]]:
    """Merge two label sets, both in C order: each utterance, and what loads its labels, None in a set that lacks it."""
    sets = (read_label_set(a), read_label_set(b))
    heads = [next(entries, None) for entries in sets]
    while utterances := [head[0] for head in heads if head]:
        first = min(utterances)
        found: list[Load | None] = [None, None]
        for i, head in enumerate(heads):
            if head and head[0] == first:
                found[i], heads[i] = head[1], next(sets[i], None)
        yield first, found[0], found[1]


def _agreement(a: np.ndarray, b: np.ndarray, shift: int) -> tuple[int, int]:
    """Frames labelled in both, and those that agree, with ``b`` moved later by ``shift`` frames."""
    a, b = (a[shift:], b[: max(0, len(b) - shift)]) if shift >= 0 else (a[:shift], b[-shift:])
    both = (a > 0) & (b > 0)
    return int(both.sum()), int((both & (a == b)).sum())


def _boundaries(a: Labels, b: Labels) -> tuple[int, int, np.ndarray]:
    """How many boundaries ``a`` has, how many are guesses, and B's time minus A's of those compared, in samples.

    A boundary is the start of a phone that follows another with less than a frame between. It is compared where those
    two phones are matched to two of ``b`` that follow each other in the same way.
    """
    (ids_a, starts_a, joined_a), (ids_b, starts_b, joined_b) = _arrays(a.phones), _arrays(b.phones)
    guesses = joined_a & ~np.array(a.sure, dtype=bool)
    matched = match_phones(ids_a, ids_b, starts_a, starts_b)
    before = np.concatenate([[-1], matched])[: len(matched)]  # what the phone before is matched to
    compared = np.flatnonzero(joined_a & ~guesses & (before >= 0) & (matched == before + 1))
    compared = compared[joined_b[matched[compared]]]
    return int(joined_a.sum()), int(guesses.sum()), starts_b[matched[compared]] - starts_a[compared]


def _arrays(phones: list[Interval]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids and starts in samples, and whether each phone follows another with less than a frame between."""
    ids = np.array([PHONE_ID[phone] for _, _, phone in phones], dtype=np.int64)
    starts = np.array([round(start * SAMPLE_RATE) for start, _, _ in phones], dtype=np.int64)
    ends = np.array([round(end * SAMPLE_RATE) for _, end, _ in phones], dtype=np.int64)
    joined = np.zeros(len(phones), dtype=bool)
    joined[1:] = starts[1:] - ends[:-1] < HOP
    return ids, starts, joined
