"""Label sets of one corpus, read side by side: phones with times, or a phones.scp with one label a frame.

A file named ``*.scp`` is an index of label archives, ids of this suite's phone table; a folder holds TextGrids; any
other file is a CTM. All give an utterance as frames and as phones with times: the frames of a CTM or a TextGrid are
what ``import_labels`` makes of it, the phones of an archive are the runs of its frames, with boundaries half-way
between the centres of two frames (cpc_speech/phones.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cpc_speech.errors import UserError
from cpc_speech.kaldi import read_int_vectors
from cpc_speech.phones import HOP, SYMBOLS, UNLABELLED, Interval, intervals_from_labels, refuse_numbered
from data_prep.ctm import read_ctm
from data_prep.label_writer import timed_labels
from data_prep.textgrid import find_textgrids, phones_of_audio


class Labels(NamedTuple):
    """An utterance in a label set."""

    frames: np.ndarray  # (num_samples // 160,) int32, ids of SYMBOLS, 0 where unlabelled
    phones: list[Interval]  # in order; <eps> is none
    sure: list[bool]  # of each phone, whether its start is known; a CTM gives a guess a confidence below 1


Load = Callable[[int], Labels]  # the labels of an utterance of so many samples


def read_label_set(path: str | Path, numbered: bool = False) -> Iterator[tuple[str, Load]]:
    """Yield the utterances in C order, each with what loads its labels; one utterance's labels are in memory at a time.

    Args:
        numbered: whether labels may be the CPC authors' numbers, which phones would then only stand for.

    Raises:
        UserError: what the readers raise, or two TextGrids of a name; when labels are asked for, labels of other audio.
    """
    path = Path(path)
    if path.suffix == ".scp":
        if not numbered:
            refuse_numbered(path.parent)
        for utterance, frames in read_int_vectors(path):
            yield utterance, partial(_of_frames, f"{path}: {utterance}", frames)
    elif path.is_dir():
        for utterance, grids in groupby(find_textgrids(path), key=lambda grid: grid.stem):
            grid, *others = grids
            if others:
                raise UserError(f"{others[0]}: {utterance} has {grid} too; keep one of the two")
            yield utterance, partial(_of_textgrid, grid)
    else:
        for utterance, phones in read_ctm(path):
            yield utterance, partial(_of_times, f"{path}: {utterance}", phones)


def read_utterance(path: str | Path, utterance: str, num_samples: int) -> Labels:
    """The labels of one utterance; a UserError where the set lacks it."""
    for name, labels in read_label_set(path):
        if name == utterance:
            return labels(num_samples)
    raise UserError(f"{path}: no labels of {utterance}; name an utterance that stands in it")


def _of_frames(where: str, frames: np.ndarray, num_samples: int) -> Labels:
    if len(frames) != num_samples // HOP:
        raise UserError(
            f"{where} has {len(frames)} labels for {num_samples // HOP} frames of audio; these labels belong to "
            "other audio, or to another frame shift: bring them in by python -m data_prep.import_labels kaldi"
        )
    if len(frames) and not 0 <= frames.min() <= frames.max() < len(SYMBOLS):
        raise UserError(f"{where} has a label outside 0..{len(SYMBOLS) - 1}; run stage 2 (phone labels) again")
    phones = [interval for interval in intervals_from_labels(frames, num_samples) if interval.phone != UNLABELLED]
    return Labels(frames, phones, [True] * len(phones))


def _of_times(where: str, phones: list[tuple[Interval, bool]], num_samples: int) -> Labels:
    frames = timed_labels(where, [interval for interval, _ in phones], num_samples)
    named = [(interval, sure) for interval, sure in phones if interval.phone != UNLABELLED]
    return Labels(frames, [interval for interval, _ in named], [sure for _, sure in named])


def _of_textgrid(path: Path, num_samples: int) -> Labels:
    phones = phones_of_audio(path, num_samples)
    return _of_times(f"{path}: {path.stem}", [(interval, True) for interval in phones], num_samples)
