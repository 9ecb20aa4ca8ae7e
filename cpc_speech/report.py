"""The report, from what probes and trainings wrote.

    python -m cpc_speech.report exp --data data/mini                      # prints the tables, at any time
    python -m cpc_speech.report exp --data data/mini --write exp/report   # the whole of it, as files

--write leaves RESULTS.md, the same as one page that needs nothing else, report.html, the pictures in figures/, and
results.json, one object a number. Nothing in them is typed by hand.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cpc_speech import (
    ablation_report,
    figure_report,
    label_report,
    orderings,
    pretraining_report,
    probe_report,
    provenance_report,
    settings_report,
)
from cpc_speech.config import Config
from cpc_speech.datadir import read_list, read_table
from cpc_speech.errors import UserError, run
from cpc_speech.files import atomic_write
from cpc_speech.html_report import to_html
from cpc_speech.packed import SAMPLE_RATE
from cpc_speech.tasks import SPLITS


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path, help="the folder of the experiments")
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--write", type=Path, metavar="DIR", help="write the report's files into this folder")
    parser.add_argument("--title", default="Results")
    parser.add_argument("--command", default="", help="the command that made it all, to stand in the report")
    args = parser.parse_args(argv)

    results, ablations = probe_report.collect(args.exp), ablation_report.ablations(args.exp)
    if not (results or ablations or probe_report.under_way(args.exp, results)):
        raise UserError(f"{args.exp}: no probe has written a result here yet; run stage 5 first")
    if not args.write:
        print("\n".join(probe_report.table(args.exp, results)))
        if ablations:
            print("\n".join(["", *ablation_report.table(ablations)]))
        return
    answers, figures = orderings.orderings(results, ablations), figure_report.figures(args.exp)
    lines = [
        *page(results, ablations, args.exp, args.data),
        *orderings.section(answers),
        *figure_report.section(figures),
        *labels(results, args.exp, args.data),
        *pretraining_report.section(trained(args.exp)),
        *provenance_report.section(args.exp, results, ablations, args.command),
    ]
    text = "\n".join([f"# {args.title}", "", *lines])
    figure_report.copy(figures, args.write / "figures")
    html = to_html(text, args.write)
    found = [
        *probe_report.objects(results),
        *ablation_report.objects(ablations),
        *orderings.objects(answers),
        *label_report.objects(args.exp, probe_report.row_label),
    ]
    contents = {"results.json": json.dumps(found, indent=1) + "\n", "report.html": html, "RESULTS.md": text}
    for name, content in contents.items():
        with atomic_write(args.write / name) as file:
            file.write(content)
    print(text)


def page(
    results: list[probe_report.Result], ablations: list[ablation_report.Ablation], exp: Path, data: Path
) -> Iterable[str]:
    """RESULTS.md without its title, up to Table 2."""
    begun = probe_report.under_way(exp, results)
    configs = [
        *(Config(**result.facts["config"]) for result in results if result.candidates),
        *(config for _, config in begun.values()),
        *(one.config for one in ablations),
    ]
    yield from _measured_on(data)
    yield from settings_report.section(data, configs, results, ablations)
    yield from probe_report.section(exp, results)
    yield from ablation_report.section(ablations)


def _measured_on(data: Path) -> Iterable[str]:
    samples = read_table(data / "utt2num_samples")
    speakers = len(set(read_table(data / "utt2spk").values()))
    parts = [f"{len(samples):,} utterances of {speakers} speakers"]
    for split in SPLITS:
        ids = read_list(data / "splits" / f"{split}.list")
        hours = sum(int(samples[i]) for i in ids) / SAMPLE_RATE / 3600
        parts.append(f"{split} {len(ids):,} utterances, {hours:.2f} h")
    yield f"Measured on {settings_report.corpus_name(data)}: {'; '.join(parts)}."
    yield ""


def labels(results: list[probe_report.Result], exp: Path, data: Path) -> Iterable[str]:
    """The section on phone labels."""
    probes = [
        label_report.LabelProbe(result.row, result.exp, result.score, result.facts)
        for result in results
        if result.task == "phone"
    ]
    yield from label_report.section(exp, data, probes + label_report.label_probes(exp, probe_report.row_label))


def trained(exp: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Pretrainings that have ended, and what they say of themselves."""
    paths = [*sorted(exp.glob("*/train.json")), *sorted(exp.glob("ablations/*/train.json"))]
    # A row of Table 2 that stage 4 had trained already is a link to it.
    return [
        (path.parent, json.loads(path.read_text(encoding="utf-8"))) for path in paths if not path.parent.is_symlink()
    ]


if __name__ == "__main__":
    run(main)
