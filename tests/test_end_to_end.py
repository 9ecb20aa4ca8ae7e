"""librispeech100's real stages, on a small tree in LibriSpeech-100's shape, spoken by espeak-ng."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("espeakng_loader")
pytest.importorskip("pocketsphinx")

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "librispeech100"
TINY = (
    "channels=16 context_dim=16 steps=3 windows=2 accumulate=2 updates=4 "
    "log_every=1 dev_every=2 dev_minibatches=1 checkpoint_every=2"
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LibriSpeech/train-clean-100/READER/CHAPTER/*.flac, 3 readers, about 80 seconds."""
    folder = tmp_path_factory.mktemp("corpus") / "LibriSpeech"
    command = [sys.executable, "-m", "data_prep.synthetic", str(folder), "--speakers", "3", "--minutes", "1.3"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (folder / "synthetic").rename(folder / "train-clean-100")
    return folder


def run(work: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(RECIPE / "run.sh"), "--work", str(work), "--nj", "1", "--overrides", TINY, *options]
    return subprocess.run(command, capture_output=True, text=True)


def test_train_clean_100(corpus: Path, tmp_path: Path) -> None:
    """Stages 0 to 9, then again: everything is skipped."""
    options = ("--corpus", str(corpus), "--supervised-updates", "4", "--models", "mixed_speaker same_speaker")
    first = run(tmp_path, *options)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "GiB" in first.stdout  # stage 0 says what the run will need

    heard = json.loads((tmp_path / "exp" / "mixed_speaker" / "train.json").read_text())
    # 4 updates of 2 minibatches of 2 windows of 1.28 s
    assert heard["hours_heard"] == pytest.approx(4 * 2 * 2 * 1.28 / 3600)
    results = json.loads((tmp_path / "exp" / "report" / "results.json").read_text())
    rows = {(result["row"], result["task"]) for result in results}
    expected = {
        "random initialisation", "MFCC, 13", "MFCC, 13 with differences", "CPC, mixed speaker", "CPC, same speaker",
        "supervised",
    }  # fmt: skip
    assert rows == {(row, task) for row in expected for task in ("phone", "speaker")}
    assert all(0 <= result["ci95"][0] <= result["accuracy"] <= result["ci95"][1] <= 100 for result in results)
    assert "| CPC, mixed speaker |" in (tmp_path / "exp" / "report" / "RESULTS.md").read_text()

    again = run(tmp_path, *options)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "done before, skipped" in again.stdout
    assert "epoch" not in again.stdout and "resuming" not in again.stdout + again.stderr


def test_own_unlabelled_audio(corpus: Path, tmp_path: Path) -> None:
    """--data pretrains without transcripts: 3 speakers by folder, no labels, no probes."""
    done = run(tmp_path, "--data", str(corpus / "train-clean-100"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "exp" / "mixed_speaker" / "train.json").read_text())["updates"] == 4
    assert not list(tmp_path.glob("exp/*/probes"))
    speakers = (tmp_path / "data" / "own" / "spk2utt").read_text().splitlines()
    assert len(speakers) == 3
