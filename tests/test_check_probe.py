"""local/check_probe.py, as a command."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

pytest.importorskip("sklearn")


def test_the_probe_and_scikit_learn_on_the_same_frames(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("check_probe", Path(__file__).parents[1] / "local" / "check_probe.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.spread(list(range(10)), 4) == [0, 3, 6, 9] and module.spread([5, 6], 9) == [5, 6]
    about = ["--data", str(data), "--exp", str(tmp_path / "exp"), "--representation", "mfcc", "--task", "speaker"]
    module.main([*about, "--utterances", "9"])
    found = re.search(
        r"frames of 9 utterances: probe (\S+) %, scikit-learn (\S+) % .*, (\S+) points", capsys.readouterr().out
    )
    assert found
    ours, theirs, difference = map(float, found.groups())
    assert ours > 90 and theirs > 90  # three colours of noise
    assert difference == pytest.approx(ours - theirs, abs=0.011)
    facts = json.loads((tmp_path / "exp" / "probes" / "check" / "mfcc.speaker.json").read_text())
    assert (facts["accuracy"], facts["scikit_learn"]) == pytest.approx((ours, theirs), abs=0.006)
    assert facts["train_utterances"] == 9 and not list(tmp_path.glob("exp/probes/*.json"))
