"""Print docs/scaling.md: what pretraining costs, by the configuration's arithmetic and what ``make bench`` measured.

    python local/scaling.py docs/bench/*.json > docs/scaling.md

The words are in scaling.template.md; here are the numbers.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import PASSES

from cpc_speech.config import Config
from cpc_speech.cost import multiply_adds, parameters, update_seconds
from cpc_speech.errors import run

PAPER = Config()  # 512 channels, 8 minibatches of 8 windows
SMALL = Config(channels=256, minibatches=1)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", nargs="+", type=Path, help="what make bench wrote, a column each")
    args = parser.parse_args(argv)
    found = [json.loads(path.read_text(encoding="utf-8")) for path in args.bench]
    template = Path(__file__).with_name("scaling.template.md").read_text(encoding="utf-8")
    print(template.format(**costs(), **measured(found)), end="")


def costs() -> dict[str, Any]:
    """What follows from the configurations."""
    return {
        "work_rows": "\n".join(_work_row(config) for config in (SMALL, PAPER)),
        "weights": parameters(PAPER) / 1e6,
        "weights_mb": 16 * parameters(PAPER) / 1e6,
        "checkpoint_mb": 12 * parameters(PAPER) / 1e6,
        "gradient_mb": 4 * parameters(PAPER) / 1e6,
    }


def measured(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The table, a column for each machine, and what the machines are."""
    columns = [_cells(bench) for bench in found]
    names = [
        "an update", "audio, × real time", "limit", "update ÷ limit", "reference ÷ update", "encoder", "context",
        "predictors and scores", "optimiser", "encoder by `nn.Conv1d` ÷ encoder", "memory ÷ memory of the reference",
        "rate of products, 10⁹ operations a second", "rate of a copy, GB a second", "one of two trainings ÷ one alone",
        "extraction of c_t from FLAC, × real time", "plain fp32 loop over files ÷ extraction",
        "windows loaded a second on one core",
    ]  # fmt: skip
    rows = [f"| {name} | {' | '.join(cells)} |" for name, cells in zip(names, zip(*columns, strict=True), strict=True)]
    facts = [f"{bench['machine']}, torch {bench['versions']['torch']}, commit {bench['commit']}, {bench['date']}"
             for bench in found]  # fmt: skip
    return {
        "machines": " | ".join(["256 channels", *(f"{kind}, {precision}" for kind, precision in map(_kind, found))]),
        "columns": "|---" * len(found), "rows": "\n".join(rows), "facts": "; ".join(facts), "passes": PASSES,
    }  # fmt: skip


def _kind(bench: dict[str, Any]) -> tuple[str, str]:
    """What matters of a machine in a column's head, and the precision."""
    return ("Intel with AMX" if "AMX" in bench["machine"] else bench["machine"].split(",")[0]), bench["precision"]


def _cells(bench: dict[str, Any]) -> list[str]:
    """One machine's column; a dash where it was not measured."""
    m = bench["medians"]
    parts, update = m["breakdown"], m["update"]["seconds"]
    pair = bench.get("pair_ratio")
    return [
        f"{1000 * update:.0f} ms",
        f"{update_seconds(SMALL) / update:.0f}",
        f"{1000 * bench['limit_seconds']:.0f} ms",
        f"{bench['update_over_limit']:.1f}",
        f"{bench['update_time_ratio']:.1f}",
        *(f"{1000 * parts[name]:.0f} ms" for name in ("encoder", "context", "scores", "optimiser")),
        f"{bench['encoder_conv_ratio']:.1f}",
        f"{bench['update_memory_ratio']:.2f}",
        f"{parts['matrix_rate'] / 1e9:,.0f}",
        f"{parts['copy_rate'] / 1e9:.0f}",
        "–" if pair is None else f"{pair:.1f}",
        f"{bench['extract_realtime']:.0f}",
        f"{bench['extract_ratio']:.1f}",
        f"{bench['windows_per_second']:,.0f}",
    ]


def _work_row(config: Config) -> str:
    work = multiply_adds(config)
    total = sum(work.values())
    cells = [f"{value / 1e6:,.0f} ({value / total:.0%})" for value in work.values()]
    return f"| {config.channels} | {' | '.join(cells)} | {6 * total / 1e9:.1f} |"


if __name__ == "__main__":
    run(main)
