"""The tables, from what probes and trainings wrote.

    python -m cpc_speech.report exp --data data/mini                      # prints them, at any time
    python -m cpc_speech.report exp --data data/mini --write exp/report   # RESULTS.md and results.json

``results.json`` holds one object a number. Nothing in either file is typed by hand.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpc_speech import ablation_report, label_report, pretraining_report
from cpc_speech.config import Config, load_config
from cpc_speech.datadir import read_list, read_table
from cpc_speech.errors import UserError, run
from cpc_speech.files import atomic_write
from cpc_speech.infonce import setting_name
from cpc_speech.metrics import progress
from cpc_speech.provenance import provenance
from cpc_speech.scores import Score, load_score, show_accuracy, show_difference

# van den Oord et al. 2018, Table 1 (and, for same-speaker negatives, Table 2): phone, speaker, in per cent.
PAPER = {
    "random initialisation": (27.6, 1.87),
    "MFCC, 13": (39.7, 17.6),
    "CPC, mixed speaker": (64.6, 97.4),
    "CPC, same speaker": (65.5, None),
    "CPC, mixed speaker, one hidden layer": (72.5, None),
    "supervised": (74.6, 98.5),
}
TASKS = ("phone", "speaker")
MFCC = "MFCC, 13"
_ORDER = ("random", "mfcc", "mfcc39", "c", "z", "finetuned", "supervised")
_LABELS = {
    "random": "random initialisation",
    "mfcc": "MFCC, 13",
    "mfcc39": "MFCC, 13 with differences",
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
    def seed(self) -> int:
        """Of the network, or where there is none of the probe."""
        return self.facts["seed"] if "seed" in self.facts else self.facts["probe_seed"]

    @property
    def candidates(self) -> int | None:
        """N of a CPC model's loss."""
        return Config(**self.facts["config"]).num_candidates if self.facts["row"] in ("c", "z") else None


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path, help="the folder of the experiments")
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--write", type=Path, help="write RESULTS.md and results.json into this folder")
    parser.add_argument("--title", default="Results")
    parser.add_argument("--command", default="", help="the command that made it all, to stand in the report")
    args = parser.parse_args(argv)

    results, ablations = collect(args.exp), ablation_report.ablations(args.exp)
    waiting = under_way(args.exp, results)
    if not (results or waiting or ablations):
        raise UserError(f"{args.exp}: no probe has written a result here yet; run stage 5 first")
    if not args.write:
        print("\n".join(table(results) + waiting))
        if ablations:
            print("\n".join(["", *ablation_report.table(ablations)]))
        return
    text = "\n".join([f"# {args.title}", "", *page(results, args.exp, args.data, args.command)]) + "\n"
    with atomic_write(args.write / "results.json") as file:
        found = [
            *map(_object, results),
            *ablation_report.objects(ablations),
            *label_report.objects(args.exp, row_label),
        ]
        json.dump(found, file, indent=1)
        file.write("\n")
    with atomic_write(args.write / "RESULTS.md") as file:
        file.write(text)
    print(text)


def collect(exp: Path) -> list[Result]:
    """All probe results below ``exp``, in the order of the table."""
    results = []
    for path in sorted(exp.glob("*/probes/*.json")):
        if path.parent.parent.name.startswith("."):
            continue
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


def row_label(facts: dict[str, Any]) -> str:
    """The row's name: the paper's, where the paper has such a row."""
    if facts["row"] == "finetuned":
        return f"CPC, {_setting(facts['pretrained']['config'])}, fine-tuned"
    label = _LABELS.get(facts["row"]) or f"CPC, {_setting(facts['config'])}"
    if facts["row"] == "z":
        label += ", z_t"
    if facts["probe"] == "mlp":
        label += ", one hidden layer"
    return label + (", context afresh every window" if facts["probe_context"] == "window" else "")


def _setting(config: dict[str, Any]) -> str:
    return setting_name(config["batch_composition"], config["candidates"])


def table(results: list[Result]) -> list[str]:
    """Table 1: the paper's accuracies beside ours, with 95 % intervals."""
    majority = {result.task: f"{result.facts['majority']:.1f}" for result in results}
    lines = [
        "| | phone, % | speaker, % | speaker of an utterance, % | paper: phone | paper: speaker | updates | N |",
        "|---|---|---|---|---|---|---|---|",
        f"| most frequent class | {majority.get('phone', '')} | {majority.get('speaker', '')} | | | | | |",
    ]
    for label, tasks in rows(results):
        ours = [*(_cell(tasks.get(task)) for task in TASKS), _utterance_cell(tasks.get("speaker"))]
        paper = ["" if value is None else str(value) for value in PAPER.get(label, (None, None))]
        updates = dict.fromkeys(f"{r.facts['updates']:,}" for r in tasks.values() if r.facts.get("updates"))
        n = next((str(r.candidates) for r in tasks.values() if r.candidates), "")
        lines.append(f"| {' | '.join([label, *ours, *paper, ' / '.join(updates), n])} |")
    return lines


def under_way(exp: Path, results: list[Result]) -> list[str]:
    """Further lines of the table: models in training, or waiting for their first probe, and how far they are."""
    lines = []
    for path in sorted(exp.glob("*/metrics.jsonl")):
        if path.parent in {result.exp for result in results} or path.parent.name.startswith("."):
            continue
        config = load_config([path.with_name("config.yaml")])
        label, state = setting_name(config.batch_composition, config.candidates), progress(path.parent, config.updates)
        lines.append(f"| CPC, {label} | {state} | | | | | {config.updates:,} | {config.num_candidates} |")
    return lines


def rows(results: list[Result]) -> list[tuple[str, dict[str, Result]]]:
    """Label and results by task of every row; the two tasks of a baseline share a row, two CPC models never do."""
    grouped: dict[tuple[str, Path | None], dict[str, Result]] = {}
    for result in results:
        grouped.setdefault((result.row, result.exp if result.candidates else None), {})[result.task] = result
    return [(label, tasks) for (label, _), tasks in grouped.items()]


def page(results: list[Result], exp: Path, data: Path, command: str) -> Iterable[str]:
    """RESULTS.md without its title."""
    paths = [*sorted(exp.glob("*/train.json")), *sorted(exp.glob("ablations/*/train.json"))]
    # A row of Table 2 that stage 4 had trained already is a link to it.
    trained = [
        (path.parent, json.loads(path.read_text(encoding="utf-8"))) for path in paths if not path.parent.is_symlink()
    ]
    yield from _measured_on(data)
    yield "## Table 1: linear classification of single frames"
    yield ""
    yield from table(results) + under_way(exp, results)
    yield ""
    yield (
        "Accuracy over all test frames of a multinomial logistic regression on single frames, with 95 % intervals "
        "(bootstrap over utterances); the speaker of an utterance is the one with the greatest mean over its frames. "
        "*Fine-tuned* is the pretrained network, encoder and all, trained on for each task; *supervised* is the same "
        "network trained end to end, one for each task. "
        "N is the number of candidates, the positive among them. The paper's figures are of another setting: "
        "LibriSpeech train-clean-100 (100 h, 251 speakers), Kaldi's alignment, 512 channels, 300,000 updates of "
        "64 windows."
    )
    yield ""
    yield from _differences(results)
    yield from ablation_report.section(ablation_report.ablations(exp))
    phones = [
        label_report.LabelProbe(result.row, result.exp, result.score, result.facts)
        for result in results
        if result.task == "phone"
    ]
    yield from label_report.section(exp, data, phones + label_report.label_probes(exp, row_label))
    yield from pretraining_report.section(trained)
    yield from _how(results, trained, command)


