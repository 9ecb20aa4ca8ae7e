"""Table 1: phones and speakers by frame, from what probes and networks trained end to end wrote."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from cpc_speech.ablation_report import row_name
from cpc_speech.config import Config, load_config
from cpc_speech.metrics import training_state
from cpc_speech.pretraining_report import TEST_HEARD, effort, say_test_heard, show_updates, test_heard
from cpc_speech.probe_facts import fits, seed_facts, show_grid_ends, show_probe_seeds
from cpc_speech.scores import Score, load_score, show_accuracy, show_difference, wilson

# van den Oord et al. 2018: phone, speaker, in per cent. Of Table 1; same-speaker negatives of Table 2, and the hidden
# layer of section 3.1's text.
PAPER = {
    "random initialisation": (27.6, 1.87),
    "MFCC, 13": (39.7, 17.6),
    "CPC, mixed speaker": (64.6, 97.4),
    "CPC, same speaker": (65.5, None),
    "CPC, mixed speaker, one hidden layer": (72.5, None),
    "supervised": (74.6, 98.5),
}
TASKS = ("phone", "speaker")
REFERENCES = ("mfcc", "mfcc39")  # what the others are compared with
_ORDER = ("random", "mfcc", "mfcc39", "fbank", "c", "z", "finetuned", "supervised")
LABELS = {
    "random": "random initialisation",
    "mfcc": "MFCC, 13",
    "mfcc39": "MFCC, 13 with deltas",
    "fbank": "log-mel filterbank, 80",
    "supervised": "supervised",
}


@dataclass
class Result:
    """One number of the table: a row's accuracy on a task, with what a probe wrote about it."""

    row: str
    task: str
    score: Score
    facts: dict[str, Any]
    exp: Path

    @property
    def seed(self) -> int | None:
        """Of the network, where there is one."""
        return self.facts.get("seed")

    @property
    def config(self) -> Config | None:
        """Of the network, where there is one."""
        return Config(**self.facts["config"]) if self.facts.get("config") else None

    @property
    def candidates(self) -> int | None:
        """N of a CPC model's loss."""
        return self.config.num_candidates if self.config and self.facts["row"] in ("c", "z") else None

    @property
    def whole_utterances(self) -> tuple[float, float, float] | None:
        """Of a speaker's row: the share of utterances that are right as a whole, in per cent, the mean over the probe's
        seeds; and its 95 % interval."""
        if (right := self.facts.get("utterances_right")) is None:
            return None
        share = 100 * sum(right) / (fits(self.facts) * len(right))
        return (share, *wilson(share, len(right)))


class Row(NamedTuple):
    """A line of the table: one representation or network, on one task or both."""

    number: str
    label: str
    tasks: dict[str, Result]

    @property
    def paper_name(self) -> str:
        """What the paper calls it, which does not say what of the audio its models heard."""
        return self.label.removesuffix(TEST_HEARD)

    @property
    def paper(self) -> tuple[float | None, float | None]:
        """The paper's accuracies."""
        return PAPER.get(self.paper_name, (None, None))


def collect(exp: Path) -> list[Result]:
    """All probe results below ``exp``, in the order of the table."""
    results = []
    for path in _files(exp, "probes/*.json"):
        score, facts = load_score(path)
        results.append(Result(row_label(facts), facts["task"], score, facts, path.parent.parent))
    results.sort(
        key=lambda r: (
            _ORDER.index(r.facts["row"]),
            r.facts["probe"] == "mlp",
            r.facts["probe_context"],
            r.row,
            str(r.exp),
            r.task,
        )
    )
    return results


def _files(exp: Path, pattern: str) -> list[Path]:
    """Those of experiments, but for folders that are hidden, such as those that --force of a recipe sets aside."""
    return [path for path in sorted(exp.glob(f"*/{pattern}")) if not path.relative_to(exp).parts[0].startswith(".")]


def row_label(facts: dict[str, Any]) -> str:
    """The row's name: the paper's, where the paper has such a row."""
    if facts["row"] == "finetuned":
        config = facts["pretrained"]["config"]
        return f"{_setting(Config(**config))}, fine-tuned{test_heard(config)}"
    label = LABELS.get(facts["row"]) or _setting(Config(**facts["config"]))
    if facts["row"] == "z":
        label += ", z_t"
    if facts["probe"] == "mlp":
        label += ", one hidden layer"
    if facts["probe_context"] == "window":
        label += ", context afresh every window"
    return label + (test_heard(facts["config"]) if facts["row"] in ("c", "z") else "")


def model_label(config: Config) -> str:
    """What a row of a CPC model is called, whatever is made of its c_t."""
    return _setting(config) + test_heard(config)


