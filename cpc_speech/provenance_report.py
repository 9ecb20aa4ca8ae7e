"""The report's last section: where each numbered row of Tables 1 and 2 comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cpc_speech import ablation_report, probe_report
from cpc_speech.ablation_report import Ablation
from cpc_speech.pretraining_report import effort, show_updates, training_of
from cpc_speech.probe_report import Result
from cpc_speech.provenance import provenance


class Source(NamedTuple):
    """An experiment that a row is of."""

    number: str  # of the row
    row: str
    exp: Path
    logs: list[str]  # below exp/; those of them that are there are named
    seed: int | None  # of the network
    facts: dict[str, Any]  # what its probe wrote, or one of them; nothing while there is none


def section(exp: Path, results: list[Result], found: list[Ablation], command: str) -> Iterable[str]:
    """Lines of the page."""
    sources = [*_table_1(exp, results), *_table_2(found)]
    now = provenance()
    facts = [source.facts for source in sources] + [training_of(source.exp) or {} for source in sources]
    machines = dict.fromkeys(one["machine"] for one in facts if one)
    versions = dict.fromkeys(
        f"Python {one['versions']['python']}, torch {one['versions']['torch']}" for one in facts if "versions" in one
    )
    yield "## How these numbers were made"
    yield ""
    if command:
        yield f"    {command}"
        yield ""
        yield (
            "makes all of this in one go. Parts may have been made before, or apart: the command that each number was "
            "measured by, and each network trained by, stands in `results.json`."
        )
        yield ""
    if machines:
        yield f"Machine: {'; '.join(machines)}.{''.join(f' {one}.' for one in versions)}"
    yield f"Report of {now['date']}, commit {now['commit']}."
    yield ""
    yield (
        "A row's config, log and checkpoint can be found from its number in the report. Folders and logs are in "
        "`exp/`; a network's folder holds `config.yaml`, `checkpoints/`, the curves of a pretraining, and in `probes/` "
        "what was measured, with the command that did. What stage 4 has trained is linked to, not trained again. Audio "
        "heard and wall time are those of training the network, with a pretraining that it began with; the machine may "
        "have done other work beside. *Trained* and *probed* name the commit of this repository, and the day."
    )
    yield ""
    yield "| no. | | experiment | logs | seed | probe seeds | updates | heard | wall time | trained | probed |"
    yield "|---" * 11 + "|"
    for source in sources:
        yield _line(exp, source)
    yield ""


def _table_1(exp: Path, results: list[Result]) -> Iterable[Source]:
    for row in probe_report.rows(results):
        by_exp: dict[Path, list[Result]] = {}
        for result in row.tasks.values():
            by_exp.setdefault(result.exp, []).append(result)
        for path, those in by_exp.items():
            last = max(those, key=lambda result: result.facts["date"])
            yield Source(row.number, row.label, path, _logs(path, last.facts), last.facts.get("seed"), last.facts)
    for one in probe_report.under_way(exp, results):
        log = f"stage5.supervised_{one.task}" if one.task else f"stage4.{one.exp.name}"
        yield Source(one.number, "under way", one.exp, [log], one.config.seed, {})


def _logs(path: Path, facts: Mapping[str, Any]) -> list[str]:
    """What recipes call the logs of stages 4 and 5."""
    if facts["row"] in ("c", "z"):
        afresh = ".window" if facts.get("probe_context") == "window" else ""
        return [f"stage4.{path.name}", f"stage5.{path.name}.{facts['row']}{afresh}"]
    if facts["row"] in ("supervised", "finetuned"):
        return [f"stage5.supervised_{facts['task']}"]
    return [f"stage5.{facts['row']}"]


def _table_2(found: list[Ablation]) -> Iterable[Source]:
    for row in ablation_report.rows(found):
        for one in row.seeds:
            logs = [f"../ablations/log/{one.exp.name}"]
            if one.exp.is_symlink():  # what stage 4 had trained already, and stage 5 may have probed
                logs = [*_logs(one.exp.resolve(), {"row": "c"}), *logs]
            yield Source(row.number, row.name, one.exp, logs, one.config.seed, one.facts)


def _line(exp: Path, source: Source) -> str:
    facts = source.facts
    hours, seconds = effort(source.exp, facts) if facts else (None, None)
    paths = [(exp / "log" / f"{name}.log").resolve() for name in source.logs]
    logs = ", ".join(f"`{path.relative_to(exp.resolve())}`" for path in paths if path.is_file())
    end_to_end = facts.get("probe") == "end_to_end"
    trained = facts if end_to_end else training_of(source.exp) if source.seed is not None else None
    name = f"`{source.exp.relative_to(exp)}`"
    if source.exp.is_symlink():
        name += f", a link to `{source.exp.resolve().relative_to(exp.resolve())}`"
    cells = [
        source.number, source.row, name, logs,
        "" if source.seed is None else str(source.seed), ", ".join(map(str, facts.get("probe_seeds", []))),
        show_updates(facts), "" if hours is None else f"{hours:.2f} h",
        "" if seconds is None else f"{seconds / 60:.1f} min", _when(trained), _when(None if end_to_end else facts),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _when(facts: Mapping[str, Any] | None) -> str:
    return f"{facts['commit']}, {facts['date'].partition(' ')[0]}" if facts else ""
