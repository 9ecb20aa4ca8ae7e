"""The report, from what probes and trainings wrote.

    python -m cpc_speech.report exp                                       # prints the tables, at any time
    python -m cpc_speech.report exp --data data/mini --write exp/report   # the whole of it, as files

--write leaves RESULTS.md, the same as one page that needs nothing else, report.html, the pictures in figures/, and
results.json, one object a number. Nothing in them is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from cpc_speech import (
    ablation_report,
    figure_report,
    label_report,
    orderings,
    pretraining_report,
    probe_report,
    provenance_report,
    recogniser_report,
    settings_report,
    steps_ahead_report,
)
from cpc_speech.config import Config
from cpc_speech.datadir import read_split, read_table
from cpc_speech.errors import UserError, run
from cpc_speech.files import atomic_write
from cpc_speech.html_report import to_html

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path, help="the folder of the experiments")
    parser.add_argument("--data", type=Path, help="the data directory, for --write")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write the report's files into this folder")
    parser.add_argument("--title", default="Results")
    parser.add_argument("--command", default="", help="the command that made it all, to stand in the report")
    args = parser.parse_args(argv)
    if args.write and not args.data:
        parser.error("--write needs --data: the report says what was measured on")

    results, ablations = probe_report.collect(args.exp), ablation_report.ablations(args.exp)
    if not (results or ablations or probe_report.under_way(args.exp, results)):
        raise UserError(f"{args.exp}: no probe has written a result here yet; run stage 5 first")
    mixed = not_alike(results, ablations)
    if mixed and args.write:
        raise UserError(mixed)
    if not args.write:
        if mixed:
            log.warning(mixed)
        print("\n".join(probe_report.table(args.exp, results)))
        if ablations:
            print("\n".join(["", *ablation_report.table(ablations)]))
        return
    found = Found(args.exp, args.data, results, ablations, orderings.orderings(results, ablations))
    pictures = figure_report.figures(args.exp)
    figure_report.copy(pictures, args.write / "figures")
    text = "\n".join([f"# {args.title}", "", *page(found, pictures, args.command)])
    contents = {
        "results.json": json.dumps(list(objects(found)), indent=1) + "\n",
        "report.html": to_html(text, args.write),
        "RESULTS.md": text,
    }
    for name, content in contents.items():
        with atomic_write(args.write / name) as file:
            file.write(content)
    print("\n".join(closing(results)))
    print(f"Report: {(args.write / 'report.html').resolve().as_uri()}")


def closing(results: list[probe_report.Result]) -> Iterable[str]:
    """What a user wants to know at the end of a run: the first CPC model beside MFCC and chance, as far as probed."""
    linear = [one for one in results if one.facts["probe"] == "linear" and one.facts["probe_context"] == "utterance"]
    tasks = [(task, [one for one in linear if one.task == task]) for task in probe_report.TASKS]
    for representation in ("c", "mfcc"):
        rows = [(task, one) for task, own in tasks for one in own if one.facts["row"] == representation]
        first = {task: one for task, one in reversed(rows)}
        accuracies = [f"{first[task].score.accuracy:.1f} % of {task}s" for task, _ in tasks if task in first]
        if accuracies:
            yield f"{next(iter(first.values())).row}: {', '.join(accuracies)}, by frame"
    chances = [f"{own[0].facts['majority']:.1f} % of {task}s" for task, own in tasks if own]
    if chances:
        yield f"Chance, the most frequent class: {', '.join(chances)}"


def not_alike(results: list[probe_report.Result], ablations: list[ablation_report.Ablation]) -> str:
    """Which two results were measured on other test utterances or other labels, so that they cannot stand in one
    report, and what to do; nothing where all agree."""
    probed = [(one.task, one.exp, one.score, one.facts) for one in results]
    probed += [("phone", one.exp, one.score, one.facts) for one in ablations if one.score]
    first: dict[str, tuple[Path, tuple[Any, ...]]] = {}
    for task, exp, score, facts in probed:
        # Labels that are made anew have hardly the same share of any class, even where they have the same name.
        measured_on = (score.utterances, round(facts["majority"], 6))
        other, expected = first.setdefault(task, (exp, measured_on))
        if measured_on != expected:
            return (
                f"{other} and {exp}: their {task} probes are of different test utterances or labels, as is where one "
                "was left from before stage 2 or 3 ran anew; probe both on one data directory, or move the older away"
            )
    return ""


class Found(NamedTuple):
    """What probes and trainings wrote, and what follows."""

    exp: Path
    data: Path
    results: list[probe_report.Result]
    ablations: list[ablation_report.Ablation]
    orderings: list[orderings.Ordering]

    @property
    def configs(self) -> list[Config]:
        """Of all CPC models in Tables 1 and 2."""
        probed = [result.config for result in self.results if result.config and result.candidates]
        begun = [one.config for one in probe_report.under_way(self.exp, self.results) if not one.task]
        return probed + begun + [one.config for one in self.ablations]

    @property
    def trained(self) -> list[tuple[Path, dict[str, Any]]]:
        """Pretrainings that have ended, and what they say of themselves."""
        paths = pretraining_report.files_of_experiments(self.exp, "train.json")
        return [(path.parent, json.loads(path.read_text(encoding="utf-8"))) for path in paths]

    @property
    def phone_probes(self) -> list[label_report.LabelProbe]:
        """Those of Table 1, and those with other labels."""
        of_table_1 = [
            label_report.LabelProbe(one.row, one.exp, one.score, one.facts)
            for one in self.results
            if one.task == "phone"
        ]
        return of_table_1 + label_report.label_probes(self.exp, probe_report.row_label)


def page(found: Found, pictures: list[figure_report.Figure], command: str) -> Iterable[str]:
    """RESULTS.md without its title."""
    yield from _measured_on(found.data)
    yield from orderings.summary(found.orderings)
    yield from settings_report.section(found.data, found.configs, found.results, found.ablations)
    yield from probe_report.section(found.exp, found.results)
    yield from ablation_report.section(found.ablations)
    yield from orderings.section(found.orderings)
    yield from recogniser_report.section(found.exp)
    yield from figure_report.section(pictures)
    yield from label_report.section(found.exp, found.data, found.phone_probes)
    yield from pretraining_report.section(found.trained)
    yield from provenance_report.section(found.exp, found.results, found.ablations, command)


def objects(found: Found) -> Iterable[dict[str, Any]]:
    """results.json."""
    yield from probe_report.objects(found.exp, found.results)
    yield from ablation_report.objects(found.ablations)
    yield from orderings.objects(found.orderings)
    yield from recogniser_report.objects(found.exp)
    yield from steps_ahead_report.objects(found.exp)
    yield from pretraining_report.objects(found.exp, found.trained)
    yield from label_report.objects(found.exp, found.data, probe_report.row_label)


def _measured_on(data: Path) -> Iterable[str]:
    speakers = read_table(data / "utt2spk")
    parts = [f"{len(speakers):,} utterances of {len(set(speakers.values()))} speakers"]
    for split, hours in settings_report.hours_of(data).items():
        count = len(read_split(data, split))
        parts.append(f"{split} {count:,} utterances, {hours:.2f} h")
    yield f"Measured on {settings_report.corpus_name(data)}: {'; '.join(parts)}."
    yield ""


if __name__ == "__main__":
    run(main)
