"""local/estimate.py: sizes and times counted by hand, for 100 hours and rates of our own."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import sys
from collections import namedtuple
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from cpc_speech import cost
from cpc_speech.config import Config
from cpc_speech.errors import UserError
from cpc_speech.probe import passes_over

ROOT = Path(__file__).resolve().parents[1]
FRAMES = 36e6  # of 100 hours
CPU = torch.device("cpu")
SMALL = Config(channels=256, minibatches=1, updates=12000, dev_every=500, dev_minibatches=16)


@pytest.fixture(scope="module")
def estimate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("estimate", ROOT / "local" / "estimate.py")
    assert spec and spec.loader
    module = sys.modules["estimate"] = importlib.util.module_from_spec(spec)  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def rates(estimate: ModuleType) -> Any:
    """A machine of 10e9 operations a second."""
    return estimate.Rates(
        start=5, operation=1e-10, probe={"linear": 0.002, "mlp": 0.02}, mfcc=0.01, recogniser={"linear": 1, "lstm": 9}
    )


@pytest.fixture
def setting(estimate: ModuleType, rates: Any) -> Any:
    return estimate.Setting(100, Config(), rates, {"a.yaml": SMALL, "b.yaml": Config()}, recogniser_updates=1200)


def jobs(*lines: str) -> list[list[str]]:
    return [line.split() for line in lines]


def test_disk(estimate: ModuleType, setting: Any) -> None:
    def sizes(*lines: str, ngpu: int = 1, download: float = 0) -> dict[str, float]:
        return estimate.disk(dataclasses.replace(setting, ngpu=ngpu), jobs(*lines), download)

    probed = "features being probed"
    assert sizes("5 probe c phone linear 3") == {probed: FRAMES * 256 * 2}  # c in float16: 18 GB
    # One after the other, of which z is the widest.
    assert sizes("5 probe c phone linear 3", "5 probe z phone linear 3", ngpu=8)[probed] == FRAMES * 512 * 2
    assert sizes("6 probe c phone linear 3", ngpu=8)[probed] == 8 * FRAMES * 256 * 2  # on each GPU one: 147 GB
    found = sizes("8 features fbank", "8 features m", "8 recogniser fbank lstm", "8 recogniser fbank linear")
    assert found["features for ASR: fbank m"] == FRAMES * (80 + 256) * 4
    # Of 28 hours of dev and test, float32 for 40 symbols each 40 ms: 0.4 GB a recogniser.
    assert found["outputs of 2 recognisers"] == pytest.approx(2 * 28 * 3600 * 25 * 40 * 4)
    assert sizes("1 pack", download=6.3) == {
        "archive": 6.3e9, "corpus, extracted": pytest.approx(6.6e9, rel=0.01), "packed audio": 100 * 3600 * 32000,
    }  # fmt: skip
    weights = cost.parameters(SMALL) + 2 * cost.parameters(Config())
    assert sizes("4 pretrain a.yaml", "6 pretrain b.yaml", "5 supervised phone 9") == {
        "checkpoints": 2 * 12 * weights  # the last two: weights and Adam's moments in float32
    }


def test_pretraining_takes_its_operations(setting: Any) -> None:
    update = cost.update_operations(SMALL)
    alone = 5 + 1e-10 * (12000 * update + 24 * 16 * update / 3)  # 24 times the dev loss, a forward pass
    assert setting.seconds("4", "pretrain", "a.yaml") == pytest.approx(alone)
    eight = dataclasses.replace(setting, ngpu=8)
    assert eight.seconds("4", "pretrain", "a.yaml") == pytest.approx(alone)  # one minibatch cannot be shared out
    assert eight.seconds("6", "pretrain", "a.yaml") == pytest.approx(alone / 8)  # eight rows at a time
    assert eight.seconds("4", "pretrain", "b.yaml") == pytest.approx(setting.seconds("4", "pretrain", "b.yaml") / 8)


def test_probes_and_recognisers_take_their_updates(setting: Any) -> None:
    updates = 3 * passes_over(25_920_000) * 25_920_000 / 1024  # three seeds, frames of train
    assert setting.seconds("5", "probe", "c", "phone", "mlp", "3") == pytest.approx(updates * 0.02)
    linear = setting.seconds("5", "probe", "mfcc", "phone", "linear", "3")  # which computes the frames, too
    assert linear == pytest.approx(5 + 360_000 * 0.01 + updates * 0.002 * (0.5 + 0.5 * 13 / 256))
    assert setting.seconds("8", "recogniser", "m", "lstm") == pytest.approx(5 + 1200 * 8 * 12.5 / 3600 * 9)


def test_all_jobs_of_a_plan_have_a_time(estimate: ModuleType, setting: Any) -> None:
    lines = jobs(
        "1 pack", "2 labels gmm", "4 pretrain a.yaml", "4 pretrain b.yaml", "5 probe c phone linear 3",
        "5 supervised phone 2400", "6 pretrain a.yaml", "7 steps_ahead m", "7 tsne mfcc", "8 features m",
        "8 recogniser m lstm",
    )  # fmt: skip
    found = dict(estimate.times(setting, lines))
    assert len(found) == 10 and all(seconds > 0 for seconds in found.values())
    assert "stage 4: pretrain 2 models" in found and "stage 6: pretrain 1 model" in found
    text = estimate.report(setting, lines, 6.3, CPU)
    assert any("in all" in line and " h " in line for line in text)


def test_rates_are_measured(estimate: ModuleType) -> None:
    small = dataclasses.replace(SMALL, channels=8, window_samples=3200, steps=2)
    rates = estimate.measure(small, CPU, {"probe", "recogniser", "pretrain"})
    numbers = [rates.start, rates.operation, rates.mfcc, *rates.probe.values(), *rates.recogniser.values()]
    assert len(numbers) == 7 and all(0 < number < np.inf for number in numbers)


def test_hours_are_of_the_subsets_that_are_used(estimate: ModuleType, tmp_path: Path) -> None:
    for subset, seconds in {"train-clean-100": 9, "train-other-500": 360}.items():
        chapter = tmp_path / "LibriSpeech" / subset / "1" / "2"
        chapter.mkdir(parents=True)
        soundfile.write(chapter / "1-2-3.flac", np.zeros(seconds * 16000, np.int16), 16000)
    for corpus in (tmp_path, tmp_path / "LibriSpeech", tmp_path / "LibriSpeech" / "train-clean-100"):
        assert estimate.hours_of(corpus, ["train-clean-100"]) == 9 / 3600
    assert estimate.hours_of(tmp_path) == 369 / 3600
    with pytest.raises(UserError, match="no subset dev-clean here, but train-clean-100, train-other-500"):
        estimate.hours_of(tmp_path, ["dev-clean"])


def test_too_small_a_disk_is_an_error(
    estimate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan").write_text("1 pack\n")
    (tmp_path / "cpc.yaml").write_text("channels: 8\nsteps: 2\n")
    argv = ["--plan", str(tmp_path / "plan"), "--hours", "100", "--config", str(tmp_path / "cpc.yaml"), "--set"]
    argv += ["window_samples=3200"]
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(12e9))
    estimate.main(argv)
    assert "12 GB are free" in capsys.readouterr().out
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(11e9))
    with pytest.raises(UserError, match="too small by 0.5 GB"):  # 11.52 GB of packed audio
        estimate.main(argv)
