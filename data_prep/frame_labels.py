"""Labels that come as one integer per frame of Kaldi's, 10 ms each: to this suite's ids and frames.

Kaldi's frame j with snip-edges (its default, and what the CPC authors used) is the window of samples 160 j to
160 j + 399, centred at 160 j + 200; without, it is centred at 160 j + 80. Our frame t is centred at 160 t + 79
(cpc_speech/phones.py) and takes the label whose centre is nearest: j = t - 1 with snip-edges, which leaves the first
frame and sometimes the last unlabelled, and j = t without.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from cpc_speech.errors import UserError
from cpc_speech.phones import CENTRE, HOP
from data_prep.int_vectors import Vector
from data_prep.label_writer import MAX_FRAMES_OFF, Labelled

WINDOW = 400  # samples of Kaldi's default window, 25 ms

log = logging.getLogger(__name__)


class IdMap(NamedTuple):
    """What a source's integers mean."""

    labels: np.ndarray  # (largest id + 1,) int32: the label of each id, -1 for an id without one
    explain: Callable[[int], str]  # an id without label -> why it has none, for messages


def num_kaldi_frames(num_samples: int, snip_edges: bool = True) -> int:
    """How many frames Kaldi makes of so many samples (its feature-window.cc)."""
    if snip_edges:
        return max(0, (num_samples - WINDOW) // HOP + 1)
    return (num_samples + HOP // 2) // HOP


def align_frames(labels: np.ndarray, num_samples: int, snip_edges: bool = True) -> np.ndarray:
    """Give every frame of ours the label of the Kaldi frame with the nearest centre; 0 where there is none.

    Args:
        labels: (K,) int32, one for each of Kaldi's frames.

    Returns:
        (num_samples // 160,) int32.
    """
    # Kaldi's label j is the nearest for the 160 samples around its centre; this is where those of label 0 begin.
    first = (WINDOW - HOP) // 2 if snip_edges else 0
    nearest = (HOP * np.arange(num_samples // HOP) + CENTRE - first) // HOP
    known = (nearest >= 0) & (nearest < len(labels))
    aligned = np.zeros(len(nearest), dtype=np.int32)
    aligned[known] = labels[nearest[known]]
    return aligned


def label_frames(vectors: Iterable[Vector], ids: IdMap, snip_edges: bool = True) -> Iterator[Labelled]:
    """Yield what ``write_labels`` wants of each vector.

    Raises (when the labels are asked for):
        UserError: a length that differs by over two frames from what Kaldi makes of the audio, or an id without label.
    """
    off: Counter[int] = Counter()
    for vector in vectors:
        yield vector.utterance, partial(_labels, vector, ids, snip_edges, off)
    total = sum(off.values())
    if inexact := total - off[0]:
        log.info("%d of %d utterances are a frame or two off the length that Kaldi gives their audio", inexact, total)
    if snip_edges and off[2] > total / 2:
        log.warning("most utterances are 2 frames longer than Kaldi's snip-edges gives them: is this --no-snip-edges?")


def _labels(vector: Vector, ids: IdMap, snip_edges: bool, off: Counter[int], num_samples: int) -> np.ndarray:
    expected = num_kaldi_frames(num_samples, snip_edges)
    difference = len(vector.ids) - expected
    if abs(difference) > MAX_FRAMES_OFF:
        raise UserError(
            f"{vector.where}: {vector.utterance} has {len(vector.ids)} labels, but its {num_samples} samples make "
            f"{expected} frames of 10 ms; these labels belong to other audio or to another frame shift"
        )
    off[difference] += 1
    labels = np.where(vector.ids >= 0, ids.labels[np.clip(vector.ids, 0, len(ids.labels) - 1)], -1)
    labels[vector.ids >= len(ids.labels)] = -1
    if (labels < 0).any():
        place = int(np.flatnonzero(labels < 0)[0])
        unknown = int(vector.ids[place])
        raise UserError(
            f"{vector.where}: {vector.utterance} has the id {unknown} at frame {place}: {ids.explain(unknown)}"
        )
    return align_frames(labels, num_samples, snip_edges)
