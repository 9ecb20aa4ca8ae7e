"""docs/results.md names every field of results.json, and no other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from test_ablation_report import write as write_ablation
from test_recogniser_report import write as write_recogniser
from test_recogniser_report import write_words
from test_report import exp, report, write  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]


def documented() -> set[str]:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`.*?) \|", text.split("## Found in most")[1], re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def fields(results: list[dict[str, Any]]) -> set[str]:
    return {key for one in results for key in one}


def test_every_field_is_documented(exp: Path, data: Path) -> None:  # noqa: F811
    for seed in (1, 2):
        folder = write_ablation(exp, "same_speaker", 60, batch_composition="same_speaker", seed=seed)
        for name in ("train.json", "metrics.jsonl"):
            (folder / name).write_bytes((exp / "mixed_speaker" / name).read_bytes())
    write_recogniser(exp, "fbank", "lstm", 1, (30, 5, 5))
    write_words(exp, "fbank.lstm.seed1", 15)
    write(exp / "other", "mfcc", "phone", 30)
    moved = exp / "baselines" / "probes" / "labels" / "mfcc.gmm.+1.json"
    moved.parent.mkdir()
    facts = json.loads((exp / "other" / "probes" / "mfcc.phone.linear.json").read_text())
    moved.write_text(json.dumps(facts | {"labels": "gmm", "label_shift": 1}))
    align = exp / "align" / "pocketsphinx"
    (align / "labels").mkdir(parents=True)
    (align / "labels" / "labels.json").write_text("{}")
    boundaries = dict.fromkeys(("in_a", "compared"), 1) | dict.fromkeys(("median_ms", "p90_ms", "mean_ms"))
    found = {"utterances": {"compared": 1, "only_a": 0}, "frames": {"agreement_percent": 1.0}}
    within = {"within_percent": dict.fromkeys(("10", "20", "50"))}
    (align / "comparison.json").write_text(json.dumps({**found, "boundaries": boundaries | within}))
    (exp / "mixed_speaker" / "steps_ahead.json").write_text("{}")
    check = exp / "baselines" / "probes" / "check" / "mfcc.phone.json"
    check.parent.mkdir()
    counts = dict.fromkeys(("train_utterances", "train_frames", "test_frames"), 9) | {"scikit_learn": 29.5}
    check.write_text(json.dumps(facts | counts))
    assert fields(report(exp, data)[0]) == documented()


@pytest.mark.parametrize("path", sorted(ROOT.glob("recipes/*/results.json")), ids=lambda path: path.parent.name)
def test_what_is_published_is_documented(path: Path) -> None:
    assert fields(json.loads(path.read_text(encoding="utf-8"))) <= documented()
