"""What cpc_speech.steps_ahead measured, for results.json; stage 7 draws it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cpc_speech.pretraining_report import files_of_experiments

_KEYS = (
    "row", "steps", "updates", "seed", "split", "window_samples", "windows", "minibatches", "candidates", "chance",
    "top1", "top1_ci95", "pairwise", "pairwise_ci95", "independent_windows", "draws", "information",
    "information_ci95", "commit", "date", "command", "machine",
)  # fmt: skip


def objects(exp: Path) -> Iterable[dict[str, Any]]:
    """One object a model that was measured."""
    for path in files_of_experiments(exp, "steps_ahead.json"):
        facts = json.loads(path.read_text(encoding="utf-8"))
        experiment = str(path.parent.relative_to(exp))
        yield {"table": "steps ahead", "experiment": experiment, **{key: facts.get(key) for key in _KEYS}}