def _setting(config: Config) -> str:
    """Of negatives, by the paper's name, and what else is not as in the paper's Table 1."""
    return f"CPC, {row_name(config)}".replace(", 12 steps", "")


def rows(results: list[Result]) -> list[Row]:
    """All rows; the two tasks of a baseline share one, two CPC models never do."""
    grouped: dict[tuple[str, Path | None], dict[str, Result]] = {}
    for result in results:
        row = grouped.setdefault((result.row, result.exp if result.candidates else None), {})
        if result.task in row:  # a second experiment of the same name
            row = grouped.setdefault((result.row, result.exp), {})
        row[result.task] = result
    return [Row(f"1.{i}", label, tasks) for i, ((label, _), tasks) in enumerate(grouped.items(), 1)]


class UnderWay(NamedTuple):
    """A further row: a network in training, or a model that waits for its first probe."""

    number: str
    label: str
    task: str | None  # of a network that is trained for one
    exp: Path
    config: Config
    state: str

    @property
    def cells(self) -> list[str]:
        """Of the tasks. A model of CPC is for both, and said of once."""
        return [self.state if task == (self.task or TASKS[0]) else "" for task in TASKS]


def under_way(exp: Path, results: list[Result]) -> list[UnderWay]:
    """Models of CPC first, then networks trained end to end."""
    shown = {result.exp for result in results}
    begun = []
    for name in ("metrics.jsonl", "network.json"):
        for path in _files(exp, name):
            if path.parent in shown:
                continue
            config = load_config([path.parent / "config.yaml"])
            if name == "metrics.jsonl":
                begun.append((model_label(config), None, path.parent, config))
            else:
                facts = json.loads(path.read_text(encoding="utf-8"))
                about = {"probe": "end_to_end", "probe_context": "utterance"}
                begun.append((row_label(facts | about), facts["task"], path.parent, config))
    return [
        UnderWay(f"1.{i}", *one, training_state(one[2], one[3].updates))
        for i, one in enumerate(begun, len(rows(results)) + 1)
    ]


def table(exp: Path, results: list[Result]) -> list[str]:
    """The paper's accuracies beside ours, with 95 % intervals; of models that are under way, how far they are."""
    majority = {result.task: f"{result.facts['majority']:.1f}" for result in results}
    lines = [
        "| no. | | phone, % | speaker, % | speaker of an utterance, % | paper: phone | paper: speaker | updates | N |",
        "|---" * 9 + "|",
        f"| | most frequent class | {majority.get('phone', '')} | {majority.get('speaker', '')} | | | | | |",
    ]
    for row in rows(results):
        ours = [*(_cell(row.tasks.get(task)) for task in TASKS), _utterance_cell(row.tasks.get("speaker"))]
        paper = ["" if value is None else str(value) for value in row.paper]
        updates = dict.fromkeys(filter(None, (show_updates(r.facts) for r in row.tasks.values())))
        n = next((f"{r.candidates:,}" for r in row.tasks.values() if r.candidates), "")
        lines.append(f"| {' | '.join([row.number, row.label, *ours, *paper, ' / '.join(updates), n])} |")
    for one in under_way(exp, results):
        n = "" if one.task else f"{one.config.num_candidates:,}"
        cells = [one.number, one.label, *one.cells, "", "", "", f"{one.config.updates:,}", n]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(result: Result | None) -> str:
    return show_accuracy(result.score.accuracy, *result.facts["ci95"]) if result else ""


def _utterance_cell(result: Result | None) -> str:
    whole = result.whole_utterances if result else None
    return show_accuracy(*whole) if whole else ""


def section(exp: Path, results: list[Result]) -> Iterable[str]:
    """Lines of the page."""
    numbered = [(f"row {row.number}", r.facts) for row in rows(results) for r in row.tasks.values()]
    yield "## Table 1: phones and speakers, told from single frames"
    yield ""
    yield from table(exp, results)
    yield ""
    yield (
        "Accuracy over all test frames of a multinomial logistic regression on the representation of a frame, or of a "
        "classifier with one hidden layer where the row says so. *Fine-tuned* is the pretrained network, encoder and "
        "all, trained on for each task; *supervised* is the same network trained end to end, one for each task. The "
        "speaker of an utterance is the one with the greatest mean over its frames. CPC is c_t, which has heard all of "
        "the utterance so far; N is the number of candidates, the positive among them. Intervals of 95 % are "
        "bootstraps over utterances, of whole utterances Wilson's. They are about more utterances of these speakers, "
        f"not about other speakers. {show_probe_seeds(numbered)}{show_grid_ends(numbered)}"
        f"{_say_checks(checks(exp))}{say_test_heard(result.row for result in results)}The paper's figures are of its "
        "own setting, which stands above beside this one's: of its Table 1, for same-speaker negatives of its Table 2, "
        "and for the hidden layer of section 3.1."
    )
    yield ""
    yield from _differences(results)


