"""k2's paths beside torchaudio's, which write_cases.py wrote in the main environment, and beside an enumeration of all
paths. Runs where k2 does, on Python 3.9: make test-k2."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from path_oracle import best

pytest.importorskip("k2", reason="no k2 here; make test-k2 makes an environment that has it")
from data_prep.k2_align import best_path, lexicon_graph  # after the skip


@pytest.fixture(scope="module")
def cases() -> Path:
    if "K2_CASES" not in os.environ:
        pytest.skip("K2_CASES names no folder that write_cases.py has filled; make test-k2 does that")
    return Path(os.environ["K2_CASES"])


@pytest.mark.parametrize("number", range(40))
def test_linear_sequences_as_torchaudio(cases: Path, number: int) -> None:
    """Each phone a word of its own: silence or none around every one, as the blank of CTC."""
    case = json.loads((cases / f"{number:02d}.json").read_text())
    scores = torch.from_numpy(np.load(cases / f"{number:02d}.npy"))
    path = best_path(scores, lexicon_graph([[(phone,)] for phone in case["phones"]]))
    assert path == [tuple(segment) for segment in case["path"]]


@pytest.mark.parametrize("seed", range(60))
def test_best_of_all_paths(seed: int) -> None:
    """Words of one to three variants, of one to three of three phones; class 3 is silence."""
    rng = np.random.default_rng(seed)

    def word() -> list[tuple[int, ...]]:
        return [tuple(rng.integers(3, size=rng.integers(1, 4)).tolist()) for _ in range(rng.integers(1, 4))]

    words = [word() for _ in range(rng.integers(0, 4))]
    scores = rng.normal(size=(int(rng.integers(1, 8)), 4)).astype(np.float32)
    expected = best(scores.tolist(), words, silence=3)
    path = best_path(torch.from_numpy(scores), lexicon_graph(words, silence=3))
    assert (path is None) == (expected is None)
    if expected and path is not None:
        # Two variants may be the same and so tie, but in nothing that the path tells.
        assert path == expected[1]


def test_silence_only_between_words() -> None:
    """A pause within the phones of a word has to be said by them."""
    scores = torch.full((6, 3), -5.0)
    scores[[0, 1, 4, 5], [1, 1, 2, 2]] = 0.0
    scores[2:4, 0] = 0.0
    one, two = best_path(scores, lexicon_graph([[(1, 2)]])), best_path(scores, lexicon_graph([[(1,)], [(2,)]]))
    assert one is not None and [c for c, _ in one] == [1, 2]
    assert two == [(1, 0), (0, 2), (2, 4)]


def test_variant_that_fits_is_taken() -> None:
    scores = torch.full((9, 5), -5.0)
    for t, phone in enumerate([0, 1, 1, 3, 3, 3, 0, 4, 4]):
        scores[t, phone] = 0.0
    path = best_path(scores, lexicon_graph([[(1, 2), (1, 3), (2,)], [(4,), (4, 4, 1)]]))
    assert path == [(0, 0), (1, 1), (3, 3), (0, 6), (4, 7)]


def test_equal_phones_stay_two() -> None:
    path = best_path(torch.zeros(5, 3), lexicon_graph([[(1, 2)], [(2, 2, 1)]]))
    assert path is not None and [c for c, _ in path] == [1, 2, 2, 2, 1]


def test_long_utterance() -> None:
    """40 s: sums in which single precision loses hundredths."""
    rng = np.random.default_rng(0)
    phones = rng.integers(1, 41, size=400).tolist()
    truth = [(0, 0), *((phone, 5 + 10 * i) for i, phone in enumerate(phones))]
    label = np.repeat([c for c, _ in truth], [5, *[10] * 399, 4000 - 5 - 3990])
    scores = np.where(np.arange(41) == label[:, None], -0.1, -4.0) + 0.01 * rng.normal(size=(4000, 41))
    words = [[tuple(phones[i : i + 4]), (1, 2, 3)] for i in range(0, 400, 4)]
    path = best_path(torch.from_numpy(scores).float(), lexicon_graph(words))
    assert path is not None
    joined = [segment for i, segment in enumerate(path) if i == 0 or segment[0] != path[i - 1][0]]
    assert joined == [segment for i, segment in enumerate(truth) if i == 0 or segment[0] != truth[i - 1][0]]


@pytest.mark.parametrize("words", [[[]], [[()]], [[(1,)], [(1,), ()]]])
def test_words_that_cannot_be_said(words: list[list[tuple[int, ...]]]) -> None:
    with pytest.raises(ValueError, match="needs a variant"):
        lexicon_graph(words)


def test_no_room() -> None:
    assert best_path(torch.zeros(0, 3), lexicon_graph([[(1,)]])) is None
    assert best_path(torch.zeros(2, 3), lexicon_graph([[(1, 2, 1)]])) is None
