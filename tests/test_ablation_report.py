"""Table 2 from fabricated experiments."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from cpc_speech import report
from cpc_speech.ablation_report import PAPER, ablations, grouped, table
from cpc_speech.config import Config
from cpc_speech.errors import UserError
from cpc_speech.scores import Score, save_score

# Table 2 of the paper, from section 1 of the project's facts: steps of mixed speakers, then negatives at 12 steps.
STEPS = {2: 28.5, 4: 57.6, 8: 63.6, 12: 64.6, 16: 63.8}
NEGATIVES = {
    "mixed speaker": 64.6, "same speaker": 65.5, "mixed speaker (excl.)": 57.3, "same speaker (excl.)": 64.6,
    "current sequence only": 65.2,
}  # fmt: skip
COLUMNS = ["phone", "less", "paper", "N", "updates", "seeds"]


def write(
    exp: Path, name: str, correct: int | None, trained: bool = True, probed_after: int | None = None, **settings: Any
) -> Path:
    """exp/ablations/<name>.seed<S>; its probe had ``correct`` of each utterance's 100 frames right, more or less."""
    config = Config(**({"seed": 1, "updates": 1200} | settings))
    folder = exp / "ablations" / f"{name}.seed{config.seed}"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config.dump())
    if trained:
        said = {"updates": config.updates, "hours_heard": 3.41, "seconds": 720.0}
        (folder / "train.json").write_text(json.dumps(said))
    if correct is not None:
        facts = {
            "row": "c", "task": "phone", "probe": "linear", "probe_context": "utterance", "seed": config.seed,
            "updates": config.updates if probed_after is None else probed_after, "config": dataclasses.asdict(config),
            "commit": "abc1234567", "command": "python -m x", "machine": "2 cores", "majority": 17.5,
            "date": "2020-01-02 03:04 UTC", "classes": 41, "probe_seeds": [5], "accuracy_by_seed": [float(correct)],
        }  # fmt: skip
        score = Score([f"u{i:02d}" for i in range(20)], [correct + 5 * (-1) ** i for i in range(20)], [100] * 20)
        save_score(folder / "probes" / "c.phone.linear.json", score, facts)
    return folder


def cells(lines: list[str], row: str, number: int = 0) -> dict[str, str]:
    """Column -> cell of the number-th line of this row."""
    found = [line.split("|")[3:-1] for line in lines if f" | {row} | " in line]
    return dict(zip(COLUMNS, [cell.strip() for cell in found[number]], strict=True))


def names(lines: list[str]) -> list[str]:
    """Of all rows."""
    return [line.split(" | ")[1] for line in lines[2:]]


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    exp = tmp_path / "exp"
    write(exp, "mixed_speaker", 60)
    write(exp, "steps_2", 45, steps=2)
    write(exp, "steps_16", 61, steps=16)
    write(exp, "mixed_speaker_excl", 58, candidates="other_windows")
    write(exp, "current_sequence", 62, candidates="current_window")
    return exp


def test_rows_stand_in_the_papers_order_beside_its_figures(exp: Path) -> None:
    """All nine, also those that were not begun."""
    expected = {f"mixed speaker, {steps} steps": figure for steps, figure in STEPS.items()}
    expected |= {f"{setting}, 12 steps": figure for setting, figure in NEGATIVES.items()}
    assert list(PAPER.items()) == list(expected.items()) and len(PAPER) == 9
    lines = table(ablations(exp))
    assert names(lines) == list(expected)
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| 2.{i}" for i in range(1, 10)]
    for row, figure in expected.items():
        assert cells(lines, row)["paper"] == str(figure)
    assert cells(lines, "same speaker, 12 steps") == dict.fromkeys(COLUMNS, "") | {"paper": "65.5"}