def _measured_on(data: Path) -> Iterable[str]:
    corpus = json.loads((data / "corpus.json").read_text(encoding="utf-8"))
    samples = read_table(data / "utt2num_samples")
    speakers = len(set(read_table(data / "utt2spk").values()))
    parts = [f"{len(samples):,} utterances of {speakers} speakers"]
    for split in ("train", "dev", "test"):
        ids = read_list(data / "splits" / f"{split}.list")
        parts.append(f"{split} {len(ids):,} utterances, {sum(int(samples[i]) for i in ids) / 57.6e6:.2f} h")
    yield f"Measured on {corpus.get('note') or corpus.get('corpus', 'this corpus')}: {'; '.join(parts)}."
    yield ""


def _differences(results: list[Result]) -> Iterable[str]:
    reference = {result.task: result for result in results if result.row == MFCC}
    if not reference:
        return
    yield "## Differences from 13 MFCC, in points"
    yield ""
    yield "Paired bootstrap over the same test utterances, with 95 % intervals."
    yield ""
    yield "| | phone | speaker |"
    yield "|---|---|---|"
    for label, tasks in rows(results):
        if label == MFCC:
            continue
        cells = []
        for task in TASKS:
            if task in tasks and task in reference:
                cells.append(show_difference(*tasks[task].score.difference(reference[task].score)))
            else:
                cells.append("")
        yield f"| {label} | {' | '.join(cells)} |"
    yield ""


def _how(results: list[Result], trained: list[tuple[Path, dict[str, Any]]], command: str) -> Iterable[str]:
    now = provenance()
    machines = dict.fromkeys([facts["machine"] for _, facts in trained] + [r.facts["machine"] for r in results])
    yield "## How these numbers were made"
    yield ""
    if command:
        yield f"    {command}"
        yield ""
    yield f"Machine: {'; '.join(machines)}. Python {now['versions']['python']}, torch {now['versions']['torch']}."
    yield f"Report of {now['date']}, commit {now['commit']}."
    yield ""
    yield "| row | task | experiment | seed | commit | date |"
    yield "|---|---|---|---|---|---|"
    for r in results:
        yield f"| {r.row} | {r.task} | {r.exp.name} | {r.seed} | {r.facts['commit']} | {r.facts['date']} |"
    for path, facts in trained:
        seed = load_config([path / "config.yaml"]).seed
        yield f"| pretraining | | {path.name} | {seed} | {facts['commit']} | {facts['date']} |"
    yield ""
    yield "An experiment's folder in `exp/` holds its configuration, metrics and checkpoints."


def _object(result: Result) -> dict[str, Any]:
    facts = result.facts
    low, high = facts["ci95"]
    utterances = _utterance_score(result)
    return {
        "table": 1, "row": result.row, "task": result.task, "probe": facts["probe"],
        "accuracy": round(facts["accuracy"], 3), "ci95": [round(low, 3), round(high, 3)],
        "seed": result.seed, "updates": facts.get("updates"), "config": facts.get("config"), "commit": facts["commit"],
        "utterance_accuracy": round(utterances.accuracy, 3) if utterances else None,
        "candidates": result.candidates, "experiment": result.exp.name, "probe_context": facts["probe_context"],
        "learning_rate": facts.get("learning_rate"), "labels": facts.get("labels"), "command": facts["command"],
        "machine": facts["machine"],
    }  # fmt: skip


def _utterance_score(result: Result | None) -> Score | None:
    """Of a speaker's row: utterances that are right, each counted once."""
    if result is None or "utterances_right" not in result.facts:
        return None
    right = result.facts["utterances_right"]
    return Score(result.score.utterances, right, [1] * len(right))


def _utterance_cell(result: Result | None) -> str:
    if (score := _utterance_score(result)) is None:
        return ""
    return show_accuracy(score.accuracy, *score.interval())


def _cell(result: Result | None) -> str:
    if result is None:
        return ""
    return show_accuracy(result.score.accuracy, *result.facts["ci95"])


if __name__ == "__main__":
    run(main)
