"""Exported models: they come back as they were, hold no pickle, and damage or strangers are told."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import oracles
import pytest
import torch

import cpc_speech
from cpc_speech import checkpoint, export, exported
from cpc_speech.config import Config
from cpc_speech.errors import UserError
from cpc_speech.pretrained import read_model

CONFIG = Config(
    channels=16, context_dim=8, context_layers=2, steps=3, norm_epsilon=1e-3, updates=20, seed=3, precision="fp32"
)
TRAINING = {
    "hours_heard": 4.25, "corpus_hours": 2.5, "candidates": 1024, "dev_loss": [2.0, 3.0], "command": "python -m x",
    "commit": "abc", "machine": "2 cores", "date": "2026-01-01",
}  # fmt: skip


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    exp = tmp_path / "small"
    checkpoint.settle_config(exp, CONFIG)
    checkpoint.save(exp, {"update": 20, "model": checkpoint.build_model(CONFIG).state_dict()}, keep=1)
    (exp / "train.json").write_text(json.dumps(TRAINING))
    return exp


@pytest.fixture
def out(exp: Path, tmp_path: Path) -> Path:
    export.main([str(exp), "--to", str(tmp_path / "out")])
    return tmp_path / "out"


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """By the format's description: 8 bytes of length, a JSON header, then the numbers."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    assert header.pop("__metadata__") == {"format": "pt"}
    found = {}
    for name, entry in header.items():
        assert entry["dtype"] == "F32"
        begin, end = entry["data_offsets"]
        found[name] = torch.frombuffer(bytearray(data[begin:end]), dtype=torch.float32).view(entry["shape"])
    return found


@pytest.mark.parametrize("predictors", [False, True])
def test_what_is_written_is_the_model(exp: Path, tmp_path: Path, predictors: bool) -> None:
    out = tmp_path / "out"
    export.main([str(exp), "--to", str(out), *(["--predictors"] if predictors else [])])
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    expected = checkpoint.build_model(CONFIG).state_dict()
    if not predictors:
        expected = {name: weight for name, weight in expected.items() if not name.startswith("predictors.")}
    written, (model, facts) = read_safetensors(out / "model.safetensors"), read_model(out)
    assert set(written) == set(model.state_dict()) == set(expected)
    for name, weight in expected.items():
        assert torch.equal(written[name], weight) and torch.equal(model.state_dict()[name], weight)
    assert model.architecture == CONFIG.architecture | {"steps": 3 if predictors else 0}
    assert facts["config"] == vars(CONFIG) and facts["training"] == TRAINING and facts["updates"] == 20
    assert not model.training
    waveform = 0.1 * torch.randn(1600, generator=torch.Generator().manual_seed(0))
    for source in (out, out / "model.safetensors"):
        assert torch.equal(cpc_speech.load(source).encode(waveform), cpc_speech.load(exp).encode(waveform))


