"""The report's section on phone recognition: error rates of recognisers on frozen features, and what they gain."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from cpc_speech.error_rate import ErrorRate, load_error_rate
from cpc_speech.probe_report import LABELS
from cpc_speech.scores import show_accuracy, show_difference

REFERENCES = ("fbank", "mfcc39")  # what the others are compared with
HEADS = {"linear": "linear", "lstm": "bidirectional LSTM"}


class Recognised(NamedTuple):
    """A recogniser on test."""

    features: str
    exp: Path
    errors: ErrorRate
    facts: dict[str, Any]

    @property
    def row(self) -> str:
        """What the table calls the features."""
        return LABELS.get(self.features, f"CPC, {self.features}")

    @property
    def kind(self) -> tuple[Any, ...]:
        """What two have to share for their rates to compare: all settings but the seed."""
        return tuple(value for key, value in self.facts["settings"].items() if key != "seed")


def recognisers(exp: Path) -> list[Recognised]:
    """What ``cpc_speech.recognise`` left in ``exp/recogniser``, one a recogniser and seed; baselines first."""
    found = []
    for path in sorted(exp.glob("recogniser/*/per.json")):
        errors, facts = load_error_rate(path)
        # A features directory is called <data>_<features>.
        features = facts["features"].removeprefix(f"{facts['data']}_")
        found.append(Recognised(features, path.parent, errors, facts))
    order = {name: place for place, name in enumerate(LABELS)}
    return sorted(found, key=lambda one: (one.facts["settings"]["head"], order.get(one.features, len(order))))


def section(exp: Path) -> Iterable[str]:
    """Lines of the page; nothing where nothing was recognised."""
    found = recognisers(exp)
    if not found:
        return
    groups: dict[tuple[Any, ...], dict[str, list[Recognised]]] = {}
    for one in found:
        groups.setdefault(one.kind, {}).setdefault(one.features, []).append(one)
    yield "## Phone recognition"
    yield ""
    yield (
        "| features | values a frame | recogniser | weights | seeds | phone error rate, % "
        "| substituted / deleted / inserted, % | " + " | ".join(f"less that of {LABELS[name]}" for name in REFERENCES)
        + " |"
    )  # fmt: skip
    yield "|---" * (7 + len(REFERENCES)) + "|"
    for rows in groups.values():
        pooled = {features: _pool(seeds) for features, seeds in rows.items()}
        for features, seeds in rows.items():
            errors, facts = pooled[features], seeds[0].facts
            parts = (errors.substitutions, errors.deletions, errors.insertions)
            kinds = " / ".join(f"{100 * sum(part) / sum(errors.phones):.1f}" for part in parts)
            gains = [
                show_difference(*errors.difference(pooled[name])) if name in pooled and name != features else ""
                for name in REFERENCES
            ]
            cells = [
                seeds[0].row, facts["dim"], HEADS[facts["settings"]["head"]], f"{facts['parameters']:,}",
                ", ".join(str(one.facts["settings"]["seed"]) for one in seeds),
                show_accuracy(errors.rate, *errors.interval()) + _spread(seeds), kinds, *gains,
            ]  # fmt: skip
            yield f"| {' | '.join(map(str, cells))} |"
    yield ""
    errors, left_out = found[0].errors, found[0].facts["left_out"]["test"]
    yield (
        f"Of {sum(errors.phones):,} phones in {len(errors.utterances):,} test utterances"
        + (f" ({left_out} more are left out, as their phones are not known)" if left_out else "")
        + ": a recogniser trained by CTC on frozen features, by the best path, without a language model or a lexicon; "
        "what was said is the 39 phones of the labels' alignment, without silence. The state with the lowest rate on "
        "dev is the one that is tested. Intervals: 95 %, bootstrap over utterances, paired for differences; of several "
        "seeds, their mean."
    )
    yield ""


def objects(exp: Path) -> Iterable[dict[str, Any]]:
    """What the section is made of, for results.json: one object a recogniser."""
    keys = (
        "per", "ci95", "total_substitutions", "total_deletions", "total_insertions", "settings", "updates", "dim",
        "parameters", "left_out", "seconds", "commit", "command", "machine",
    )  # fmt: skip
    for one in recognisers(exp):
        yield {
            "table": "phone recognition", "row": one.row, "experiment": one.exp.name,
            "utterances": len(one.errors.utterances), "phones": sum(one.errors.phones),
            **{key: one.facts[key] for key in keys},
        }  # fmt: skip


def _pool(seeds: list[Recognised]) -> ErrorRate:
    """The counts of all seeds, utterance by utterance: their rate is the mean, as all heard the same."""
    first = seeds[0].errors
    columns = ("phones", "substitutions", "deletions", "insertions")
    sums = ([sum(counts) for counts in zip(*(getattr(one.errors, name) for one in seeds))] for name in columns)
    return ErrorRate(first.utterances, *sums)


def _spread(seeds: list[Recognised]) -> str:
    rates = [one.errors.rate for one in seeds]
    return f"; from {min(rates):.1f} to {max(rates):.1f}" if len(seeds) > 1 else ""
