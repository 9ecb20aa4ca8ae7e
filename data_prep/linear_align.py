"""Alignment of frame scores to one sequence of phones by torchaudio's forced_align: k2_align's interface without k2.

``forced_align`` is CTC: between two symbols there may be blanks, and between two equal ones there must be. Here every
phone of the sequence has an emission column of its own, so that no two are equal, and the blank's column holds
silence's score. So silence is optional before, between and after any two phones, also within a word: the sequence does
not tell where words end. k2_align, which knows, allows it between words alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchaudio.functional import forced_align

Segments = list[tuple[int, int]]  # (class, first frame), in order, from frame 0 on


def best_path(scores: Tensor, phones: Sequence[int], silence: int = 0) -> Segments | None:
    """The segments of the path through ``phones`` whose sum of scores is highest.

    Args:
        scores: (T, C) float, higher is better, e.g. scaled log-likelihoods; finite.
        phones: classes, each of which lasts one frame at least. Silence among them is no longer optional.
        silence: the class that the blank stands for.

    Returns:
        The class and first frame of every phone and silence, or None where T frames are too few.
    """
    frames = len(scores)
    if not frames or frames < len(phones):
        return None
    if not phones:
        return [(silence, 0)]
    columns = torch.tensor([silence, *phones])
    # Sums over thousands of frames: in float64, as k2's best path is.
    emissions = scores.double().cpu()[:, columns]
    path, _ = forced_align(emissions[None], torch.arange(1, len(columns), dtype=torch.int32)[None], blank=0)
    places = path[0].tolist()
    return [(int(columns[places[t]]), t) for t in range(frames) if t == 0 or places[t] != places[t - 1]]
