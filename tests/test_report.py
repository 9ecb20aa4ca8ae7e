"""Tables from fabricated probe results."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from cpc_speech import report as module
from cpc_speech.config import Config
from cpc_speech.errors import UserError
from cpc_speech.infonce import setting_name
from cpc_speech.scores import Score, save_score

UTTERANCES = [f"u{i:02d}" for i in range(20)]
PAPER = {  # Table 1, phone and speaker, from section 1 of the project's facts
    "random initialisation": ("27.6", "1.87"),
    "MFCC, 13": ("39.7", "17.6"),
    "CPC, mixed speaker": ("64.6", "97.4"),
    "CPC, same speaker": ("65.5", ""),  # Table 2 gives phones alone
    "supervised": ("74.6", "98.5"),
}


def write(
    folder: Path, row: str, task: str, correct: int, probe_context: str = "utterance", probe: str = "linear",
    **config: Any,
) -> None:  # fmt: skip
    """A probe's result: every test utterance with ``correct`` of its 100 frames right, give or take 5 in turn; of a
    speaker's, three quarters of the utterances."""
    facts: dict[str, Any] = {
        "row": row, "task": task, "probe": "end_to_end" if row == "supervised" else probe, "classes": 41,
        "probe_context": probe_context, "majority": 17.5 if task == "phone" else 5.25, "commit": "abc1234567",
        "command": "python -m x", "date": "2020-01-02 03:04 UTC", "machine": "2 cores",
    }  # fmt: skip
    if row not in ("mfcc", "mfcc39"):
        settings = dataclasses.asdict(Config(**config))
        facts |= {"updates": 0 if row == "random" else 1200, "seed": settings["seed"], "config": settings}
    if row != "supervised":
        facts |= {"probe_seeds": [7, 8], "accuracy_by_seed": [correct - 0.25, correct + 0.25]}
        facts |= {"learning_rates": [1e-3, 1e-2], "learning_rate_by_seed": [1e-3, 1e-2], "passes": 10}
    if probe == "mlp":
        facts["hidden"] = 256
    score = Score(UTTERANCES, [correct + 5 * (-1) ** i for i in range(20)], [100] * 20)
    if task == "speaker":
        facts["utterances_right"] = [n * len(facts.get("probe_seeds", [0])) for n in [1, 1, 1, 0] * 5]
    name = row if probe_context == "utterance" else f"{row}.window"
    save_score(folder / "probes" / f"{name}.{task}.{probe}.json", score, facts)


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    exp = tmp_path / "exp"
    for task, shift in (("phone", 0), ("speaker", 10)):
        write(exp / "mixed_speaker", "c", task, 50 + shift, seed=4)
        write(exp / "mixed_speaker", "z", task, 45 + shift, seed=4)
        write(exp / "mixed_speaker", "c", task, 52 + shift, probe="mlp", seed=4)
        write(exp / "same_speaker", "c", task, 55 + shift, batch_composition="same_speaker")
        write(exp / "baselines", "mfcc", task, 40 + shift)
        write(exp / "baselines", "mfcc39", task, 42 + shift)
        write(exp / "baselines", "random", task, 30 + shift)
        write(exp / f"supervised_{task}", "supervised", task, 70 + shift)
    for name in ("mixed_speaker", "same_speaker"):
        facts = {
            "updates": 1200, "hours_heard": 3.41, "corpus_hours": 2.5, "seconds": 720.0, "candidates": 1024,
            "dev_loss": [4.0, 6.0], "dev_accuracy": [0.5, 0.25],
            "machine": "4 cores", "commit": "def1234567", "date": "2020-01-01 03:04 UTC",
        }  # fmt: skip
        (exp / name / "train.json").write_text(json.dumps(facts))
        (exp / name / "config.yaml").write_text(Config(seed=4).dump())
        lines = [{"split": "train", "update": u, "loss": loss} for u, loss in ((280, 6.5), (300, 6.25), (500, 5.75))]
        (exp / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return exp


def report(exp: Path, data: Path) -> tuple[list[dict], str]:
    out = exp.parent / "report"
    module.main([str(exp), "--data", str(data), "--write", str(out), "--title", "Tiny", "--command", "run.sh --tiny"])
    return json.loads((out / "results.json").read_text()), (out / "RESULTS.md").read_text()


def cells(text: str, label: str, table: int = 0) -> list[str]:
    """The cells behind ``label`` in the table-th row of that name, numbered or not."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    numbered = [row[2:] for row in rows if len(row) > 1 and row[1] == label and re.fullmatch(r"(1\.\d+)?", row[0])]
    return (numbered or [row[1:] for row in rows if row[0] == label])[table]


def test_results_json_holds_one_object_a_number(exp: Path, data: Path) -> None:
    everything, text = report(exp, data)
    results = [result for result in everything if result["table"] == 1]
    assert len(results) == 16
    keys = {"number", "row", "task", "probe", "accuracy", "ci95", "seed", "updates", "candidates", "config", "commit"}
    for result in results:
        assert keys <= set(result)
        network, trained = not result["row"].startswith("MFCC"), not result["row"].startswith(("MFCC", "random"))
        assert isinstance(result["seed"], int) == network and isinstance(result["updates"], int) == trained
        assert f"| {result['number']} | {result['row']} | " in text
        assert result["task"] in ("phone", "speaker") and result["commit"] == "abc1234567"
        assert result["ci95"][0] <= result["accuracy"] <= result["ci95"][1]
    by_key = {(r["row"], r["task"]): r for r in results}
    assert by_key["CPC, mixed speaker", "speaker"]["accuracy"] == 60
    assert by_key["CPC, mixed speaker", "speaker"]["utterance_accuracy"] == 75
    low, high = by_key["CPC, mixed speaker", "speaker"]["utterance_ci95"]
    assert cells(text, "CPC, mixed speaker")[2] == f"75.0 ({low:.1f}–{high:.1f})"
    assert by_key["CPC, mixed speaker", "speaker"]["paper"] == 97.4
    assert by_key["CPC, mixed speaker", "phone"]["utterance_accuracy"] is None
    assert by_key["CPC, mixed speaker, one hidden layer", "phone"]["accuracy"] == 52
    assert (
        by_key["CPC, mixed speaker", "phone"]["seed"] == 4
        and by_key["CPC, same speaker", "phone"]["candidates"] == 1024
    )
    assert by_key["CPC, same speaker", "phone"]["config"]["batch_composition"] == "same_speaker"
    assert by_key["supervised", "phone"]["probe"] == "end_to_end" and by_key["MFCC, 13", "phone"]["config"] is None


def test_table_1_stands_beside_the_papers(exp: Path, data: Path) -> None:
    _, text = report(exp, data)
    for label, paper in PAPER.items():
        assert cells(text, label)[3:5] == list(paper), label
    assert cells(text, "CPC, mixed speaker")[0].startswith("50.0 (") and cells(text, "CPC, mixed speaker")[
        1
    ].startswith("60.0 (")
    assert cells(text, "supervised")[:2] == [
        c for c in cells(text, "supervised")[:2] if re.fullmatch(r"[78]0\.0 \(\d+\.\d–\d+\.\d\)", c)
    ]
    assert cells(text, "most frequent class")[:2] == ["17.5", "5.2"]
    assert cells(text, "CPC, mixed speaker")[5:] == ["1,200", "1,024"]
    assert cells(text, "CPC, mixed speaker")[2].startswith("75.0 (")
    order = [
        text.index(f"| {label} |")
        for label in (
            "most frequent class",
            "random initialisation",
            "MFCC, 13",
            "CPC, mixed speaker",
            "CPC, mixed speaker, one hidden layer",
        )
    ]
    assert order == sorted(order)


def test_differences_are_paired(exp: Path, data: Path) -> None:
    _, text = report(exp, data)
    assert "## Differences" in text
    # Each utterance is better by the same amount, so that the paired interval has no width.
    fifteen, thirteen = "+15.0 (+15.0 … +15.0)", "+13.0 (+13.0 … +13.0)"
    assert cells(text, "CPC, same speaker", table=1) == [fifteen, thirteen] * 2
    assert cells(text, "random initialisation", table=1)[0] == "-10.0 (-10.0 … -10.0)"
    assert cells(text, "MFCC, 13 with deltas", table=1) == ["+2.0 (+2.0 … +2.0)", ""] * 2


def test_differences_are_between_probes_of_a_kind(exp: Path, data: Path) -> None:
    write(exp / "baselines", "mfcc", "phone", 47, probe="mlp")
    _, text = report(exp, data)
    assert cells(text, "CPC, mixed speaker, one hidden layer", table=1) == ["+5.0 (+5.0 … +5.0)", "", "", ""]
    assert cells(text, "supervised", table=1)[0] == "+30.0 (+30.0 … +30.0)"


def test_page_says_how_it_was_made(exp: Path, data: Path) -> None:
    _, text = report(exp, data)
    assert text.startswith("# Tiny\n") and "run.sh --tiny" in text and "36 utterances of 3 speakers" in text
    # Loss by update 300: (6.5 + 6.25) / 2; by 500: (6.5 + 6.25 + 5.75) / 3.
    assert cells(text, "mixed_speaker") == ["1,200", "3.41 h", "2.50 h", "12.0 min", "6.93", "6.38", "6.17", "5.000"]
    assert cells(text, "mixed_speaker", table=1) == ["0.1", "50.0", "25.0"]  # positive picked; chance: 1 of 1,024


def test_context_afresh_is_a_row_of_its_own(exp: Path, data: Path) -> None:
    write(exp / "mixed_speaker", "c", "phone", 48, probe_context="window", seed=4)
    _, text = report(exp, data)
    assert cells(text, "CPC, mixed speaker")[0].startswith("50.0")
    own = cells(text, "CPC, mixed speaker, context afresh every window")
    assert own[0].startswith("48.0") and own[1:4] == ["", "", ""]  # the paper has no such row


def test_two_models_of_one_setting_are_two_rows(exp: Path, data: Path) -> None:
    write(exp / "mixed_again", "c", "phone", 51, seed=5)
    _, text = report(exp, data)
    assert [cells(text, "CPC, mixed speaker", i)[0][:4] for i in range(2)] == ["51.0", "50.0"]


def test_experiments_set_aside_are_not_reported(exp: Path, data: Path) -> None:
    """--force of a recipe moves what it replaces to exp/.old."""
    before = report(exp, data)[0]
    write(exp / ".old" / "mixed_speaker.20200102-030405", "c", "phone", 10, seed=4)
    write(exp / ".old" / "supervised_phone.20200102-030405", "supervised", "phone", 10)
    assert report(exp, data)[0] == before


@pytest.mark.parametrize(
    "composition, candidates, name",
    [
        ("mixed_speaker", "minibatch", "mixed speaker"),
        ("same_speaker", "minibatch", "same speaker"),
        ("mixed_speaker", "other_windows", "mixed speaker (excl.)"),
        ("same_speaker", "other_windows", "same speaker (excl.)"),
        ("mixed_speaker", "current_window", "current sequence only"),
        ("same_speaker", "current_window", "current sequence only"),
    ],
)
def test_settings_have_the_papers_names(composition: str, candidates: str, name: str) -> None:
    assert setting_name(composition, candidates) == name


def test_without_write_the_table_is_printed_and_nothing_written(
    exp: Path, data: Path, capsys: pytest.CaptureFixture
) -> None:
    before = sorted(exp.rglob("*"))
    module.main([str(exp), "--data", str(data)])
    assert cells(capsys.readouterr().out, "MFCC, 13")[0].startswith("40.0")
    assert sorted(exp.rglob("*")) == before


def test_nothing_of_the_same_name_is_lost(exp: Path, data: Path) -> None:
    """A second supervised network is a row of its own; the first keeps its speakers."""
    write(exp / "supervised_phone_again", "supervised", "phone", 71, seed=2)
    write(exp / "twenty", "c", "phone", 53, steps=20)
    results, text = report(exp, data)
    assert len([r for r in results if r["table"] == 1]) == 18
    first, second = (cells(text, "supervised", table) for table in (0, 1))
    assert first[0].startswith("70.0 (") and first[1].startswith("80.0 (")
    assert second[0].startswith("71.0 (") and second[1] == ""
    assert cells(text, "CPC, mixed speaker, 20 steps")[3] == "", "the paper's is of 12 steps"


def test_a_table_that_is_not_complete_yet(tmp_path: Path, data: Path) -> None:
    write(tmp_path / "exp" / "mixed_speaker", "c", "phone", 50)
    results, text = report(tmp_path / "exp", data)
    assert len([r for r in results if r["table"] == 1]) == 1 and cells(text, "CPC, mixed speaker")[1] == ""
    assert "## Differences" not in text  # there is no MFCC to differ from


def test_models_without_a_probe_are_marked(exp: Path, data: Path, capsys: pytest.CaptureFixture) -> None:
    """Also where there is nothing else to show."""
    for path in [*exp.glob("same_speaker/probes/*.json"), exp / "same_speaker" / "train.json"]:
        path.unlink()
    (exp / "same_speaker" / "config.yaml").write_text(Config(batch_composition="same_speaker").dump())
    for name, facts in (("phone", {"row": "supervised"}), ("tuned", {"row": "finetuned"})):
        folder = exp / f"supervised_{name}"
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "config.yaml").write_text(Config(updates=2400).dump())
        pretrained = {"config": dataclasses.asdict(Config())} if name == "tuned" else None
        (folder / "network.json").write_text(json.dumps({**facts, "task": "speaker", "pretrained": pretrained}))
        (folder / "checkpoints" / "update-00000250.pt").write_text("")
    state = "begun, update 500 of 300,000"
    _, text = report(exp, data)
    assert cells(text, "CPC, same speaker") == [state, "", "", "", "", "300,000", "1,024"]
    assert len(cells(text, "CPC, same speaker")) == len(cells(text, "CPC, mixed speaker")), "one table, as many columns"
    # The other has its result.
    assert cells(text, "CPC, mixed speaker, fine-tuned")[:2] == ["", "begun, update 250 of 2,400"]
    assert text.count("begun, update") == 2
    only = exp.parent / "other"
    only.mkdir()
    (exp / "same_speaker").rename(only / "same_speaker")
    capsys.readouterr()
    module.main([str(only)])
    assert state in capsys.readouterr().out


def test_a_link_to_a_model_is_no_second_pretraining(exp: Path, data: Path) -> None:
    """Stage 6 takes over what stage 4 has trained."""
    (exp / "ablations").mkdir()
    (exp / "ablations" / "mixed_speaker.seed4").symlink_to(Path("..") / "mixed_speaker")
    (exp / "ablations" / "steps_2.seed4").mkdir()
    for name in ("train.json", "config.yaml", "metrics.jsonl"):
        (exp / "ablations" / "steps_2.seed4" / name).write_bytes((exp / "mixed_speaker" / name).read_bytes())
    _, text = report(exp, data)
    assert cells(text, "steps_2.seed4")[0] == "1,200" and "| mixed_speaker.seed4 |" not in text


@pytest.mark.parametrize("changed", [{"utterances": UTTERANCES[1:] + ["v"]}, {"majority": 16.0}])
def test_results_of_other_labels_or_utterances_do_not_mix(
    exp: Path, data: Path, changed: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    path = exp / "same_speaker" / "probes" / "c.phone.linear.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(UserError, match=r"same_speaker: their phone probes are of different test utterances or labels"):
        report(exp, data)
    if "utterances" not in changed:
        module.main([str(exp)])
        assert "same_speaker: their phone probes are of different" in caplog.text


def test_write_needs_a_data_directory(exp: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        module.main([str(exp), "--write", str(exp / "report")])
    assert "--write needs --data" in capsys.readouterr().err


def test_nothing_to_report_names_the_stage(tmp_path: Path, data: Path) -> None:
    with pytest.raises(UserError, match="stage 5"):
        module.main([str(tmp_path), "--data", str(data)])
