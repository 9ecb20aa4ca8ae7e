"""The report's section on pretraining: what each model heard, and how its loss fell."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cpc_speech.metrics import read_metrics


def section(trained: list[tuple[Path, dict[str, Any]]]) -> Iterable[str]:
    """Lines of the page, of experiments and what their train.json says; nothing where none has ended."""
    if not trained:
        return
    yield "## Pretraining"
    yield ""
    yield "| experiment | updates | heard | corpus | wall time | ln N | loss by 300 | by 500 | dev loss at the end |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for path, facts in trained:
        starts = [_loss_by(path, update) for update in (300, 500)]
        dev = f"{sum(facts['dev_loss']) / len(facts['dev_loss']):.3f}" if facts["dev_loss"] else ""
        cells = [
            path.name, f"{facts['updates']:,}", f"{facts['hours_heard']:.2f} h", f"{facts['corpus_hours']:.2f} h",
            f"{facts['seconds'] / 60:.1f} min", f"{math.log(facts['candidates']):.2f}", *starts, dev,
        ]  # fmt: skip
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "Losses by update 300 and 500 are means of the last five logged minibatches up to it, in nats."
    yield ""
    for path, facts in trained:
        if not facts["dev_loss"]:
            continue
        picked = ", ".join(f"{100 * value:.1f}" for value in facts["dev_accuracy"])
        gained = ", ".join(f"{math.log(facts['candidates']) - value:.2f}" for value in facts["dev_loss"])
        bound = facts["log_n_minus_loss_is_a_bound"]
        kind = "a lower bound of the mutual information" if bound else "no bound in this setting, a number to watch"
        yield (
            f"- **{path.name}**, dev windows, steps 1 to {len(facts['dev_loss'])}. Positive picked, % (chance "
            f"{100 / facts['candidates']:.1f}): {picked}. log N − loss, nats ({kind}): {gained}."
        )
    yield ""


def _loss_by(exp: Path, update: int) -> str:
    lines = [line["loss"] for line in read_metrics(exp, "train") if line["update"] <= update]
    reached = [line for line in read_metrics(exp, "train") if line["update"] >= update]
    return f"{sum(lines[-5:]) / len(lines[-5:]):.2f}" if lines and reached else ""
