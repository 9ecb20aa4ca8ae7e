"""The report's section on pretraining: what each model heard, and how its loss fell."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cpc_speech.config import Config, load_config
from cpc_speech.cost import update_seconds
from cpc_speech.metrics import read_metrics

TEST_HEARD = ", test audio heard"


def test_heard(config: Config | Mapping[str, Any]) -> str:
    """What is added to the name of a row whose model was pretrained on all utterances, those of test among them."""
    values = vars(config) if isinstance(config, Config) else config
    return TEST_HEARD if values["pretrain_on"] == "all" else ""


def say_test_heard(names: Iterable[str]) -> str:
    """A sentence on what that means, for the text below a table of rows of these names; nothing where none heard it."""
    if not any(name.endswith(TEST_HEARD) for name in names):
        return ""
    return (
        "*Test audio heard*: pretrained on the audio of all utterances, those of dev and test among them, without "
        "their labels, so that a loss on dev is none of unheard audio; the other models heard the train split alone. "
    )


def files_of_experiments(exp: Path, name: str) -> list[Path]:
    """Files of this name in the folders of stages 4 and 6. A row of Table 2 that stage 4 had trained already is a link
    to it, and left out."""
    paths = [*sorted(exp.glob(f"*/{name}")), *sorted(exp.glob(f"ablations/*/{name}"))]
    return [path for path in paths if not path.parent.is_symlink()]


def training_of(exp: Path) -> dict[str, Any] | None:
    """What a pretraining says of itself when it has ended."""
    path = exp / "train.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def show_updates(facts: Mapping[str, Any]) -> str:
    """Updates of the network behind a result, after those of a pretraining that it began with; nothing of one that was
    not trained."""
    counts = ((facts.get("pretrained") or {}).get("updates"), facts.get("updates"))
    return " + ".join(f"{count:,}" for count in counts if count)


def effort(exp: Path, facts: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Hours of audio that the network behind a probe's result heard in training, each time counted, and the seconds
    that its training took, a pretraining included; None of what was not trained, or is not known.

    Args:
        exp: the experiment's folder.
        facts: what the probe, or the network trained end to end, wrote.
    """
    if facts["row"] in ("c", "z"):
        trained = training_of(exp) or {}
        return trained.get("hours_heard"), trained.get("seconds")
    if facts["row"] not in ("supervised", "finetuned"):
        return None, None
    hours, seconds = facts["updates"] * update_seconds(Config(**facts["config"])) / 3600, facts.get("seconds")
    if pretrained := facts.get("pretrained"):
        before = training_of(exp.with_name(pretrained["experiment"]))
        if before is None or seconds is None:
            return None, None
        return hours + before["hours_heard"], seconds + before["seconds"]
    return hours, seconds


def objects(exp: Path, trained: list[tuple[Path, dict[str, Any]]]) -> Iterable[dict[str, Any]]:
    """What the section is made of, for results.json: one object a pretraining that has ended."""
    keys = (
        "updates", "hours_heard", "corpus_hours", "seconds", "candidates", "dev_loss", "dev_accuracy",
        "commit", "date", "command", "machine",
    )  # fmt: skip
    for path, facts in trained:
        config = load_config([path / "config.yaml"])
        yield {
            "table": "pretraining", "experiment": str(path.relative_to(exp)), "seed": config.seed,
            "pretrain_on": config.pretrain_on, **{key: facts.get(key) for key in keys},
        }  # fmt: skip


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
    seconds, heard = (sum(facts[key] for _, facts in trained) for key in ("seconds", "hours_heard"))
    yield (
        f"In all {seconds / 3600:.1f} h of wall time for {heard:,.0f} h of audio heard; models may have been trained "
        "side by side. Losses by update 300 and 500 are means of the last five logged minibatches up to it, in nats."
    )
    yield ""
    yield from _by_step([(path, facts) for path, facts in trained if facts["dev_loss"]])


def _by_step(trained: list[tuple[Path, dict[str, Any]]]) -> Iterable[str]:
    """How often the positive is picked on dev windows, by steps ahead."""
    if not trained:
        return
    steps = max(len(facts["dev_loss"]) for _, facts in trained)
    heading = "".join(f" {k} |" for k in range(1, steps + 1))
    yield "Dev windows, positive picked, %, so many steps ahead:"
    yield ""
    yield f"| experiment | chance |{heading}"
    yield "|---" * (steps + 2) + "|"
    for path, facts in trained:
        picked = [f"{100 * value:.1f}" for value in facts["dev_accuracy"]] + [""] * (steps - len(facts["dev_accuracy"]))
        yield f"| {path.name} | {100 / facts['candidates']:.1f} | {' | '.join(picked)} |"
    yield ""


def _loss_by(exp: Path, update: int) -> str:
    lines = [line["loss"] for line in read_metrics(exp, "train") if line["update"] <= update]
    reached = [line for line in read_metrics(exp, "train") if line["update"] >= update]
    return f"{sum(lines[-5:]) / len(lines[-5:]):.2f}" if lines and reached else ""
