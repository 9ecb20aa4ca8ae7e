"""CTM files of phones: ``utterance channel start duration phone [confidence]`` lines, times in seconds, sorted."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np

from cpc_speech.errors import UserError
from cpc_speech.phones import HOP, PHONE_ID, SAMPLE_RATE, Interval, phone_of
from data_prep.label_writer import MAX_FRAMES_OFF, Labelled, timed_labels

log = logging.getLogger(__name__)


def ctm_lines(utterance: str, intervals: Iterable[Interval]) -> str:
    """The lines of one utterance, with microseconds."""
    return "".join(f"{utterance} 1 {start:.6f} {end - start:.6f} {phone}\n" for start, end, phone in intervals)


def read_ctm(path: str | Path) -> Iterator[tuple[str, list[tuple[Interval, bool]]]]:
    """Yield each utterance's intervals, each with whether its limits are sure: no confidence, or one of 1 or above.

    Phones are those of ``phones.phone_of``: no stress, sp is SIL, ...

    Raises:
        UserError: the first line that is no CTM line, names an unknown phone or is out of order (names the line).
    """
    for utterance, lines in groupby(_read_lines(Path(path)), key=lambda line: line[0]):
        yield utterance, [(interval, sure) for _, interval, sure in lines]


def _read_lines(path: Path) -> Iterator[tuple[str, Interval, bool]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; name a CTM file")
    last, last_start = "", 0.0
    with open(path, encoding="utf-8", errors="replace") as file:  # a line that is no text is refused as any other
        for number, line in enumerate(file, 1):
            fields = line.split()
            if not fields or line.startswith(";;"):  # CTM's comments
                continue
            try:
                utterance, name, start, duration = fields[0], fields[4], float(fields[2]), float(fields[3])
            except (IndexError, ValueError):
                start, duration = -1.0, -1.0
            if len(fields) > 6 or not 0 <= start < math.inf or not 0 <= duration < math.inf:
                raise UserError(f"{path}:{number}: {line.strip()!r} is not 'utterance channel start duration phone'")
            if (phone := phone_of(name)) is None:
                raise UserError(f"{path}:{number}: {name} is none of {' '.join(PHONE_ID)}; map it to one of them")
            if (utterance, start) < (last, last_start):
                raise UserError(f"{path}:{number}: out of order; LC_ALL=C sort -s -k1,1 -k3,3n -o {path} {path}")
            last, last_start = utterance, start
            yield utterance, Interval(start, start + duration, phone), _is_sure(fields[5:])


def _is_sure(confidence: list[str]) -> bool:
    try:
        return not confidence or float(confidence[0]) >= 1
    except ValueError:  # some scorers write NA
        return True


def label_ctm(path: str | Path, shift: float = 0.0) -> Iterator[Labelled]:
    """Yield what ``write_labels`` wants of each utterance; ``shift``: seconds to add to every time.

    A CTM does not say how long an utterance is. Those that end over two frames before their audio are counted in the
    log: the rest is unlabelled.
    """
    early: list[str] = []
    for utterance, phones in read_ctm(path):
        yield utterance, partial(_labels, path, utterance, [interval for interval, _ in phones], shift, early)
    if early:
        log.warning(
            "%s: %d utterances, such as %s, end over %d ms before their audio; the rest is unlabelled",
            path, len(early), early[0], MAX_FRAMES_OFF * 10,
        )  # fmt: skip


def _labels(
    path: str | Path, utterance: str, intervals: list[Interval], shift: float, early: list[str], num_samples: int
) -> np.ndarray:
    if (intervals[-1].end + shift) * SAMPLE_RATE < num_samples - MAX_FRAMES_OFF * HOP:
        early.append(utterance)
    return timed_labels(f"{path}: {utterance}", intervals, num_samples, shift)
