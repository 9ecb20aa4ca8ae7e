"""--quick true: every stage of the demo, from speech to the report, with a tenth of the updates."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from patience import HANG
from runs import ROOT

pytest.importorskip("espeakng_loader")
pytestmark = pytest.mark.slow


def test_the_demo_quickly(tmp_path: Path) -> None:
    command = [ROOT / "recipes" / "synthetic" / "run.sh", "--quick", "true", "--work", tmp_path, "--recognise", "fbank"]
    done = subprocess.run(
        [*map(str, command), "--finetune", "true", "--ablations", "mixed_speaker same_speaker@2,3"], cwd=tmp_path,
        capture_output=True, text=True, timeout=HANG,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    work = tmp_path / "quick"
    assert [path.name for path in tmp_path.iterdir()] == ["quick"]
    names = ("mixed_speaker", "supervised_phone", "mixed_speaker_finetuned_speaker", "ablations/same_speaker.seed1")
    for name in names:
        config = yaml.safe_load((work / "exp" / name / "config.yaml").read_text())
        assert config["updates"] == 50 and config["warmup_updates"] < 50, name
    rows = {path.name for path in (work / "exp" / "ablations").iterdir() if ".seed" in path.name and path.is_dir()}
    assert rows == {"mixed_speaker.seed1", "same_speaker.seed1"}
    last = done.stdout.rstrip().splitlines()[-5:]
    assert [line.split(":")[0] for line in last] == [
        "CPC, mixed speaker", "MFCC, 13", "Chance, the most frequent class", "Report", "Next",
    ]  # fmt: skip
    assert Path(last[3].partition("file://")[2]).is_file()
