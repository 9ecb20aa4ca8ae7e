"""Phones in Praat TextGrids as the Montreal Forced Aligner writes them: one file an utterance, named by its id.

The tier is ``phones`` (with MFA's speaker tiers, ``<speaker> - phones``). Its blank intervals are silence, as MFA 2 and
later export it. What is marked ``<eps>`` stays unlabelled.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np

from cpc_speech.errors import UserError, require
from cpc_speech.files import atomic_write
from cpc_speech.phones import ARPABET, HOP, SAMPLE_RATE, Interval, phone_of
from data_prep.label_writer import MAX_FRAMES_OFF, Labelled, timed_labels

TIER = "phones"


def label_textgrids(folder: str | Path, shift: float = 0.0) -> Iterator[Labelled]:
    """Yield what ``write_labels`` wants of each ``*.TextGrid`` below a folder; files are read when it asks for labels.

    Args:
        shift: seconds to add to every time.
    """
    for path in find_textgrids(folder):
        yield path.stem, partial(_labels, path, shift)


def find_textgrids(folder: str | Path) -> list[Path]:
    """All ``*.TextGrid`` below a folder, in C order of the utterances that they are named by.

    Raises:
        UserError: there are none.
    """
    folder = Path(folder)
    paths = sorted(folder.rglob("*.TextGrid"), key=lambda path: (path.stem, path)) if folder.is_dir() else []
    if not paths:
        raise UserError(f"{folder}: {'no *.TextGrid in it' if folder.is_dir() else 'no such folder'}")
    return paths


def read_textgrid(path: str | Path) -> tuple[list[Interval], float]:
    """The phones of a TextGrid, with the names of ``phones.phone_of``, and the end of their tier in seconds.

    Raises:
        UserError: no TextGrid, not one tier of phones, an unknown phone or a damaged interval (names the line).
    """
    path = Path(path)
    textgrid = require("praatio.textgrid", "align")
    errors = require("praatio.utilities.errors", "align")
    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=True, reportingMode="silence")
    # praatio looks for fixed words and splits at them: what is missing can surface as one of Python's own errors
    except (errors.PraatioException, ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        where = f"{path}:{_damaged_line(_lines(path))}"
        raise UserError(f"{where}: praatio cannot read it as a TextGrid ({error}); export it again") from error
    names = [name for name in grid.tierNames if name == TIER or name.endswith(f" - {TIER}")]
    if len(names) != 1:
        raise UserError(
            f"{path}: {len(names)} tiers named {TIER!r} or '<speaker> - {TIER}', not one, "
            f"among {', '.join(map(repr, grid.tierNames))}"
        )
    tier = grid.getTier(names[0])
    if not isinstance(tier, textgrid.IntervalTier):
        raise UserError(f"{path}: the tier {names[0]!r} holds points, not intervals")
    intervals: list[Interval] = []
    for start, end, name in tier.entries:
        if (phone := phone_of(name)) is None:
            _fail(
                path, names[0], len(intervals),
                f"{name!r} at {start:.2f} s is none of sil, spn, {' '.join(ARPABET)}; align with MFA's english_us_arpa",
            )  # fmt: skip
        if not 0 <= start <= end < math.inf:
            _fail(path, names[0], len(intervals), f"{name!r} from {start} s to {end} s; export it again")
        intervals.append(Interval(float(start), float(end), phone))
    # praatio ends a tier without a word at the first interval that it cannot read.
    last = intervals[-1].end if intervals else float(tier.minTimestamp)
    if last < tier.maxTimestamp - MAX_FRAMES_OFF * HOP / SAMPLE_RATE:
        reason = f"{names[0]!r} ends at {tier.maxTimestamp:.2f} s, its intervals at {last:.2f} s; export it again"
        _fail(path, names[0], len(intervals), reason)
    return intervals, float(tier.maxTimestamp)


def write_textgrid(path: str | Path, intervals: Sequence[Interval], seconds: float) -> None:
    """Write one tier ``phones`` from 0 to ``seconds`` in Praat's long text format; the intervals must leave no gap."""
    textgrid = require("praatio.textgrid", "align")
    grid = textgrid.Textgrid()
    grid.addTier(textgrid.IntervalTier(TIER, list(intervals), 0, seconds))
    with atomic_write(path) as file:  # praatio opens files by name
        grid.save(file.name, "long_textgrid", includeBlankSpaces=True)


def phones_of_audio(path: Path, num_samples: int) -> list[Interval]:
    """The phones of a TextGrid.

    Raises:
        UserError: that of ``read_textgrid``, or their tier is over two frames longer or shorter than the audio.
    """
    intervals, end = read_textgrid(path)
    if not abs(end * SAMPLE_RATE - num_samples) <= MAX_FRAMES_OFF * HOP + 0.5:  # so that nan is refused too
        raise UserError(
            f"{path}: {path.stem} ends at {end:.3f} s, its audio at {num_samples / SAMPLE_RATE:.3f} s; "
            "these labels belong to other audio"
        )
    return intervals


def _labels(path: Path, shift: float, num_samples: int) -> np.ndarray:
    return timed_labels(f"{path}: {path.stem}", phones_of_audio(path, num_samples), num_samples, shift)


def _lines(path: Path) -> list[str]:
    content = path.read_bytes()
    utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    return content.decode("utf-16" if utf16 else "utf-8", errors="replace").splitlines()


def _damaged_line(lines: list[str]) -> int:
    """The first line with a time that is no number or a text without end; where there is none, the last."""
    sound = {"xmin": r"[-+.\deE]+", "xmax": r"[-+.\deE]+", "text": r'".*"', "name": r'".*"', "class": r'".*"'}
    for number, line in enumerate(lines, 1):
        word, _, value = line.strip().partition(" =")
        if word in sound and not re.fullmatch(sound[word], value.strip()):
            return number
    return max(1, len(lines))


def _fail(path: Path, tier: str, place: int, reason: str) -> NoReturn:
    """Raise, with the line where the tier's interval ``place`` stands or should stand; praatio does not tell it."""
    lines = _lines(path)
    named = next((i for i, line in enumerate(lines) if line.strip().endswith(f'"{tier}"')), 0)
    items = [i for i in range(named, len(lines)) if lines[i].strip().startswith("intervals [")]
    if items:  # the long format: each interval has a heading
        line = items[place] if place < len(items) else len(lines) - 1
    else:  # the short one: after the name two times and a count, then three lines each
        line = min(named + 4 + 3 * place, len(lines) - 1)
    raise UserError(f"{path}:{line + 1}: {reason}")
