"""What tests of extraction share: a small network, a data directory of audio files, and the network's own frames.

Its fixtures are ``exp``, ``data`` and ``small_pools`` where they are imported, under names that no argument shadows.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from cpc_speech import extract as module
from cpc_speech import pools
from cpc_speech.checkpoint import build_model, save
from cpc_speech.config import Config
from cpc_speech.datadir import write_table
from cpc_speech.extract import main
from cpc_speech.model import CPC

SMALL = Config(channels=16, context_dim=8, steps=2, context_layers=2, seed=3)
# Samples: with no whole frame behind the last, a whole one but for a sample, just one frame; others are longer.
LENGTHS = {
    "ann-1": 16000,
    "ann-2": 8000 + 159,
    "bob-1": 160,
    "bob-2": 24000 + 80,
    "eve-1": 5000,
    "eve-2": 3 * 16000 + 1,
}


def sound(name: str, n: int) -> np.ndarray:
    return (3000 * np.random.default_rng(len(name) + n).standard_normal(n)).astype(np.int16)


@pytest.fixture(name="exp", scope="module")
def small_exp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    exp = tmp_path_factory.mktemp("exp")
    (exp / "config.yaml").write_text(SMALL.dump())
    save(exp, {"update": 1, "model": build_model(SMALL).state_dict()}, keep=1)
    return exp


@pytest.fixture(name="data")
def data_of_files(tmp_path: Path) -> Path:
    """A Kaldi data directory of FLAC files, one of them behind Kaldi's usual pipe."""
    data = tmp_path / "data"
    for name, n in LENGTHS.items():
        (data / "wav").mkdir(parents=True, exist_ok=True)
        soundfile.write(data / "wav" / f"{name}.flac", sound(name, n), 16000)
    wavs = {name: str(data / "wav" / f"{name}.flac") for name in LENGTHS}
    write_table(data / "wav.scp", wavs | {"eve-1": f"flac -c -d -s {wavs['eve-1']} |"})
    write_table(data / "utt2spk", {name: name[:3] for name in LENGTHS})
    write_table(data / "text", {name: f"WORDS OF {name}" for name in LENGTHS})
    return data


@pytest.fixture(name="small_pools")
def several_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pools, one streamed utterance in each of several blocks."""
    monkeypatch.setattr(pools, "LONG", 20000)
    monkeypatch.setattr(pools, "_POOL", 10000)
    monkeypatch.setattr(pools, "BLOCK", 7001)
    monkeypatch.setattr(module, "BLOCK", 7001)


@torch.no_grad()
def expected(samples: np.ndarray, layer: str = "c", model: CPC | None = None) -> np.ndarray:
    """By the network, all at once, in fp32."""
    z, c = (model or build_model(SMALL)).eval()(torch.from_numpy(samples.astype(np.float32) / 32768)[None])
    return {"c": c, "z": z, "both": torch.cat((z, c), -1)}[layer][0].numpy()


def run(exp: Path, data: Path, out: Path, *options: str) -> Path:
    main([str(exp), str(data), str(out), "--precision", "fp32", *options])
    return out


def assert_frames(found: dict[str, np.ndarray], layer: str = "c", model: CPC | None = None) -> None:
    assert list(found) == sorted(LENGTHS)
    for name, n in LENGTHS.items():
        assert found[name].shape[0] == n // 160 and found[name].dtype == np.float32
        # fp32 of values about 1, products of other heights
        np.testing.assert_allclose(found[name], expected(sound(name, n), layer, model), rtol=0, atol=1e-5)


def in_a_child(work: Callable[[], object]) -> int:
    """Run it in a fork of this process; its exit status, minus the signal that ended it."""

    def child() -> None:
        torch.set_num_threads(1)
        work()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode
