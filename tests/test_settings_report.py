"""The table of settings, and where rows come from, of fabricated experiments."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_ablation_report import write as write_ablation
from test_report import cells, report, write

from cpc_speech.ablation_report import ablations
from cpc_speech.config import Config
from cpc_speech.probe_report import collect
from cpc_speech.settings_report import section

PAPER = {  # from section 1 of the project's facts
    "corpus": "LibriSpeech, train-clean-100", "hours": "100", "speakers": "251",
    "phone labels": "Kaldi's forced alignment, 41 classes", "encoder": "512 channels; normalisation not stated",
    "context": "256 units, GRU, layers: 1", "updates × windows": "300,000 × 64", "Adam's learning rate": "0.0002",
    "test audio heard in pretraining": "not stated", "candidates, N": "not stated",
}  # fmt: skip


def settings(exp: Path, data: Path) -> dict[str, list[str]]:
    """What → this run, the paper."""
    results, found = collect(exp), ablations(exp)
    configs = [result.config for result in results if result.candidates and result.config] + [a.config for a in found]
    lines = [line for line in section(data, configs, results, found) if line.startswith("| ")]
    return {row[0]: row[1:] for row in ([cell.strip() for cell in line[1:-1].split(" | ")] for line in lines)}


def test_settings_stand_beside_the_papers(tmp_path: Path, data: Path) -> None:
    exp = tmp_path / "exp"
    small: dict[str, Any] = {"channels": 64, "context_dim": 32, "updates": 1200, "minibatches": 2, "seed": 4}
    write(exp / "mixed_speaker", "c", "phone", 50, **small, learning_rate=1e-3, warmup_updates=50)
    write(exp / "mixed_speaker", "c", "phone", 52, probe="mlp", **small, learning_rate=1e-3, warmup_updates=50)
    write(exp / "all", "c", "phone", 50, **small, learning_rate=1e-3, warmup_updates=50, pretrain_on="all")
    write(exp / "baselines", "mfcc", "phone", 40)
    write_ablation(exp, "short", 60, **small | {"window_samples": 10240, "candidates": "current_window"})
    found = settings(exp, data)
    for what, theirs in PAPER.items():
        assert found[what][1] == theirs
    ours = {what: cells[0] for what, cells in found.items()}
    samples = [int(line.split()[1]) for line in (data / "utt2num_samples").read_text().splitlines()]
    assert ours["corpus"] == "noise for tests" and ours["speakers"] == "3"
    assert ours["hours"].startswith(f"{sum(samples) / 16000 / 3600:.2f} (train ")
    assert ours["phone labels"] == "unknown, 41 classes"
    assert ours["encoder"] == "64 channels; normalisation LayerNorm" and ours["context"] == "32 units, GRU, layers: 1"
    assert ours["candidates, N"] == "1,024 / 64"
    # 1,200 of 300,000 updates, of 16 of 64 windows: 1/1000; of half the length, 1/2000.
    assert ours["updates × windows"] == (
        "1,200 × 16, 0.1 % of the paper's audio / 1,200 × 16, 0.05 % of the paper's audio"
    )
    assert ours["Adam's learning rate"] == ("0.001, after 50 updates of warm-up, falling to 0.0002 / 0.0002")
    assert ours["test audio heard in pretraining"] == "no / yes"
    assert ours["probes"] == "linear; one hidden layer of 256" and ours["seeds of probes"] == "7, 8 / 5"
    assert ours["Adam's learning rate of probes"] == "dev's choice of 0.001, 0.01, falling to 0 in 10 passes"
    assert ours["c_t that is probed"] == "carried through whole utterances"


def test_a_corpus_without_a_note_is_named_not_placed(tmp_path: Path, data: Path) -> None:
    """Where it lies on one's disk is no one's concern; a bar is no column."""
    write(tmp_path / "exp" / "baselines", "mfcc", "phone", 40)
    corpus = {"corpus": "/secret/place/Libri|Speech", "subsets": ["dev-clean", "test-clean"], "note": ""}
    (data / "corpus.json").write_text(json.dumps(corpus))
    found = settings(tmp_path / "exp", data)
    assert found["corpus"] == ["Libri\\|Speech, dev-clean, test-clean", PAPER["corpus"]]
    assert "encoder" not in found, "nothing was pretrained"


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    """A model with a link to it in Table 2, a further row, a supervised and a fine-tuned network, and their logs."""
    exp = tmp_path / "exp"
    write(exp / "mixed_speaker", "c", "phone", 50)
    config = Config(updates=1200, pretrain_on="all")
    for path in exp.glob("mixed_speaker/probes/*.json"):
        facts = json.loads(path.read_text())
        path.write_text(json.dumps(facts | {"config": dataclasses.asdict(config), "updates": 1200}))
    (exp / "mixed_speaker" / "config.yaml").write_text(config.dump())
    trained = {
        "updates": 1200, "hours_heard": 3.41, "corpus_hours": 2.5, "seconds": 720.0, "candidates": 1024, "dev_loss": [],
        "commit": "def1234567", "date": "2020-01-01 03:04 UTC", "machine": "4 cores",
    }  # fmt: skip
    (exp / "mixed_speaker" / "train.json").write_text(json.dumps(trained))
    write(exp / "baselines", "mfcc", "phone", 40)
    write(exp / "supervised_phone", "supervised", "phone", 70, windows=8, minibatches=1, updates=1200)
    write(exp / "finetuned", "finetuned", "phone", 75, windows=8, minibatches=1, updates=1200)
    [path] = exp.glob("finetuned/probes/*.json")
    pretrained = {"experiment": "mixed_speaker", "updates": 1200, "config": dataclasses.asdict(config)}
    facts = json.loads(path.read_text()) | {"pretrained": pretrained, "probe": "end_to_end", "seconds": 120.0}
    path.write_text(json.dumps(facts))
    (exp / "ablations" / "log").mkdir(parents=True)
    (exp / "ablations" / "mixed_speaker.seed0").symlink_to(Path("..") / "mixed_speaker")
    (exp / "log").mkdir()
    logs = ("stage4.mixed_speaker", "stage5.mixed_speaker.c", "stage5.mfcc", "../ablations/log/mixed_speaker.seed0")
    for name in (*logs, "stage5.supervised_phone"):
        (exp / "log" / f"{name}.log").touch()
    return exp


def test_the_length_of_supervised_training_is_told(exp: Path, data: Path) -> None:
    assert settings(exp, data)["supervised and fine-tuned: updates × windows"] == [
        "1,200 × 8, Adam's learning rate 0.0002", "not stated",
    ]  # fmt: skip


def test_a_row_is_found_by_its_number(exp: Path, data: Path) -> None:
    results, text = report(exp, data)
    sources = text[text.index("## How these numbers") :]
    trained, probed = "def1234567, 2020-01-01", "abc1234567, 2020-01-02"
    name = "CPC, mixed speaker, test audio heard"
    assert cells(sources, "MFCC, 13") == [
        "`baselines`", "`log/stage5.mfcc.log`", "", "7, 8", "", "", "", "", probed,
    ]  # fmt: skip
    assert cells(sources, name) == [
        "`mixed_speaker`", "`log/stage4.mixed_speaker.log`, `log/stage5.mixed_speaker.c.log`", "0", "7, 8", "1,200",
        "3.41 h", "12.0 min", trained, probed,
    ]  # fmt: skip
    assert (
        "| 2.4 | mixed speaker, 12 steps, test audio heard "
        "| `ablations/mixed_speaker.seed0`, a link to `mixed_speaker` | "
        "`log/stage4.mixed_speaker.log`, `log/stage5.mixed_speaker.c.log`, `ablations/log/mixed_speaker.seed0.log` | "
        f"0 | 7, 8 | 1,200 | 3.41 h | 12.0 min | {trained} | {probed} |"
    ) in sources
    # 1,200 updates of 8 windows of 1.28 s: 3.41 h, after as many of pretraining, and 12 + 2 minutes.
    tuned = cells(sources, "CPC, mixed speaker, fine-tuned, test audio heard")
    assert tuned[4:7] == ["1,200 + 1,200", "6.82 h", "14.0 min"] and tuned[7:] == [probed, ""]
    assert cells(sources, "supervised")[5:7] == ["3.41 h", ""]
    by_row = {(result["table"], result.get("row")): result for result in results}
    assert (by_row[1, name]["hours_heard"], by_row[1, name]["seconds"]) == (3.41, 720)
    for result in results:
        if result["table"] in (1, 2):
            assert f"\n| {result['number']} | {result['row']} | `{result['experiment']}`" in sources


def test_rows_say_what_was_heard(exp: Path, data: Path) -> None:
    """The paper, which does not say, stands beside; models that heard the train split alone have no such name."""
    results, text = report(exp, data)
    assert cells(text, "CPC, mixed speaker, test audio heard")[3:5] == ["64.6", "97.4"]
    assert "| 2.4 | mixed speaker, 12 steps, test audio heard | " in text and text.count("*Test audio heard*: ") == 2
    heard = {(r["row"], r["pretrain_on"]) for r in results if r["table"] in (1, 2)}
    assert heard == {
        ("MFCC, 13", None), ("supervised", None), ("CPC, mixed speaker, test audio heard", "all"),
        ("CPC, mixed speaker, fine-tuned, test audio heard", "all"),
        ("mixed speaker, 12 steps, test audio heard", "all"),
    }  # fmt: skip
    shutil.rmtree(exp / "ablations")
    for path in [*exp.glob("mixed_speaker/*.*"), *exp.glob("mixed_speaker/probes/*"), *exp.glob("finetuned/probes/*")]:
        path.write_text(path.read_text().replace('"pretrain_on": "all"', '"pretrain_on": "train"'))
    assert "test audio heard |" not in report(exp, data)[1].replace("| test audio heard in", "")


def test_probe_seeds_are_told_with_their_spread(exp: Path, data: Path) -> None:
    """49.75 and 50.25 of seeds 7 and 8, and a wider pair."""
    path = exp / "baselines" / "probes" / "mfcc.phone.linear.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"accuracy_by_seed": [39.5, 40.75]}))
    _, text = report(exp, data)
    assert text.count("A probe's accuracy is the mean of 2 probe seeds; the largest spread among them") == 2
    assert " is 1.25 points (row 1.1, phone)." in text and " is 0.50 points (row 2.4, phone)." in text
