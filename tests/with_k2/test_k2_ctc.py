"""k2's words beside an enumeration of all paths and word sequences, and its CTC loss beside the one that the recogniser
learns by. Runs where k2 does, on Python 3.9: make test-k2."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from path_oracle import best_words as oracle

pytest.importorskip("k2", reason="no k2 here; make test-k2 makes an environment that has it")
import k2  # after the skip

from cpc_speech.k2_ctc import best_words, lexicon_graph
from cpc_speech.recogniser import ctc_loss

Words = list[list[tuple[int, ...]]]  # the variants of each


def random_lexicon(rng: np.random.Generator) -> Words:
    """One to five words of one or two variants, of one to three of three phones: homophones and prefixes abound."""
    return [
        [tuple(rng.integers(1, 4, size=rng.integers(1, 4)).tolist()) for _ in range(rng.integers(1, 3))]
        for _ in range(rng.integers(1, 6))
    ]


@pytest.mark.parametrize("seed", range(80))
def test_best_of_all_paths_and_words(seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = random_lexicon(rng)
    scores = rng.uniform(-3, 0.5, size=len(words)).astype(np.float32).tolist()
    log_probabilities = torch.from_numpy(rng.normal(scale=2, size=(int(rng.integers(1, 7)), 4))).log_softmax(1).float()
    found = best_words(log_probabilities, lexicon_graph(words, scores, 3))
    assert found == tuple(oracle(log_probabilities.tolist(), words, scores)[1:])


def outputs(path: list[int], count: int = 5) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(path), count).float().mul(8).log_softmax(1)


def test_the_more_probable_homophone() -> None:
    words: Words = [[(1, 2)], [(1, 2)], [(3,)]]
    assert best_words(outputs([1, 2, 0, 3]), lexicon_graph(words, [-2.0, -1.0, -1.0], 4)) == ([2, 3], [1, 2, 3])


def test_equal_phones_of_two_words_need_a_blank_between() -> None:
    graph = lexicon_graph([[(1, 2)], [(2, 1)]], [-1.0, -1.0], 4)
    assert best_words(outputs([1, 2, 0, 2, 1]), graph) == ([1, 2], [1, 2, 2, 1])
    found = best_words(outputs([1, 2, 2, 1]), graph)
    assert found is not None and found[0] != [1, 2]


def test_what_a_word_costs_decides_between_one_and_two() -> None:
    words: Words = [[(1, 2, 3, 4)], [(1, 2)], [(3, 4)]]
    path = outputs([1, 2, 3, 4])
    assert best_words(path, lexicon_graph(words, [-5.0, -2.0, -2.0], 4)) == ([2, 3], [1, 2, 3, 4])
    assert best_words(path, lexicon_graph(words, [-5.0, -2.0, -4.0], 4)) == ([1], [1, 2, 3, 4])


def test_nothing_but_blanks() -> None:
    assert best_words(outputs([0, 0, 0]), lexicon_graph([[(1,)]], [0.0], 4)) == ([], [])


@pytest.mark.parametrize("words", [[], [[]], [[(1,)], [(1,), ()]]])
def test_words_that_cannot_be_said(words: Words) -> None:
    with pytest.raises(ValueError, match=r"no words|without a phone"):
        lexicon_graph(words, [0.0] * len(words), 3)


@pytest.mark.parametrize("seed", range(10))
def test_loss_and_gradient_of_the_recogniser(seed: int) -> None:
    """The recogniser's loss is torch's; k2 sums over the same paths, and so do the gradients of both."""
    rng = np.random.default_rng(seed)
    steps = sorted(rng.integers(12, 40, size=4).tolist(), reverse=True)  # as k2 wants them
    phones = [torch.from_numpy(rng.integers(1, 11, size=rng.integers(1, 6))) for _ in steps]
    phones[0][-1] = phones[0][0]
    x = torch.from_numpy(rng.normal(size=(4, steps[0], 11))).float().requires_grad_()
    ours = ctc_loss(x.log_softmax(2), torch.tensor(steps), phones)
    [gradient] = torch.autograd.grad(ours, x)
    supervision = torch.tensor([[i, 0, count] for i, count in enumerate(steps)], dtype=torch.int32)
    graph = k2.ctc_graph([said.tolist() for said in phones])
    # No beam: a path of any probability counts.
    theirs = k2.ctc_loss(graph, k2.DenseFsaVec(x.log_softmax(2), supervision), output_beam=math.inf)
    theirs = theirs / sum(map(len, phones))
    [expected] = torch.autograd.grad(theirs, x)
    # Sums in single precision, in another order.
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)