def checks(exp: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Experiments, and what local/check_probe.py found of linear probes on them."""
    paths = _files(exp, "probes/check/*.json")
    found = [(path.parents[2], json.loads(path.read_text(encoding="utf-8"))) for path in paths]
    return sorted(found, key=lambda one: (_ORDER.index(one[1]["row"]), TASKS.index(one[1]["task"])))


def _say_checks(found: list[tuple[Path, dict[str, Any]]]) -> str:
    """A sentence, for the text below the table."""
    if not found:
        return ""
    said = [
        f"{row_label(one)}, {one['task']}: {one['accuracy']:.2f} and {one['scikit_learn']:.2f} "
        f"(of {one['train_utterances']:,} utterances, {one['train_frames']:,} frames)"
        for _, one in found
    ]
    return (
        "A linear probe, and scikit-learn's logistic regression fitted to the same frames of a subset of train, on "
        f"the same of test, %: {'; '.join(said)}. "
    )


def _differences(results: list[Result]) -> Iterable[str]:
    numbered = rows(results)
    references = {
        (result.facts["row"], result.facts["probe"], task): result.score
        for row in numbered for task, result in row.tasks.items() if result.facts["row"] in REFERENCES
    }  # fmt: skip
    names = [name for name in REFERENCES if any(name == row for row, _, _ in references)]
    if not names:
        return
    head = [f"{task}: less {LABELS[name]}" for task, name in product(TASKS, names)]
    yield "## Differences from MFCC, in points"
    yield ""
    yield f"| no. | | {' | '.join(head)} |"
    yield "|---" * (len(head) + 2) + "|"
    for row in numbered:
        cells = []
        for task, name in product(TASKS, names):
            mine = row.tasks.get(task)
            other = mine and references.get((name, "mlp" if mine.facts["probe"] == "mlp" else "linear", task))
            differ = mine and other and other is not mine.score
            cells.append(show_difference(*mine.score.difference(other)) if mine and other and differ else "")
        if any(cells):
            yield f"| {row.number} | {row.label} | {' | '.join(cells)} |"
    yield ""
    yield (
        "From MFCC with a probe of the same kind: a row with a hidden layer from MFCC with one, all others, the "
        "networks trained end to end among them, from MFCC without. Paired bootstrap over the same test utterances, "
        "with 95 % intervals."
    )
    yield ""


def objects(exp: Path, results: list[Result]) -> Iterable[dict[str, Any]]:
    """One object a number of the table, for results.json; and one a check of a probe."""
    for row in rows(results):
        for result in row.tasks.values():
            yield _object(row.number, result, row.paper[TASKS.index(result.task)])
    for path, facts in checks(exp):
        yield {
            "table": "probe check", "row": row_label(facts), "task": facts["task"], "experiment": path.name,
            "accuracy": round(facts["accuracy"], 3), "scikit_learn": round(facts["scikit_learn"], 3),
            **{key: facts[key] for key in (
                "train_utterances", "train_frames", "test_frames", "commit", "date", "command", "machine",
            )},
        }  # fmt: skip


def _object(number: str, result: Result, paper: float | None) -> dict[str, Any]:
    facts = result.facts
    low, high = facts["ci95"]
    whole = [round(value, 3) for value in result.whole_utterances or ()]
    hours, seconds = effort(result.exp, facts)
    return {
        "table": 1, "number": number, "row": result.row, "task": result.task, "probe": facts["probe"],
        "accuracy": round(facts["accuracy"], 3), "ci95": [round(low, 3), round(high, 3)],
        "utterance_accuracy": whole[0] if whole else None, "utterance_ci95": whole[1:] or None,
        "majority": round(facts["majority"], 3), "paper": paper,
        "seed": result.seed, **seed_facts(facts), "updates": facts.get("updates") or None, "hours_heard": hours,
        "seconds": seconds, "pretrain_on": pretrain_on(facts), "candidates": result.candidates,
        "experiment": result.exp.name, "probe_context": facts["probe_context"], "labels": facts.get("labels"),
        "config": facts.get("config"), "precision": precision(facts),
        "commit": facts["commit"], "date": facts["date"], "command": facts["command"], "machine": facts["machine"],
    }  # fmt: skip


def precision(facts: dict[str, Any]) -> str | None:
    """What the network computed in when it was probed, where there is one; older results are in that of training."""
    return facts.get("precision") or (facts.get("config") or {}).get("precision")


def pretrain_on(facts: dict[str, Any]) -> str | None:
    """What the pretraining of a result's network heard, where it had one."""
    config = facts["config"] if facts["row"] in ("c", "z") else (facts.get("pretrained") or {}).get("config")
    return config and config["pretrain_on"]
