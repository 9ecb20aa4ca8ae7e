"""local/estimate.py, for 100 hours: against sizes counted by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from cpc_speech.config import Config
from cpc_speech.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
FRAMES = 36e6  # of 100 hours


@pytest.fixture(scope="module")
def estimate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("estimate", ROOT / "local" / "estimate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_probed_features_are_of_the_widest_layer_and_of_all_probes_at_once(estimate: ModuleType) -> None:
    def probed(*about: object) -> float:
        return estimate.disk(100, Config(), 1, 0, estimate.Labelled(*about))["features being probed"]

    assert probed() == FRAMES * 256 * 2  # c in float16: 18 GB
    assert probed(("c", "z")) == FRAMES * 512 * 2  # one after the other
    assert probed(("c",), 8) == 8 * FRAMES * 256 * 2  # of eight models, each on its GPU: 147 GB
    assert "features being probed" not in estimate.disk(100, Config(), 1, 0, None)


def test_features_and_what_recognisers_put_out(estimate: ModuleType) -> None:
    sizes = estimate.disk(100, Config(), 1, 0, estimate.Labelled(recognisers=2), ["fbank", "mixed_speaker"])
    assert sizes["features for ASR: fbank mixed_speaker"] == FRAMES * (80 + 256) * 4
    # Of 28 hours of dev and test, float32 for 40 symbols each 40 ms: 0.4 GB a recogniser.
    assert sizes["outputs of 4 recognisers"] == pytest.approx(4 * 28 * 3600 * 25 * 40 * 4)


def test_memory_of_unlabelled_audio_alone_does_not_grow(estimate: ModuleType) -> None:
    labelled, unlabelled = (
        "\n".join(estimate.report(100, Config(), ["m"], 0, kind)) for kind in (estimate.Labelled(), None)
    )
    assert "0.4 GB more for the labels" in labelled and "does not grow" not in labelled
    assert "does not grow with the corpus" in unlabelled and "labels" not in unlabelled


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