def test_an_export_is_exported_as_it_is(out: Path, tmp_path: Path) -> None:
    export.main([str(out), "--to", str(tmp_path / "again")])
    for name in ("model.safetensors", "config.json"):
        assert (out / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    with pytest.raises(UserError, match="has no predictors"):
        export.main([str(out), "--to", str(tmp_path / "third"), "--predictors"])
    assert not (tmp_path / "third").exists()


def test_the_card_says_what_it_was_trained_on_and_is_the_users(exp: Path, out: Path) -> None:
    card = out / "README.md"
    text = card.read_text()
    assert text.startswith("---\nlibrary_name: cpc-speech\n") and "license:" not in text
    for fact in ("4.25 h heard, of a corpus of 2.50 h", "after 20 of 20 updates", "2.500 nats, chance 6.931",
                 "`python -m x`", "2 GRU layers of 8 units", "without predictors"):  # fmt: skip
        assert fact in text, fact
    parameters = sum(weight.numel() for weight in read_safetensors(out / "model.safetensors").values())
    assert f"{parameters:,} parameters" in text
    card.write_text("licence: mine")
    export.main([str(exp), "--to", str(out)])
    assert card.read_text() == "licence: mine"


def test_the_best_checkpoints_card_counts_what_that_one_heard(exp: Path, tmp_path: Path) -> None:
    """Every update hears as much; the loss at the end is the last one's."""
    checkpoint.save_if_best(exp, checkpoint.build_model(CONFIG), 5, 2.0)
    export.main([str(exp), "--to", str(tmp_path / "out"), "--which", "best"])
    text = (tmp_path / "out" / "README.md").read_text()
    assert "after 5 of 20 updates" in text and "| 1.06 h heard, of a corpus of 2.50 h |" in text  # 4.25 h / 4
    assert "loss on dev" not in text


def test_a_checkpoint_of_cpc_audio_is_imported_by_exporting_it(tmp_path: Path) -> None:
    weights = oracles.cpc_audio_weights(16, 8, 1, "GRU", seed=0)
    source, out = tmp_path / "60k.pt", tmp_path / "out"
    torch.save({"config": {"hiddenEncoder": 16, "hiddenGar": 8, "arMode": "GRU"}, "weights": weights}, source)
    export.main([str(source), "--to", str(out)])
    waveform = 0.1 * torch.randn(1, 1600, generator=torch.Generator().manual_seed(0))
    _, (c,) = oracles.cpc_audio_features(weights, "GRU", waveform)
    torch.testing.assert_close(cpc_speech.load(out).encode(waveform), c, rtol=0, atol=1e-4)  # see test_cpc_audio
    assert "converted from `60k.pt`" in (out / "README.md").read_text()


def test_an_experiment_in_training_has_a_card_too(exp: Path, tmp_path: Path) -> None:
    (exp / "train.json").unlink()
    export.main([str(exp), "--to", str(tmp_path / "out")])
    assert "after 20 of 20 updates" in (tmp_path / "out" / "README.md").read_text()


def changed(**values: Any) -> Callable[[Path], None]:
    def change(out: Path) -> None:
        config = json.loads((out / "config.json").read_text())
        (out / "config.json").write_text(json.dumps(config | values))

    return change


def written(name: str, content: bytes) -> Callable[[Path], None]:
    def write(out: Path) -> None:
        (out / name).write_bytes(content)

    return write


def flip_a_bit(out: Path) -> None:
    content = bytearray((out / "model.safetensors").read_bytes())
    content[-100] ^= 4
    (out / "model.safetensors").write_bytes(content)


def truncate(out: Path) -> None:
    os.truncate(out / "model.safetensors", (out / "model.safetensors").stat().st_size - 100)


def junk(out: Path) -> None:
    """Which config.json was made to fit."""
    content = b"junk" * 9
    (out / "model.safetensors").write_bytes(content)
    changed(sha256=hashlib.sha256(content).hexdigest())(out)


ARCHITECTURE = CONFIG.architecture | {"steps": 0}
DAMAGE: list[tuple[str, Callable[[Path], None], str]] = [
    ("bit", flip_a_bit, "model.safetensors: is not the file that config.json beside it was written for"),
    ("truncated", truncate, "model.safetensors: is not the file that config.json beside it was written for"),
    ("no weights", lambda out: (out / "model.safetensors").unlink(), "model.safetensors: cannot be read"),
    ("no config", lambda out: (out / "config.json").unlink(), "config.json: cannot be read"),
    ("half a config", written("config.json", b'{"model_type": "cpc-sp'), "config.json: is not JSON"),
    ("binary config", written("config.json", b"\xff\xfe"), "config.json: is not JSON"),
    ("no safetensors", junk, "model.safetensors: is not a safetensors file"),
    ("foreign", written("config.json", b'{"model_type": "wav2vec2"}'), "does not describe a model of this project"),
    ("list", written("config.json", b"[]"), "does not describe a model of this project"),
    ("future", changed(format_version=2), "has format_version 2, and 1 is known here; update cpc-speech"),
    ("no sha256", changed(sha256=None), "lacks sha256"),
    ("other rate", changed(sample_rate=8000), "is of 8000 Hz and 160 samples a frame"),
    ("no key", changed(architecture={"channels": 16}), "describes a network by channels, not channels, norm_epsilon"),
    ("bad value", changed(architecture=ARCHITECTURE | {"channels": 0}), "channels: 0 is too small"),
    ("bad kind", changed(architecture=ARCHITECTURE | {"recurrence": "rnn"}), "'rnn' is none of gru, lstm"),
    ("wider", changed(architecture=ARCHITECTURE | {"context_dim": 9}), r"is \(24, 16\), not \(27, 16\)"),
    ("deeper", changed(architecture=ARCHITECTURE | {"context_layers": 3}), "context.rnn.weight_ih_l2 is missing"),
    ("flatter", changed(architecture=ARCHITECTURE | {"context_layers": 1}), "weight_ih_l1 is not of this network"),
]


@pytest.mark.parametrize("damage, complaint", [case[1:] for case in DAMAGE], ids=[case[0] for case in DAMAGE])
def test_what_is_not_whole_or_not_ours_is_told(out: Path, damage: Callable[[Path], None], complaint: str) -> None:
    damage(out)
    with pytest.raises(UserError, match=complaint):
        cpc_speech.load(out)


def test_files_of_two_exports_are_told_apart(exp: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between the two files of a second export must not leave new weights under an old description."""
    state = checkpoint.load_latest(exp)
    assert state is not None
    state["model"]["encoder.layers.0.conv.bias"] += 1
    checkpoint.save(exp, state, keep=1)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(exported.json, "dump", killed)
    with pytest.raises(KeyboardInterrupt):
        export.main([str(exp), "--to", str(out)])
    with pytest.raises(UserError, match="of another export"):
        cpc_speech.load(out)
    monkeypatch.undo()
    export.main([str(exp), "--to", str(out)])
    cpc_speech.load(out)
