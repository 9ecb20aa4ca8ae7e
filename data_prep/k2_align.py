"""Alignment of frame scores to a lexicon graph by k2: of every word's variants, and of silences or none, the best path.

The graph has no epsilon arcs, as ``k2.intersect_dense`` takes none: each phone of each variant is a state that is
entered by an arc with the phone's label and kept by a loop with the same label, so that it lasts a frame at least.
An attribute ``place``, the number of that state, tells where in the graph an arc of the best path lies.

This module imports torch and k2 alone and runs on Python 3.9, for which k2 has wheels; ``make test-k2`` tests it there.
"""

from __future__ import annotations

from collections.abc import Sequence

import k2
import torch

Variant = Sequence[int]  # the classes of a word's phones
Segments = list[tuple[int, int]]  # (class, first frame), in order, from frame 0 on

OUTPUT_BEAM = 1.0  # of log-likelihood below the best path: no more is wanted than that one, but for rounding


def lexicon_graph(words: Sequence[Sequence[Variant]], silence: int = 0) -> k2.Fsa:
    """The graph of all ways to say these words.

    Args:
        words: for every word spoken, its variants, each with one phone at least.
        silence: the class that may stand before, between and after words, or not.

    Raises:
        ValueError: a word without a variant, or a variant without a phone.
    """
    classes: list[int] = []  # of every place; its state is place + 1, as 0 is the start
    arcs: list[tuple[int, int]] = []

    def place(label: int, sources: list[int]) -> int:
        """A new state for a phone that is reached from these states; returns its number."""
        classes.append(label)
        state = len(classes)
        arcs.extend((source, state) for source in [*sources, state])
        return state

    ends = [0]  # the states that the next word may follow
    for variants in words:
        if not variants or not all(variants):
            raise ValueError(f"every word needs a variant and every variant a phone, not {list(variants)}")
        ends.append(place(silence, ends))
        last = []
        for variant in variants:
            state = [place(variant[0], ends)]
            for label in variant[1:]:
                state = [place(label, state)]
            last += state
        ends = last
    ends.append(place(silence, ends))
    final = len(classes) + 1
    if not words:
        ends = [1]  # nothing but silence
    arcs += [(source, final) for source in ends]
    arcs.sort()
    labels = [classes[state - 1] if state < final else -1 for _, state in arcs]
    rows = [[source, state, label, 0] for (source, state), label in zip(arcs, labels)]  # 0: the bits of score 0.0
    graph = k2.Fsa(torch.tensor(rows, dtype=torch.int32))
    graph.place = torch.tensor([state for _, state in arcs], dtype=torch.int32)
    return graph


def best_path(scores: torch.Tensor, graph: k2.Fsa) -> Segments | None:
    """The segments of the path through ``graph`` whose sum of scores is highest.

    Args:
        scores: (T, C) float32, higher is better, e.g. scaled log-likelihoods; finite.

    Returns:
        The class and first frame of every phone and silence, or None where T frames are too few for any path.
    """
    frames = len(scores)
    if not frames:
        return None
    supervision = torch.tensor([[0, 0, frames]], dtype=torch.int32)  # sequence, first frame, frames
    dense = k2.DenseFsaVec(scores[None].contiguous(), supervision)
    lattice = k2.intersect_dense(k2.create_fsa_vec([graph]), dense, OUTPUT_BEAM)
    path = k2.shortest_path(lattice, use_double_scores=True)
    labels, places = path.labels[:-1].tolist(), path.place[:-1].tolist()  # the last arc is the final state's
    if len(labels) != frames:
        return None
    return [(labels[t], t) for t in range(frames) if t == 0 or places[t] != places[t - 1]]
