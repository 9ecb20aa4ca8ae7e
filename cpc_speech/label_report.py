"""The report's section on phone labels: how aligners agree, and what probes say of labels and of moving them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cpc_speech.datadir import read_table
from cpc_speech.scores import load_score
from cpc_speech.tasks import labels_by


def label_probes(exp: Path) -> list[tuple[Path, dict[str, Any]]]:
    """What ``cpc_speech.probe --labels`` and ``--label-shift`` wrote: the experiment, and the facts."""
    return [(path.parents[2], load_score(path)[1]) for path in sorted(exp.glob("*/probes/labels/*.json"))]


def comparisons(exp: Path) -> dict[str, dict[str, Any]]:
    """Who made labels -> what ``data_prep.compare_labels`` found, with the labels' own facts as ``labels``."""
    found = {}
    for path in sorted(exp.glob("align/*/comparison.json")):
        labels = json.loads((path.parent / "labels" / "labels.json").read_text(encoding="utf-8"))
        found[path.parent.name] = {**json.loads(path.read_text(encoding="utf-8")), "labels": labels}
    return found


def section(exp: Path, data: Path, probes: list[tuple[str, Path, dict[str, Any]]]) -> Iterable[str]:
    """Lines of the page; nothing where stage 2 has not said who made the labels.

    Args:
        probes: of phones, each with its row's name in Table 1 and its experiment; those of Table 1 and those of
            ``label_probes``.
    """
    if not (data / "labels.json").is_file():
        return
    facts = json.loads((data / "labels.json").read_text(encoding="utf-8"))
    yield "## Phone labels"
    yield ""
    yield (
        f"By {facts['by']}: {facts['utterances']:,} utterances, {facts['frames']:,} frames of 10 ms, "
        f"{facts['unlabelled']:,} of them unlabelled; {_count(data / 'labels.dropped')} utterances without labels, "
        f"{_count(data / 'align.outliers')} whose score says that text and audio may not belong together."
        + (f" An hour of audio took {speed}." if (speed := _speed(facts)) else "")
    )
    yield ""
    yield from _comparison_table(comparisons(exp), facts["by"])
    mine = labels_by(data)
    yield from _by_labels([probe for probe in probes if not probe[2].get("label_shift")], mine)
    yield from _by_shift([probe for probe in probes if probe[2].get("labels") == mine])


def _speed(facts: dict[str, Any]) -> str:
    """Wall time of an alignment for an hour of audio."""
    if "seconds" not in facts:
        return ""
    return f"{facts['seconds'] * 360_000 / facts['frames']:.0f} s with {facts['processes']} processes"


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
        within = " / ".join(f"{share:.1f}" for share in boundaries["within_percent"].values())
        yield (
            f"| {name} | {_speed(one['labels'])} | {one['utterances']['compared']:,} "
            f"| {one['frames']['agreement_percent']:.1f} | {boundaries['compared']:,} of {boundaries['in_a']:,} "
            f"| {boundaries['median_ms']:.1f} | {boundaries['p90_ms']:.1f} | {boundaries['mean_ms']:+.1f} | {within} |"
        )
    yield ""
    yield (
        "A boundary is compared where both phones beside it are matched in an alignment of the two phone sequences "
        "with the fewest edits; a positive mean is later. Boundaries that the reference marks as guesses are left out."
    )
    yield ""


def _by_labels(probes: list[tuple[str, Path, dict[str, Any]]], mine: str) -> Iterable[str]:
    """One row a representation that was probed with several label sets."""
    names = list(dict.fromkeys([mine, *(facts["labels"] for _, _, facts in probes if facts.get("labels"))]))
    rows: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row, exp, facts in probes:
        rows.setdefault((row, exp.name), {})[facts.get("labels") or "unknown"] = facts
    rows = {key: found for key, found in rows.items() if len(found) > 1}
    if not rows:
        return
    yield "Phone accuracy, %, with the labels of"
    yield ""
    yield f"| | {' | '.join(names)} |"
    yield "|---" * (len(names) + 1) + "|"
    for (row, _), found in rows.items():
        yield f"| {row} | {' | '.join(_cell(found.get(name)) for name in names)} |"
    yield ""


def _by_shift(probes: list[tuple[str, Path, dict[str, Any]]]) -> Iterable[str]:
    """One row a representation that was probed with labels moved."""
    rows: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for row, exp, facts in probes:
        rows.setdefault((row, exp.name), {})[facts.get("label_shift", 0)] = facts
    rows = {key: found for key, found in rows.items() if len(found) > 1}
    if not rows:
        return
    shifts = sorted({shift for found in rows.values() for shift in found})
    yield "Phone accuracy, %, with the labels moved by frames of 10 ms (+1: a frame is named what the one before it is)"
    yield ""
    yield f"| | {' | '.join(f'{shift:+d}' if shift else '0' for shift in shifts)} | best beside 0 |"
    yield "|---" * (len(shifts) + 2) + "|"
    for (row, _), found in rows.items():
        best = max(found, key=lambda shift: found[shift]["accuracy"])
        gain = found[best]["accuracy"] - found[0]["accuracy"] if 0 in found else float("nan")
        cells = " | ".join(f"{found[shift]['accuracy']:.1f}" if shift in found else "" for shift in shifts)
        yield f"| {row} | {cells} | {gain:+.1f} at {best:+d} |"
    yield ""
    yield "Every other figure of this page is at 0, where a label belongs to the frame whose centre it covers."
    yield ""


def _cell(facts: dict[str, Any] | None) -> str:
    return "" if facts is None else f"{facts['accuracy']:.1f} ({facts['ci95'][0]:.1f}–{facts['ci95'][1]:.1f})"
