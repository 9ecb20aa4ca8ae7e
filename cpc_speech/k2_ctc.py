"""Words by k2: the best path through the outputs of CTC, a lexicon, and what each word costs.

The lexicon is a tree of phones; its root is where a word ends and any other begins. k2 composes it with its topology of
CTC, which lets blanks stand anywhere and asks for one between two equal phones, also of two words. A homophone is one
more arc.

This module imports torch and k2 alone and runs on Python 3.9, for which k2 has wheels; ``make test-k2`` tests it there.
"""

from __future__ import annotations

from collections.abc import Sequence

import k2
import torch

# Of log-probability: what may become the best path, at every step, and what is kept at the end, where all but one go.
SEARCH_BEAM = 20.0
OUTPUT_BEAM = 1.0
ACTIVE_STATES = (30, 10_000)  # at least and at most, at a step


def lexicon_graph(words: Sequence[Sequence[Sequence[int]]], scores: Sequence[float], phones: int) -> k2.Fsa:
    """The graph of any sequence of words, or none.

    Args:
        words: the variants of each word, as phones from 1 on; word i of the path is words[i - 1].
        scores: of each word, added wherever it is said, such as its log-probability.
        phones: how many there are.

    Raises:
        ValueError: no words, or a variant without a phone.
    """
    states: dict[tuple[int, int], int] = {}  # of the tree: by the state before and the phone said; 0 is the root
    ends = []  # (source, destination, phone, word, score)
    for number, (variants, score) in enumerate(zip(words, scores), 1):
        for variant in variants:
            if not variant:
                raise ValueError(f"word {number} has a variant without a phone")
            state = 0
            for phone in variant[:-1]:
                state = states.setdefault((state, phone), len(states) + 1)
            ends.append((state, 0, variant[-1], number, score))
    if not ends:
        raise ValueError("no words")
    arcs = [(source, state, phone, 0, 0.0) for (source, phone), state in states.items()]
    arcs += [*ends, (0, len(states) + 1, -1, -1, 0.0)]
    arcs.sort()
    rows = torch.tensor([arc[:4] for arc in arcs], dtype=torch.int32)
    bits = torch.tensor([arc[4] for arc in arcs], dtype=torch.float32).view(torch.int32)
    tree = k2.Fsa(torch.cat([rows[:, :3], bits[:, None]], dim=1), aux_labels=rows[:, 3].contiguous())
    graph = k2.connect(k2.compose(k2.ctc_topo(phones), k2.arc_sort(tree)))
    return k2.create_fsa_vec([k2.arc_sort(graph)])


def best_words(log_probabilities: torch.Tensor, graph: k2.Fsa) -> tuple[list[int], list[int]] | None:
    """The words of the best path and their phones, or None where no path within the beam ends with a word.

    Args:
        log_probabilities: (U, V) float32, the blank first.
    """
    supervision = torch.tensor([[0, 0, len(log_probabilities)]], dtype=torch.int32)  # sequence, first step, steps
    dense = k2.DenseFsaVec(log_probabilities[None].contiguous(), supervision)
    lattice = k2.intersect_dense_pruned(graph, dense, SEARCH_BEAM, OUTPUT_BEAM, *ACTIVE_STATES)
    path = k2.shortest_path(lattice, use_double_scores=True)
    labels, words = path.labels[:-1], path.aux_labels[:-1]  # the last arc is the final state's
    if len(labels) != len(log_probabilities):
        return None
    phones = torch.unique_consecutive(labels)
    return words[words > 0].tolist(), phones[phones > 0].tolist()
