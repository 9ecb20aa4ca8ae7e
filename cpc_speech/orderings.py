"""Whether what the paper found better is better here too, and how sure that is.

A claim is that of two rows of its Tables 1 and 2 one has the greater accuracy. Here it is measured on models that
differ in nothing else: same seed, same other values, same test utterances. Only the supervised network has a number of
updates of its own.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from cpc_speech import ablation_report, probe_report
from cpc_speech.ablation_report import HOUSEKEEPING, REFERENCE, Ablation
from cpc_speech.checkpoint import build_model
from cpc_speech.config import Config
from cpc_speech.pretraining_report import TEST_HEARD
from cpc_speech.probe_report import Result
from cpc_speech.scores import Score, mean_difference, show_difference

_HIDDEN = "CPC, mixed speaker, one hidden layer"
# Better, worse, task, and the table whose rows are looked at first. Whether "current sequence only" stands above or
# below "mixed speaker" is what the paper measured, not what it argues.
CLAIMS = (
    ("same speaker, 12 steps", REFERENCE, "phone", 2),
    (REFERENCE, "mixed speaker (excl.), 12 steps", "phone", 2),
    ("same speaker, 12 steps", "same speaker (excl.), 12 steps", "phone", 2),
    ("current sequence only, 12 steps", REFERENCE, "phone", 2),
    ("mixed speaker, 4 steps", "mixed speaker, 2 steps", "phone", 2),
    ("mixed speaker, 8 steps", "mixed speaker, 4 steps", "phone", 2),
    (REFERENCE, "mixed speaker, 8 steps", "phone", 2),
    (REFERENCE, "mixed speaker, 16 steps", "phone", 2),
    (REFERENCE, "MFCC, 13", "phone", 1),
    (REFERENCE, "MFCC, 13", "speaker", 1),
    ("MFCC, 13", "random initialisation", "phone", 1),
    ("MFCC, 13", "random initialisation", "speaker", 1),
    ("supervised", REFERENCE, "phone", 1),
    ("supervised", REFERENCE, "speaker", 1),
    (_HIDDEN, REFERENCE, "phone", 1),
)


class Model(NamedTuple):
    """One accuracy of a row of the paper."""

    number: str  # of the row of the report
    row: str  # as the paper calls it: of a linear probe on c_t by Table 2's name
    task: str
    config: Config | None  # of the network; None where there is none
    score: Score
    experiment: str

    @property
    def table(self) -> int:
        return int(self.number[0])

    @property
    def is_cpc(self) -> bool:
        return self.row not in probe_report.PAPER or self.row == _HIDDEN


@dataclass
class Ordering:
    """A claim, and the pairs of models of one kind that it was measured on, one a seed; no pair if it was not."""

    better: str
    worse: str
    task: str
    pairs: list[tuple[Model, Model]]

    @property
    def paper(self) -> float:
        """By how much, in points."""
        return _paper(self.better, self.task) - _paper(self.worse, self.task)

    @property
    def pretrain_on(self) -> str | None:
        """What the pretraining of the models heard, where one was pretrained."""
        heard = [model.config.pretrain_on for pair in self.pairs for model in pair if model.is_cpc and model.config]
        return heard[0] if heard else None

    @property
    def heard(self) -> str:
        """What is added to the claim where models heard test's audio."""
        return TEST_HEARD if self.pretrain_on == "all" else ""

    @property
    def seeds(self) -> list[int]:
        """Of the networks."""
        configs = [[side.config for side in pair if side.config] for pair in self.pairs]
        return [side[0].seed for side in configs if side]

    @property
    def by_seed(self) -> list[float]:
        """Difference of each pair, in points."""
        return [a.score.accuracy - b.score.accuracy for a, b in self.pairs]

    @functools.cached_property
    def difference(self) -> tuple[float, float, float]:
        """Mean over seeds, in points, and its 95 % interval; see ``scores.mean_difference``."""
        return mean_difference([(a.score, b.score) for a, b in self.pairs])

    @property
    def finding(self) -> str:
        """What the interval alone says."""
        if not self.pairs:
            return "not measured"
        _, low, high = self.difference
        return "as in the paper" if low > 0 else "not at this scale: reversed" if high < 0 else "undecided"

    @property
    def verdict(self) -> str:
        """The finding, and whether it is about one pair of models only."""
        return self.finding + " (one seed)" * (len(self.pairs) == 1)


def _paper(row: str, task: str) -> float:
    if task == "phone" and row in ablation_report.PAPER:
        return ablation_report.PAPER[row]
    values = probe_report.PAPER["CPC, mixed speaker" if row == REFERENCE else row]
    value = values[probe_report.TASKS.index(task)]
    assert value is not None
    return value


def orderings(results: list[Result], found: list[Ablation]) -> list[Ordering]:
    """All claims, in order; one for each kind of model that it was measured on."""
    models = [*_of_table_1(results), *_of_table_2(found)]
    answers = []
    for better, worse, task, table in CLAIMS:
        mine = sorted((model for model in models if model.task == task), key=lambda model: model.table != table)
        kinds: dict[Config | None, dict[int | None, tuple[Model, Model]]] = {}
        for a in (model for model in mine if model.row == better):
            for b in (model for model in mine if model.row == worse):
                if _differ_in_the_row_alone(a, b):
                    seeds = [model.config.seed for model in (a, b) if model.config]
                    kind = next((_kind(model) for model in (a, b) if model.is_cpc), None)
                    # What stage 4 trained may be a row of both tables.
                    kinds.setdefault(kind, {}).setdefault(seeds[0] if seeds else None, (a, b))
        for pairs in kinds.values() or [{}]:
            answers.append(Ordering(better, worse, task, [pairs[seed] for seed in sorted(pairs, key=lambda s: s or 0)]))
    return answers


