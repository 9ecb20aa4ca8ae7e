"""The real recipes: their options, what each stage asks for, and what is published."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from patience import HANG

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted(path.parent.name for path in (ROOT / "recipes").glob("*/run.sh"))


@pytest.mark.parametrize("name", RECIPES)
def test_real_recipes(name: str, tmp_path: Path) -> None:
    script = ROOT / "recipes" / name / "run.sh"

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(script), *options], cwd=tmp_path, capture_output=True, text=True, timeout=HANG)

    shown = run("--help").stdout
    head = script.read_text().split("\nsource ")[0]
    for variable in re.findall(r"^([a-z_]+)=", head, re.MULTILINE):
        assert f"--{variable.replace('_', '-')} " in shown
    assert [int(n) for n in re.findall(r"^  (\d)  ", shown, re.MULTILINE)] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert "did you mean --models?" in run("--model", "x").stderr
    for stage, needed in [(1, 0), (2, 1), (3, 1), (4, 1), (5, 4), (6, 2), (7, 3), (8, 2)]:
        result = run("--stage", str(stage), "--work", "w", "--ablations", "table_2", "--recognise", "fbank")
        assert result.returncode == 1
        assert f"stage {stage} needs " in result.stderr and f"which stage {needed} makes" in result.stderr
    result = run("--stage", "4", "--work", "w", "--models", "no_such_model")
    assert "no_such_model.yaml; write it" in result.stderr
    result = run("--stage", "6", "--work", "w", "--ablations", "table_2 no_such_row")
    assert "--ablations no_such_row: there is no no_such_row.yaml" in result.stderr
    for rows in ("negatives_8 window_40960", "steps_20 same_speaker"):  # files of all recipes, and of this one
        assert "stage 6 needs data/" in run("--stage", "6", "--work", "w", "--ablations", rows).stderr
    assert run("--stage", "6", "--stop-stage", "6", "--work", "w", "--ablations", "").returncode == 0
    assert run("--stage", "8", "--stop-stage", "8", "--work", "w", "--recognise", "").returncode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--models", "mixed_speaker no_such"], "no_such.yaml; write it"),
        (["--models", ""], "--models is empty"),
        (["--aligner", "kaldi"], "--aligner kaldi: choose of: gmm pocketsphinx import posterior"),
        (["--aligner", "import"], "import needs --labels"),
        (["--aligner", "import", "--labels", "cpc 'no such.zip' --id-map m"], "no such.zip: no such file"),
        (["--compare", "pocketsphinx posterior"], "posterior needs --posteriors-of"),
        (["--compare", "posterior", "--posteriors-of", "x"], "needs exp/x/probes/c.phone.linear.pt, which stage 5"),
        (["--oov", "sphinx"], "--oov sphinx: choose of: espeak spn"),
        (["--pretrain-on", "test"], "--pretrain-on test: choose of: train all"),
        (["--probe-seeds", "1 two"], '--probe-seeds is whole numbers, as "1 2 3", not "1 two"'),
        (["--seeds", "-1"], "--seeds is whole numbers"),
        (["--label-shifts", "0.5"], "--label-shifts is whole numbers"),
        (["--probes", "linear svm"], "--probes svm: choose of: linear mlp"),
        (["--layers", "c mfcc"], "--layers mfcc: choose of: c z"),
        (["--ablations", "table_2 no_such"], "--ablations no_such: there is no no_such.yaml"),
        (["--ablations", "table_2@1;2"], "--ablations steps_2@1;2: write seeds as steps_2@2,3"),
        (["--steps-ahead-of", "steps_21"], "--steps-ahead-of steps_21: neither in exp/"),
        (["--recognise", "fbank plp"], "--recognise plp: neither of --models (mixed_speaker) nor fbank"),
        (["--recognisers", "gru"], "--recognisers gru: choose of: linear lstm"),
    ],
)
def test_slips_are_told_before_the_first_stage(options: list[str], message: str, tmp_path: Path) -> None:
    """Not after days, in the stage that would stumble over them."""
    script = ROOT / "recipes" / "librispeech100" / "run.sh"
    command = [str(script), "--work", str(tmp_path), "--corpus", str(tmp_path), *options]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HANG)
    assert result.returncode == 1 and message in result.stderr, result.stderr
    assert not result.stdout and not list(tmp_path.iterdir())


def test_what_stages_before_it_would_not_need(tmp_path: Path) -> None:
    """Signs, lists and seeds that are right; and of what is not to run, what another command has yet to make."""
    script = ROOT / "recipes" / "librispeech100" / "run.sh"
    options = ["--label-shifts", "-1 0 +1", "--probe-seeds", "1,2, 3", "--ablations", "table_2@1,2 steps_20@3"]
    later = ["--aligner", "posterior", "--steps-ahead-of", "of_tomorrow"]
    command = [str(script), "--work", "w", "--stage", "3", "--stop-stage", "6", *options, *later]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HANG)
    assert "stage 3 needs data/train_clean_100/.done.1, which stage 1 makes" in result.stderr


def test_stage_0_checks_configurations_and_published_lists(tmp_path: Path) -> None:
    script = ROOT / "recipes" / "librispeech100" / "run.sh"

    def run(*options: str) -> str:
        command = [str(script), "--work", str(tmp_path), "--stop-stage", "0", "--corpus", str(tmp_path), *options]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HANG)
        assert result.returncode == 1 and not (tmp_path / "data" / ".done.0").exists()
        return result.stderr

    assert "steps_20.yaml, over" in (said := run("--overrides", "window_samples=3200"))  # 20 frames
    assert "steps: 20 does not fit a window of 20 frames" in said
    (tmp_path / "train_split.txt").write_text("1-2-3\n")
    assert "train_split.txt is not the published list" in run("--splits", str(tmp_path))


def test_own_audio_needs_no_labels(tmp_path: Path) -> None:
    script = ROOT / "recipes" / "librispeech100" / "run.sh"
    for stage in ("2", "5", "6", "7", "9"):
        result = subprocess.run(
            [str(script), "--data", ".", "--work", "w", "--stage", stage, "--stop-stage", stage],
            cwd=tmp_path, capture_output=True, text=True, timeout=HANG,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert "skipped, as the audio of --data has no labels" in result.stdout


def test_what_is_published_together_is_small(tmp_path: Path) -> None:
    """The report's files, and the pictures in place of older ones; or nothing."""
    script, written = tmp_path / "run.sh", tmp_path / "work" / "exp" / "report"
    pipeline = ROOT / "recipes" / "shared" / "pipeline.sh"
    script.write_text(f'source "{pipeline}"\ncurrent=9\ncd "$recipe/work"\npublish_report\n')
    (written / "figures").mkdir(parents=True)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.png").touch()
    for name in ("RESULTS.md", "report.html", "results.json", "notes.txt"):
        (written / name).write_text(name)
    (written / "figures" / "tsne.png").write_bytes(bytes(2_000_000))

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", str(script)], capture_output=True, text=True, timeout=HANG)

    refused = run()
    assert refused.returncode == 1 and "exp/report is 2000033 bytes" in refused.stderr
    assert "rm exp/figures/NAME.png" in refused.stderr and not (tmp_path / "report.html").exists()
    (written / "figures" / "tsne.png").write_bytes(bytes(1_999_900))
    assert run().returncode == 0
    published = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {path for path in published if not path.startswith("work/")} == {
        "run.sh", "RESULTS.md", "report.html", "results.json", "figures/tsne.png",
    }  # fmt: skip
