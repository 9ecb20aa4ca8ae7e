"""The report's section on phone labels: how aligners agree, and what probes say of other labels and of moved ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from cpc_speech.datadir import read_table
from cpc_speech.probe_facts import seed_facts
from cpc_speech.scores import Score, load_score, show_accuracy, show_difference
from cpc_speech.tasks import labels_by


class LabelProbe(NamedTuple):
    """A phone probe."""

    row: str  # as Table 1 names it
    exp: Path
    score: Score
    facts: dict[str, Any]


def label_probes(exp: Path, name: Callable[[dict[str, Any]], str]) -> list[LabelProbe]:
    """What ``cpc_speech.probe --labels`` and ``--label-shift`` wrote; ``name`` gives the row."""
    found = [(path, *load_score(path)) for path in sorted(exp.glob("*/probes/labels/*.json"))]
    return [LabelProbe(name(facts), path.parents[2], score, facts) for path, score, facts in found]


def comparisons(exp: Path) -> dict[str, dict[str, Any]]:
    """Who made labels -> what ``data_prep.compare_labels`` found, with the labels' own facts as ``labels``."""
    found = {}
    for path in sorted(exp.glob("align/*/comparison.json")):
        labels = json.loads((path.parent / "labels" / "labels.json").read_text(encoding="utf-8"))
        found[path.parent.name] = {**json.loads(path.read_text(encoding="utf-8")), "labels": labels}
    return found


def section(exp: Path, data: Path, probes: list[LabelProbe]) -> Iterable[str]:
    """Lines of the page; nothing where stage 2 has not said who made the labels.

    Args:
        probes: those of Table 1 and those of ``label_probes``.
    """
    if not (data / "labels.json").is_file():
        return
    facts = json.loads((data / "labels.json").read_text(encoding="utf-8"))
    scored = data / "align.outliers"
    yield "## Phone labels"
    yield ""
    yield (
        f"By {facts['by']}: {facts['utterances']:,} utterances, {facts['frames']:,} frames of 10 ms, "
        f"{facts['unlabelled']:,} of them unlabelled; {_count(data / 'labels.dropped')} utterances without labels"
        + (f", {_count(scored)} whose score is an outlier: their text may not fit" if scored.is_file() else "")
        + "."
        + (f" An hour of audio took {speed}." if (speed := _speed(facts)) else "")
    )
    yield ""
    yield from _comparison_table(comparisons(exp), facts["by"])
    mine = labels_by(data)
    yield from _by_labels([probe for probe in probes if not probe.facts.get("label_shift")], mine)
    yield from _by_shift([probe for probe in probes if probe.facts.get("labels") == mine])


def _speed(facts: dict[str, Any]) -> str:
    """Wall time of an alignment for an hour of audio."""
    if "seconds" not in facts:
        return ""
    return f"{facts['seconds'] * 360_000 / facts['frames']:.0f} s with {facts['processes']} processes"


def _show(figure: float | None, form: str = ".1f") -> str:
    """A figure, or nothing where there was nothing to compute it from."""
    return "" if figure is None else format(figure, form)


def _count(path: Path) -> int:
    return len(read_table(path)) if path.is_file() else 0


def _comparison_table(found: dict[str, dict[str, Any]], by: str) -> Iterable[str]:
    if not found:
        return
    yield (
        f"| compared with {by} | an hour of audio takes | utterances | frames that agree, % | boundaries compared "
        "| median, ms | 90th percentile, ms | mean, ms | within 10 / 20 / 50 ms, % |"
    )
    yield "|---" * 9 + "|"
    for name, one in found.items():
        boundaries = one["boundaries"]
        within = " / ".join(map(_show, boundaries["within_percent"].values()))
        alone = one["utterances"]["only_a"]
        utterances = f"{one['utterances']['compared']:,}{f' ({alone} have no labels)' if alone else ''}"
        yield (
            f"| {name} | {_speed(one['labels'])} | {utterances} "
            f"| {_show(one['frames']['agreement_percent'])} | {boundaries['compared']:,} of {boundaries['in_a']:,} "
            f"| {_show(boundaries['median_ms'])} | {_show(boundaries['p90_ms'])} "
            f"| {_show(boundaries['mean_ms'], '+.1f')} | {within} |"
        )
    yield ""
    yield (
        "A boundary is compared where both phones beside it are matched in an alignment of the two phone sequences "
        "with the fewest edits; a positive mean is later. Boundaries that the reference marks as guesses are left out."
    )
    yield ""


