"""Phone and word error rates: edits between what was said and what was recognised, and the rate's interval."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from cpc_speech.errors import require
from cpc_speech.files import atomic_write
from cpc_speech.scores import Score


@dataclass
class ErrorRate:
    """Every utterance's number of phones or words, and the fewest substitutions, deletions and insertions that turn
    them into what was recognised (Levenshtein, each costs 1)."""

    utterances: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    substitutions: list[int] = field(default_factory=list)
    deletions: list[int] = field(default_factory=list)
    insertions: list[int] = field(default_factory=list)

    def add(self, utterance: str, said: Sequence[str], recognised: Sequence[str]) -> None:
        """Compare one utterance.

        Raises:
            UserError: kaldialign is not installed.
        """
        edits = require("kaldialign", "asr").edit_distance(list(said), list(recognised))
        self.utterances.append(utterance)
        self.lengths.append(len(said))
        self.substitutions.append(edits["sub"])
        self.deletions.append(edits["del"])
        self.insertions.append(edits["ins"])

    @property
    def errors(self) -> list[int]:
        """Edits of every utterance."""
        return [sum(edits) for edits in zip(self.substitutions, self.deletions, self.insertions)]

    @property
    def rate(self) -> float:
        """Errors in per cent of what was said; over 100 where more is recognised than was said."""
        return self.share().accuracy

    def interval(self) -> tuple[float, float]:
        """95 % interval of the rate, in per cent (percentile bootstrap over utterances)."""
        return self.share().interval()

    def share(self) -> Score:
        """Errors out of lengths as a ``Score``, to be resampled and compared as right frames out of frames are."""
        return Score(self.utterances, self.errors, self.lengths)


def errors_of(said: Mapping[str, Sequence[str]], recognised: Mapping[str, Sequence[str]]) -> ErrorRate:
    """The errors in all utterances recognised, in their order."""
    errors = ErrorRate()
    for utterance, units in recognised.items():
        errors.add(utterance, said[utterance], units)
    return errors


def save_error_rate(path: Path, errors: ErrorRate, facts: Mapping[str, Any], unit: str = "phones") -> None:
    """Write facts about a recogniser, its rate (``per`` of phones, ``wer`` of words) and interval, and the counts they
    come from."""
    totals = {f"total_{name}": sum(getattr(errors, name)) for name in ("substitutions", "deletions", "insertions")}
    counts = {unit if name == "lengths" else name: values for name, values in asdict(errors).items()}
    rate = {f"{unit[0]}er": errors.rate, "ci95": errors.interval()}
    with atomic_write(path) as file:
        json.dump({**facts, **rate, **totals, **counts}, file)


def load_error_rate(path: Path, unit: str = "phones") -> tuple[ErrorRate, dict[str, Any]]:
    """What ``save_error_rate`` wrote: the counts, and everything else."""
    facts = json.loads(path.read_text(encoding="utf-8"))
    names = (unit if column.name == "lengths" else column.name for column in fields(ErrorRate))
    return ErrorRate(*(facts.pop(name) for name in names)), facts