def test_one_seed_has_an_interval_and_a_paired_difference(exp: Path) -> None:
    lines = table(ablations(exp))
    row = cells(lines, "mixed speaker (excl.), 12 steps")
    assert row["phone"].startswith("58.0 (5") and row["phone"].endswith(")")
    # Each utterance is worse by the same amount, so that the paired interval has no width.
    assert row["less"] == "-2.0 (-2.0 … -2.0)"
    assert cells(lines, "mixed speaker, 2 steps")["less"] == "-15.0 (-15.0 … -15.0)"
    assert cells(lines, "mixed speaker, 12 steps")["less"] == ""
    n = {
        "mixed speaker, 16 steps": "1,024",
        "mixed speaker (excl.), 12 steps": 897,
        "current sequence only, 12 steps": 128,
    }
    for name, candidates in n.items():
        assert cells(lines, name)["N"] == str(candidates)
    assert row["updates"] == "1,200" and row["seeds"] == "1"


def test_several_seeds_have_mean_and_spread(exp: Path) -> None:
    """45, 47 and 52: mean 48, squares of the deviations 9, 1, 16, so a standard deviation of √13 = 3.6. Of seed 3 there
    is no 12-step model to differ from; −15 and −18 remain: mean −16.5, √4.5 = 2.1. All utterances differ alike, so that
    the interval is Student's with one degree of freedom: ± 12.706 · 2.1 / √2."""
    for seed, correct in ((2, 47), (3, 52)):
        write(exp, "steps_2", correct, steps=2, seed=seed)
    write(exp, "mixed_speaker", 65, seed=2)
    row = cells(table(ablations(exp)), "mixed speaker, 2 steps")
    assert row["less"] == "-16.5 (-35.6 … +2.6), s 2.1, of seed 1, 2"
    assert row["phone"].startswith("48.0 (") and row["phone"].endswith("), s 3.6")
    low, high = map(float, row["phone"][6:].split(")")[0].split("–"))
    # Utterances of ± 5 points in turn add 25 / 20 to the 13 / 3 of the seeds; see test_scores.py for the whole.
    assert (low + high) / 2 == pytest.approx(48, abs=0.06)
    assert 4.303 * (13 / 3) ** 0.5 * 0.7 < (high - low) / 2 < 4.303 * (13 / 3 + 25 / 20) ** 0.5
    assert row["seeds"] == "1, 2, 3"


def test_rows_that_are_under_way_are_marked(exp: Path) -> None:
    metrics = [{"split": "train", "update": update, "loss": 5.0} for update in (20, 40)]
    metrics.append({"split": "dev", "update": 50, "loss": 5.0})
    text = "".join(json.dumps(line) + "\n" for line in metrics) + '{"split": "train", "upd'  # being written
    (write(exp, "steps_4", None, trained=False, steps=4) / "metrics.jsonl").write_text(text)
    write(exp, "steps_8", None, trained=False, steps=8)
    write(exp, "same_speaker", None, batch_composition="same_speaker")
    write(exp, "same_speaker_excl", 40, batch_composition="same_speaker", candidates="other_windows", probed_after=600)
    write(exp, "steps_2", None, trained=False, steps=2, seed=2)
    lines = table(ablations(exp))
    assert cells(lines, "mixed speaker, 4 steps")["phone"] == "begun, update 40 of 1,200"
    assert cells(lines, "mixed speaker, 8 steps")["phone"] == "begun, update 0 of 1,200"
    assert cells(lines, "same speaker, 12 steps")["phone"] == "trained, not probed yet"
    assert cells(lines, "same speaker (excl.), 12 steps")["phone"] == "trained, not probed yet"  # only on the way
    both = cells(lines, "mixed speaker, 2 steps")["phone"]
    assert both.startswith("45.0 (") and both.endswith("); begun, update 0 of 1,200 (seed 2)")


def test_only_models_that_differ_in_the_row_alone_are_compared(exp: Path) -> None:
    """A longer training is a row apart, without a 12-step model to differ from; how often a run logs is no matter."""
    write(exp, "steps_2", 50, steps=2, seed=2, updates=2400)
    write(exp, "steps_8", 59, steps=8, log_every=7, dev_every=9)
    lines = table(ablations(exp))
    longer = cells(lines, "mixed speaker, 2 steps", 1)
    assert (longer["updates"], longer["less"], longer["seeds"]) == ("2,400", "", "2")
    assert cells(lines, "mixed speaker, 8 steps")["less"] == "-1.0 (-1.0 … -1.0)"