def _of_table_1(results: list[Result]) -> Iterable[Model]:
    for row in probe_report.rows(results):
        for task, result in row.tasks.items():
            facts, name = result.facts, row.paper_name
            if facts["row"] == "c" and result.config and facts["updates"] != result.config.updates:
                continue  # probed on the way
            if result.config and (facts["row"], facts["probe"], facts["probe_context"]) == ("c", "linear", "utterance"):
                name = ablation_report.row_name(result.config)
            yield Model(row.number, name, task, result.config, result.score, result.exp.name)


def _of_table_2(found: list[Ablation]) -> Iterable[Model]:
    for row in ablation_report.rows(found):
        for one in row.seeds:
            if one.score:
                yield Model(
                    row.number, one.paper_row, "phone", one.config, one.score, f"ablations/{one.exp.name}"
                )  # fmt: skip


def _differ_in_the_row_alone(a: Model, b: Model) -> bool:
    if a.config is None or b.config is None:
        return True
    if a.config.seed != b.config.seed:
        return False
    return _kind(a) == _kind(b) if a.is_cpc and b.is_cpc else _shape(a.config) == _shape(b.config)


def _kind(model: Model) -> Config:
    """All but the row and the seed."""
    assert model.config
    return replace(
        model.config, seed=0, steps=1, batch_composition="mixed_speaker", candidates="minibatch", **HOUSEKEEPING
    )  # fmt: skip


@functools.lru_cache
def _shape(config: Config) -> tuple[torch.Size, ...]:
    """Of the weights of encoder and context: what an untrained, a supervised and a CPC network have in common."""
    with torch.device("meta"):
        model = build_model(config)
    return tuple(weight.shape for part in (model.encoder, model.context) for weight in part.parameters())


def section(found: list[Ordering]) -> Iterable[str]:
    """Lines of the page."""
    yield "## The paper's orderings"
    yield ""
    yield "| the paper: this | above this | in | rows | the paper, points | here, points | by seed | seeds | verdict |"
    yield "|---" * 9 + "|"
    for one in found:
        rows = " / ".join(dict.fromkeys(f"{a.number} − {b.number}" for a, b in one.pairs))
        here = show_difference(*one.difference) if one.pairs else ""
        spread = ", ".join(f"{value:+.1f}" for value in one.by_seed) if len(one.pairs) > 1 else ""
        seeds = ", ".join(map(str, one.seeds))
        yield (
            f"| {one.better} | {one.worse} | {one.task}{one.heard} | {rows} | {one.paper:+.1f} | {here} | {spread} "
            f"| {seeds} | {one.verdict} |"
        )
    yield ""
    yield (
        "Differences of accuracy between models that are alike in all else, but that *supervised* has a number of "
        "updates of its own, with 95 % intervals. With one seed it is a "
        "paired bootstrap over the test utterances: it speaks of these two models, and another seed may say otherwise. "
        "With several it is about models of any seed: the mean of the seeds' paired differences, whose variance is "
        "that of the bootstrap (the seeds of an utterance drawn together) plus that between seeds over their number, "
        "and Student's t with the degrees of freedom of such a sum (Satterthwaite, 1946). A row without a seed (MFCC) "
        "is compared with each. The verdict follows from the interval alone, each claim for itself: above 0 *as in the "
        "paper*, below 0 *not at this scale: reversed*, else *undecided*; *one seed* is of one pair of models alone. "
        "The paper states neither seeds nor intervals."
    )
    yield ""


def summary(found: list[Ordering]) -> Iterable[str]:
    """How many claims hold, and by name those that do not; nothing where none was measured."""
    measured = [one for one in found if one.pairs]
    if not measured:
        return
    shown = sum(one.finding == "as in the paper" for one in measured)
    alone = sum(len(one.pairs) == 1 for one in measured)
    seeds = f", {alone if alone < len(measured) else 'all'} of them with one seed" if alone else ""
    said = [f"Of {len(measured)} of the paper's orderings that were measured here{seeds}, {shown} are as in the paper"]
    for name, finding in (("reversed", "not at this scale: reversed"), ("undecided", "undecided")):
        others = [
            f"{one.better} above {one.worse} ({one.task}{one.heard}, {show_difference(*one.difference)})"
            for one in measured if one.finding == finding
        ]  # fmt: skip
        if others:
            said.append(f"{name}: {', and '.join(others)}")
    yield "; ".join(said) + "."
    yield ""


def objects(found: list[Ordering]) -> Iterable[dict[str, Any]]:
    """One object a claim, for results.json."""
    for one in found:
        mean, *interval = (round(value, 3) for value in one.difference) if one.pairs else (None,)
        by_seed = one.by_seed
        yield {
            "table": "orderings", "better": one.better, "worse": one.worse, "task": one.task,
            "pretrain_on": one.pretrain_on, "paper": round(one.paper, 2),
            "difference": mean, "difference_ci95": interval or None,
            "by_seed": [round(value, 3) for value in by_seed], "seeds": one.seeds,
            "standard_deviation": round(statistics.stdev(by_seed), 3) if len(by_seed) > 1 else None,
            "numbers": [[a.number, b.number] for a, b in one.pairs],
            "experiments": [[a.experiment, b.experiment] for a, b in one.pairs], "verdict": one.verdict,
        }  # fmt: skip
