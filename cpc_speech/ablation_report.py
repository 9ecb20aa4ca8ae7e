"""Table 2: phone accuracy by how many steps ahead a model predicts, and by where its negatives come from.

An experiment of it is a folder ``exp/ablations/<row>.seed<S>``, as local/ablations.py leaves it. What a row is called
follows from its configuration; the seeds of one row are averaged.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from cpc_speech.config import Config, load_config
from cpc_speech.infonce import PAPER_SETTINGS, setting_name
from cpc_speech.metrics import training_state
from cpc_speech.pretraining_report import effort, say_test_heard, test_heard
from cpc_speech.probe_facts import seed_facts, show_grid_ends, show_probe_seeds
from cpc_speech.scores import (
    Score,
    load_score,
    mean_accuracy,
    mean_difference,
    show_accuracy,
    show_difference,
    show_seeds,
)

# van den Oord et al. 2018, Table 2, in its order: phone accuracy, in per cent.
PAPER = {
    "mixed speaker, 2 steps": 28.5,
    "mixed speaker, 4 steps": 57.6,
    "mixed speaker, 8 steps": 63.6,
    "mixed speaker, 12 steps": 64.6,
    "mixed speaker, 16 steps": 63.8,
    "same speaker, 12 steps": 65.5,
    "mixed speaker (excl.), 12 steps": 57.3,
    "same speaker (excl.), 12 steps": 64.6,
    "current sequence only, 12 steps": 65.2,
}
REFERENCE = "mixed speaker, 12 steps"
_WINDOW = 20480  # samples
# Keys that make no difference to the model that comes out, with a value for all.
HOUSEKEEPING: dict[str, Any] = {
    "log_every": 1, "dev_every": 1, "dev_minibatches": 1, "checkpoint_every": 1, "keep_checkpoints": 1,
}  # fmt: skip


@dataclass
class Ablation:
    """One experiment: a row of Table 2 with one seed."""

    name: str  # of the row, as files are called
    exp: Path
    config: Config
    score: Score | None  # of the phone probe on c_t, once there is one for the model as it was trained to the end
    facts: dict[str, Any]  # what that probe wrote about it

    @property
    def setting(self) -> str:
        """Of negatives, by the paper's name."""
        return setting_name(self.config.batch_composition, self.config.candidates)

    @property
    def paper_row(self) -> str:
        """The row's name: the paper's, where the paper has such a row; it does not say what of the audio it heard."""
        return row_name(self.config)

    @property
    def row(self) -> str:
        """The row's name, with what of the audio was heard."""
        return model_name(self.config)

    @property
    def state(self) -> str:
        """How far it is, while there is no accuracy."""
        return training_state(self.exp, self.config.updates)

    def compared_with(self) -> Config:
        """The configuration of the 12-step mixed-speaker model that differs from this one in the row alone."""
        heard = self.config.windows * self.config.window_samples  # in a minibatch: the same, however long windows are
        return replace(
            self.config, batch_composition="mixed_speaker", candidates="minibatch", negatives="all", steps=12,
            window_samples=_WINDOW, windows=max(1, heard // _WINDOW), **HOUSEKEEPING,
        )  # fmt: skip


class Row(NamedTuple):
    """A line of the table: the seeds of one row, none where it was not begun."""

    number: str
    name: str  # with what of the audio was heard
    paper: float | None
    seeds: list[Ablation]


def row_name(config: Config) -> str:
    """What the model is called: the paper's name, where the paper has such a row."""
    parts = [setting_name(config.batch_composition, config.candidates), f"{config.steps} steps"]
    if config.negatives != "all":
        parts.append(f"{config.negatives} negatives")
    if config.window_samples != _WINDOW:
        parts.append(f"windows of {config.window_samples:,} samples")
    return ", ".join(parts)


def model_name(config: Config) -> str:
    """What the model is called, with what of the audio was heard."""
    return row_name(config) + test_heard(config)


def ablations(exp: Path) -> list[Ablation]:
    """All experiments of Table 2 that were begun: the paper's rows first, in its order; then by configuration."""
    found = []
    for path in sorted(exp.glob("ablations/*.seed*/config.yaml")):
        if not (match := re.fullmatch(r"(.+)\.seed\d+", path.parent.name)):
            continue
        config = load_config([path])
        score: Score | None = None
        facts: dict[str, Any] = {}
        probe = path.parent / "probes" / "c.phone.linear.json"
        if probe.exists():
            score, facts = load_score(probe)
            if facts["updates"] != config.updates:  # probed on the way
                score, facts = None, {}
        found.append(Ablation(match[1], path.parent, config, score, facts))
    return sorted(found, key=_order)


def _order(ablation: Ablation) -> tuple:
    config, paper = ablation.config, list(PAPER)
    place = paper.index(ablation.paper_row) if ablation.paper_row in paper else len(paper)
    negatives = 0 if config.negatives == "all" else int(config.negatives)
    length = 0 if config.window_samples == _WINDOW else config.window_samples
    setting = list(PAPER_SETTINGS).index(ablation.setting)
    return place, length, negatives, config.steps, setting, ablation.name, config.seed


def grouped(found: list[Ablation]) -> list[list[Ablation]]:
    """The seeds of each row together. Models of one name that differ in more than the seed are rows apart."""
    rows: dict[tuple[str, Config], list[Ablation]] = {}
    for ablation in found:
        rows.setdefault((ablation.name, replace(ablation.config, seed=0, **HOUSEKEEPING)), []).append(ablation)
    return list(rows.values())


def rows(found: list[Ablation]) -> list[Row]:
    """All rows of the table, also the paper's that were not begun; then those that the paper does not have."""
    by_name: dict[str, list[list[Ablation]]] = {name: [] for name in PAPER}
    for seeds in grouped(found):
        by_name.setdefault(seeds[0].paper_row, []).append(seeds)
    lines = [(name, seeds) for name, models in by_name.items() for seeds in models or [[]]]
    return [
        Row(f"2.{i}", seeds[0].row if seeds else name, PAPER.get(name), seeds)
        for i, (name, seeds) in enumerate(lines, 1)
    ]


def references(found: list[Ablation]) -> dict[Path, Score]:
    """Experiment -> the score of the 12-step mixed-speaker model with the same seed and everything else alike;
    experiments that have no such model to compare with are left out."""
    by_config = {}
    for ablation in found:
        if ablation.score and ablation.paper_row == REFERENCE:
            by_config[replace(ablation.config, **HOUSEKEEPING)] = ablation.score
    compared = {one.exp: by_config.get(one.compared_with()) for one in found if one.paper_row != REFERENCE}
    return {exp: score for exp, score in compared.items() if score}


def section(found: list[Ablation]) -> Iterable[str]:
    """Lines of the page; nothing where no row of Table 2 was begun."""
    if not found:
        return
    yield "## Table 2: steps ahead, and where negatives come from"
    yield ""
    yield from table(found)
    yield ""
    probed = [(f"row {row.number}", one.facts) for row in rows(found) for one in row.seeds if one.score]
    yield (
        "Phone accuracy of a linear probe on c_t, and less that of the 12-step mixed-speaker model of the same seed, "
        "with 95 % intervals: with one seed, a bootstrap over utterances, for differences a paired one; with several, "
        "that of the mean over models of any seed, as below for orderings, and s, the standard deviation of the seeds. "
        f"{_say_spread(found)}{show_probe_seeds(probed)}{show_grid_ends(probed)}"
        f"{say_test_heard(one.row for one in found)}".rstrip()
    )
    yield ""


def _say_spread(found: list[Ablation]) -> str:
    """A sentence on the seeds of networks, for the text below the table; nothing where each row has one."""
    scores = {row.number: [one.score.accuracy for one in row.seeds if one.score] for row in rows(found)}
    spread = {row: statistics.stdev(several) for row, several in scores.items() if len(several) > 1}
    if not spread:
        return ""
    widest = max(spread, key=lambda row: spread[row])
    return (
        f"The seeds of row {widest} spread the most, by {spread[widest]:.1f}: of a difference of one seed that is not "
        "well above that, another seed may say otherwise. "
    )


def table(found: list[Ablation]) -> list[str]:
    """Table 2: the paper's accuracies beside ours; its rows that were not begun stand with the paper's figure alone."""
    compared = references(found)
    return [
        "| no. | | phone, % | less mixed speaker, 12 steps | paper: phone | N | updates | seeds |",
        "|---" * 8 + "|",
        *(_line(row, compared) for row in rows(found)),
    ]


def _line(row: Row, compared: dict[Path, Score]) -> str:
    seeds, paper = row.seeds, "" if row.paper is None else str(row.paper)
    if not seeds:
        return f"| {row.number} | {row.name} | | | {paper} | | | |"
    config = seeds[0].config
    scores = [one.score for one in seeds if one.score]
    accuracy = show_accuracy(*mean_accuracy(scores)) + _spread([score.accuracy for score in scores]) if scores else ""
    under_way = [
        f"{one.state}{f' (seed {one.config.seed})' if len(seeds) > 1 else ''}" for one in seeds if not one.score
    ]
    pairs = [(one.score, compared[one.exp]) for one in seeds if one.score and one.exp in compared]
    difference = ""
    if pairs:
        difference = show_difference(*mean_difference(pairs)) + _spread([a.accuracy - b.accuracy for a, b in pairs])
        difference += show_seeds([one.config.seed for one in seeds if one.score and one.exp in compared], len(scores))
    cells = [
        row.number, row.name, "; ".join(filter(None, [accuracy, *under_way])), difference, paper,
        f"{config.num_candidates:,}", f"{config.updates:,}", ", ".join(str(one.config.seed) for one in seeds),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _spread(values: list[float]) -> str:
    return f", s {statistics.stdev(values):.1f}" if len(values) > 1 else ""


def objects(found: list[Ablation]) -> Iterable[dict[str, Any]]:
    """What Table 2 is made of, for results.json: one object an experiment that was probed, and one for each row that
    was probed with several seeds."""
    compared = references(found)
    for row in rows(found):
        probed = [one for one in row.seeds if one.score]
        for one in probed:
            yield _object(row, one, compared.get(one.exp))
        scores = [one.score for one in probed if one.score]
        if len(scores) > 1:
            mean, *interval = (round(value, 3) for value in mean_accuracy(scores))
            config = probed[0].config
            yield {
                "table": "2, over seeds", "number": row.number, "row": row.name, "task": "phone",
                "mean": mean, "ci95": interval,
                "standard_deviation": round(statistics.stdev([score.accuracy for score in scores]), 3),
                "paper": row.paper, "seeds": [one.config.seed for one in probed], "updates": config.updates,
                "candidates": config.num_candidates, "pretrain_on": config.pretrain_on,
            }  # fmt: skip


def _object(row: Row, one: Ablation, reference: Score | None) -> dict[str, Any]:
    apart = one.score.difference(reference) if one.score and reference else None
    difference, *interval = (round(value, 3) for value in apart) if apart else (None,)
    hours, seconds = effort(one.exp, one.facts)
    return {
        "table": 2, "number": row.number, "row": row.name, "task": "phone", "probe": one.facts["probe"],
        "accuracy": round(one.facts["accuracy"], 3), "ci95": [round(value, 3) for value in one.facts["ci95"]],
        "difference": difference, "difference_ci95": interval or None, "paper": row.paper,
        "seed": one.config.seed, **seed_facts(one.facts), "updates": one.facts["updates"], "hours_heard": hours,
        "seconds": seconds, "pretrain_on": one.config.pretrain_on, "candidates": one.config.num_candidates,
        "experiment": f"ablations/{one.exp.name}", "labels": one.facts.get("labels"), "config": asdict(one.config),
        "commit": one.facts["commit"], "date": one.facts["date"], "command": one.facts["command"],
        "machine": one.facts["machine"],
    }  # fmt: skip