def test_sweeps_stand_below_the_papers_rows(exp: Path) -> None:
    """Windows of half the length are twice as many, and compared with those of the paper's length."""
    write(exp, "negatives_512", 58, negatives=512)
    write(exp, "negatives_8", 50, negatives=8)
    write(exp, "window_10240", 57, window_samples=10240, windows=16)
    write(exp, "steps_20", 63, steps=20)
    lines = table(ablations(exp))
    assert names(lines)[9:] == [
        "mixed speaker, 20 steps", "mixed speaker, 12 steps, 8 negatives", "mixed speaker, 12 steps, 512 negatives",
        "mixed speaker, 12 steps, windows of 10,240 samples",
    ]  # fmt: skip
    few = cells(lines, "mixed speaker, 12 steps, 8 negatives")
    assert few["less"].startswith("-10.0") and few["N"] == "9" and few["paper"] == ""
    short = cells(lines, "mixed speaker, 12 steps, windows of 10,240 samples")
    assert short["less"].startswith("-3.0") and short["N"] == "1,024"


def test_scores_of_other_utterances_are_not_paired(exp: Path) -> None:
    path = exp / "ablations" / "steps_2.seed1" / "probes" / "c.phone.linear.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"utterances": [f"v{i}" for i in range(20)]}))
    with pytest.raises(UserError, match="probe both on one data directory"):
        table(ablations(exp))


def test_results_json(exp: Path, data: Path) -> None:
    for seed, correct in ((2, 47), (3, 52)):
        write(exp, "steps_2", correct, steps=2, seed=seed)
    for path in exp.glob("ablations/*/train.json"):
        path.unlink()  # these are not of a training
    report.main([str(exp), "--data", str(data), "--write", str(exp / "report")])
    results = json.loads((exp / "report" / "results.json").read_text())
    rows = [result for result in results if result["table"] == 2]
    assert len(rows) == 7
    for row in rows:
        assert row["ci95"][0] <= row["accuracy"] <= row["ci95"][1] and row["task"] == "phone"
        assert (exp / row["experiment"] / "config.yaml").exists() and row["commit"] == "abc1234567"
        assert row["updates"] == 1200 and row["config"]["steps"] == int(row["row"].split()[-2])
    assert [(row["seed"], row["accuracy"], row["paper"]) for row in rows[:3]] == [
        (1, 45, 28.5), (2, 47, 28.5), (3, 52, 28.5),
    ]  # fmt: skip
    assert (rows[0]["difference"], rows[0]["difference_ci95"]) == (-15, [-15, -15])
    assert (rows[1]["difference"], rows[1]["difference_ci95"]) == (None, None)
    [several] = [result for result in results if result["table"] == "2, over seeds"]
    assert several["row"] == "mixed speaker, 2 steps" and several["seeds"] == [1, 2, 3]
    assert several["ci95"][0] < 48 < several["ci95"][1] and several["updates"] == 1200 and several["paper"] == 28.5
    page = (exp / "report" / "RESULTS.md").read_text()
    assert "The seeds of row 2.1 spread the most, by 3.6: of a difference" in page and "\n## Table 2: " in page
    assert several["mean"] == 48 and several["standard_deviation"] == pytest.approx(13**0.5, abs=1e-3)


def test_the_terminal_shows_it_at_any_time(exp: Path, data: Path, capsys: pytest.CaptureFixture) -> None:
    report.main([str(exp), "--data", str(data)])
    lines = capsys.readouterr().out.splitlines()
    assert cells(lines, "mixed speaker, 2 steps")["phone"].startswith("45.0")
    assert not list(exp.glob("report"))


def test_names_of_folders_tell_rows_apart(exp: Path) -> None:
    """Overrides of all rows may make two rows the same; they are no two seeds of one."""
    write(exp, "steps_4", 60, steps=12)
    (exp / "ablations" / "steps_4.seedling").mkdir()
    (exp / "ablations" / "steps_4.seedling" / "config.yaml").write_text("no configuration")
    names = [[one.exp.name for one in seeds] for seeds in grouped(ablations(exp)) if seeds[0].config.steps == 12]
    assert ["mixed_speaker.seed1"] in names and ["steps_4.seed1"] in names
