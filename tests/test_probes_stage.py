"""Stage 5 of a real recipe, with commands that only pretend: what it starts."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from patience import HANG

ROOT = Path(__file__).resolve().parents[1]
SPLITS = ("splits/train.list", "splits/dev.list", "splits/test.list")
MODELS = ("lstm", "same_speaker")


def calls(top: Path, *options: str) -> list[str]:
    """Command lines of mini_librispeech's stage 5 in a folder of its own, whose conf/ also has a model ``lstm``."""
    shutil.copytree(ROOT / "recipes", top / "recipes", ignore=shutil.ignore_patterns("data", "exp", "corpus"))
    recipe, work, python = top / "recipes" / "mini_librispeech", top / "work", top / "bin" / "python"
    (recipe / "conf" / "lstm.yaml").write_text("recurrence: lstm\n")
    python.parent.mkdir()
    python.write_text(f"#!/bin/bash\necho \"$@\" >> '{top}/calls'\n")
    python.chmod(0o755)
    needed = [f"data/mini/{name}" for name in (".done.2", "phones.ark", ".done.3", *SPLITS)]
    for name in [*needed, *(f"exp/{model}/{name}" for model in MODELS for name in (".done.4", "train.json"))]:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(name)
    subprocess.run(
        [str(recipe / "run.sh"), "--work", str(work), "--stage", "5", "--stop-stage", "5", *options],
        check=True, capture_output=True, timeout=HANG, env=os.environ | {"PATH": f"{top}/bin:{os.environ['PATH']}"},
    )  # fmt: skip
    return (top / "calls").read_text().replace(f"{recipe}/", "").splitlines()


def test_a_model_is_fine_tuned_with_its_own_configuration(tmp_path: Path) -> None:
    """Its network may differ from that of conf/cpc.yaml, which is the supervised one's."""
    tuned = [line for line in calls(tmp_path, "--models", "lstm same_speaker") if "--init-from exp/lstm " in line]
    configs = "--config conf/cpc.yaml --config conf/lstm.yaml --config exp/baselines/overrides.yaml"
    assert len(tuned) == 2 and all(configs in line for line in tuned)


def test_the_first_model_is_also_probed_with_its_context_afresh(tmp_path: Path) -> None:
    afresh = "--representation c --probe-context window --data data/mini --exp exp/"
    found = calls(tmp_path / "a", "--models", "same_speaker lstm")
    assert [line for line in found if "window" in line] == [f"-m cpc_speech.probe --seed 1 2 3 {afresh}same_speaker"]
    found = calls(tmp_path / "b", "--models", "same_speaker lstm", "--probe-windows", "false")
    assert found and not [line for line in found if "window" in line]