def _by_labels(probes: list[LabelProbe], mine: str) -> Iterable[str]:
    """One row a representation that was probed with several label sets."""
    names = list(dict.fromkeys([mine, *(probe.facts["labels"] for probe in probes if probe.facts.get("labels"))]))
    rows: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row, exp, _, facts in probes:
        rows.setdefault((row, exp.name), {})[facts.get("labels") or "unknown"] = facts
    rows = {key: found for key, found in rows.items() if len(found) > 1}
    if not rows:
        return
    yield "Phone accuracy, %, with the labels of"
    yield ""
    yield f"| | {' | '.join(names)} |"
    yield "|---" * (len(names) + 1) + "|"
    majority = {name: facts["majority"] for found in rows.values() for name, facts in found.items()}
    yield f"| most frequent class | {' | '.join(_show(majority.get(name)) for name in names)} |"
    for (row, _), found in rows.items():
        yield f"| {row} | {' | '.join(_cell(found.get(name)) for name in names)} |"
    yield ""


def _by_shift(probes: list[LabelProbe]) -> Iterable[str]:
    """One row a representation that was probed with labels moved."""
    rows: dict[tuple[str, str], dict[int, Score]] = {}
    for row, exp, score, facts in probes:
        rows.setdefault((row, exp.name), {})[facts.get("label_shift", 0)] = score
    rows = {key: found for key, found in rows.items() if len(found) > 1 and 0 in found}
    if not rows:
        return
    shifts = sorted({shift for found in rows.values() for shift in found})
    yield "Phone accuracy, %, with the labels moved by frames of 10 ms (+1: a frame is named what the one before it is)"
    yield ""
    yield f"| | {' | '.join(f'{shift:+d}' if shift else '0' for shift in shifts)} | the best, less that at 0 |"
    yield "|---" * (len(shifts) + 2) + "|"
    for (row, _), found in rows.items():
        best = max(found, key=lambda shift: found[shift].accuracy)
        gain = f"{show_difference(*found[best].difference(found[0]))} at {best:+d}" if best else "is at 0"
        cells = " | ".join(_show(found[shift].accuracy if shift in found else None) for shift in shifts)
        yield f"| {row} | {cells} | {gain} |"
    yield ""
    yield (
        "The last column's interval is a paired bootstrap over utterances; its shift was chosen on these test frames. "
        "Every other figure of this page is at 0, where a frame is named what its centre is."
    )
    yield ""


def objects(exp: Path, data: Path, name: Callable[[dict[str, Any]], str]) -> Iterable[dict[str, Any]]:
    """What the section is made of, for results.json; ``name`` gives a probe's row."""
    for aligner, found in comparisons(exp).items():
        yield {
            "table": "label comparison", "row": aligner, "reference": labels_by(data), "alignment": found["labels"],
            **{key: found[key] for key in ("utterances", "frames", "boundaries")},
        }  # fmt: skip
    for row, path, _, facts in label_probes(exp, name):
        keys = ("labels", "label_shift", "accuracy", "ci95", "commit", "date", "command", "machine")
        yield {
            "table": "labels", "row": row, "task": "phone", "experiment": path.name,
            "seed": facts.get("seed"), "updates": facts.get("updates") or None,
            **{key: facts[key] for key in keys}, **seed_facts(facts),
        }  # fmt: skip


def _cell(facts: dict[str, Any] | None) -> str:
    return "" if facts is None else show_accuracy(facts["accuracy"], *facts["ci95"])
