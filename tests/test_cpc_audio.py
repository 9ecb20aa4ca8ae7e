"""Checkpoints of CPC_audio: features against its network written out, and what is refused."""

from __future__ import annotations

import argparse
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import oracles
import pytest
import torch
from torch import Tensor

import cpc_speech
from cpc_speech.cpc_audio import load_cpc_audio
from cpc_speech.errors import UserError

CHANNELS, UNITS = 24, 10
OPTIONS: dict[str, Any] = {
    "hiddenEncoder": CHANNELS, "hiddenGar": UNITS, "nLevelsGRU": 2, "arMode": "LSTM", "encoder_type": "cpc",
    "normMode": "layerNorm", "cpc_mode": None, "samplingType": "samespeaker", "nPredicts": 12, "dropout": False,
    "learningRate": 2e-4, "pathDB": "/somewhere", "load": None, "sizeWindow": 20480,
}  # fmt: skip


def noise(*shape: int) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def write(path: Path, weights: dict[str, Tensor], old: bool = False, **options: Any) -> Path:
    """With the options as a table; or as argparse's, in the format of torch before 1.6."""
    config = argparse.Namespace(**OPTIONS | options) if old else OPTIONS | options
    torch.save({"config": config, "weights": weights}, path, _use_new_zipfile_serialization=not old)
    return path


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return oracles.cpc_audio_weights(CHANNELS, UNITS, 2, "LSTM", seed=0)


@pytest.mark.parametrize("recurrence", ["GRU", "LSTM"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("old", [False, True])
def test_features_are_those_of_its_network(tmp_path: Path, recurrence: str, layers: int, old: bool) -> None:
    weights = oracles.cpc_audio_weights(CHANNELS, UNITS, layers, recurrence, seed=layers)
    path = write(tmp_path / "model.pt", weights, old, arMode=recurrence, nLevelsGRU=layers)
    waveform = noise(2, 40 * 160)
    double = {name: weight.double() for name, weight in weights.items()}
    z, outputs = oracles.cpc_audio_features(double, recurrence, waveform.double())
    expected = {"z": z, "c": outputs[-1]} | {f"c{depth}": c for depth, c in enumerate(outputs, 1)}
    for layer, frames in expected.items():
        model = cpc_speech.load(path, layer)
        # fp32 through five normalised layers: 2e-5 at most, see test_model; a bias to the variance would be 1 in 48.
        torch.testing.assert_close(model.encode(waveform), frames.float(), rtol=0, atol=1e-4)
        assert model.dim == frames.shape[2]


def test_quiet_audio_too_where_epsilon_counts(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    """Without biases, a waveform of 3e-4 leaves the first layer with a variance near 1e-5."""
    for i in range(5):
        weights[f"gEncoder.conv{i}.bias"].zero_()
    waveform = 3e-3 * noise(1, 40 * 160)
    double = {name: weight.double() for name, weight in weights.items()}
    z, _ = oracles.cpc_audio_features(double, "LSTM", waveform.double())
    model = cpc_speech.load(write(tmp_path / "model.pt", weights), "z")
    torch.testing.assert_close(model.encode(waveform), z.float(), rtol=0, atol=1e-4)
    for norm in model.model.encoder.modules():
        if isinstance(norm, torch.nn.LayerNorm):
            norm.eps = 1e-5
    assert (model.encode(waveform) - z).abs().max() > 1e-3  # so the test would notice


def test_names_with_module_and_weights_of_half_precision(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    plain = write(tmp_path / "a.pt", {name: weight.half().float() for name, weight in weights.items()})
    other = write(tmp_path / "b.pt", {f"module.{name}": weight.half() for name, weight in weights.items()})
    for name, weight in load_cpc_audio(plain)[0].state_dict().items():
        # The gain is multiplied by √((d − 1) / d) in half precision.
        torch.testing.assert_close(load_cpc_audio(other)[0].state_dict()[name], weight, rtol=1e-3, atol=0)


def test_absent_options_have_its_defaults(tmp_path: Path) -> None:
    """hiddenEncoder and hiddenGar 256, one layer of an LSTM."""
    path = tmp_path / "model.pt"
    torch.save({"config": {}, "weights": oracles.cpc_audio_weights(256, 256, 1, "LSTM", seed=0)}, path)
    model, facts = load_cpc_audio(path)
    assert (model.encoder.channels, model.context.rnn.hidden_size) == (256, 256)
    assert isinstance(model.context.rnn, torch.nn.LSTM) and not model.training
    assert facts["options"]["normMode"] == "layerNorm" and facts["cpc_audio"] == "model.pt"


def test_what_its_training_leaves(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = tmp_path / "checkpoint_30.pt"
    torch.save({"gEncoder": weights, "cpcCriterion": {}, "optimizer": {"state": {}}, "best": None}, path)
    with pytest.raises(UserError, match="checkpoint_args.json: cannot be read"):
        load_cpc_audio(path)
    (tmp_path / "checkpoint_args.json").write_text(json.dumps(OPTIONS))
    published = load_cpc_audio(write(tmp_path / "model.pt", weights))[0]
    for name, weight in load_cpc_audio(path)[0].state_dict().items():
        assert torch.equal(weight, published.state_dict()[name])


@pytest.mark.parametrize(
    "option, value",
    [
        ("normMode", "batchNorm"),
        ("normMode", "ID"),
        ("encoder_type", "mfcc"),
        ("arMode", "RNN"),
        ("arMode", "no_ar"),
        ("arMode", "transformer"),
        ("cpc_mode", "reverse"),
        ("cpc_mode", "bert"),
        ("nLevelsGRU", 0),
        ("hiddenEncoder", "256"),
    ],
)
def test_another_network_is_refused_by_its_option(
    tmp_path: Path, weights: dict[str, Tensor], option: str, value: Any
) -> None:
    path = write(tmp_path / "model.pt", weights, **{option: value})
    with pytest.raises(UserError, match=f"model.pt: its option {option} is {value!r}"):
        load_cpc_audio(path)


def test_weights_that_do_not_fit_are_named(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = tmp_path / "model.pt"
    del weights["gEncoder.conv3.bias"]
    weights["gEncoder.batchNorm0.running_mean"] = torch.zeros(CHANNELS)
    with pytest.raises(UserError, match="conv3.bias is missing; gEncoder.batchNorm0.running_mean is not of this"):
        load_cpc_audio(write(path, weights))
    weights = oracles.cpc_audio_weights(CHANNELS, UNITS, 2, "LSTM", seed=0)
    with pytest.raises(UserError, match="gAR.baseNet.weight_ih_l1 is not of this network"):
        load_cpc_audio(write(path, weights, nLevelsGRU=1))
    with pytest.raises(UserError, match=r"context.rnn.weight_ih_l0 is \(40, 24\), not \(44, 24\)"):
        load_cpc_audio(write(path, weights, hiddenGar=11))


class Trap:
    """Makes a folder when it is unpickled by who does not take care."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("where", ["config", "weights", "beside", "namespace"])
@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_of_a_checkpoint_is_run(tmp_path: Path, weights: dict[str, Tensor], where: str, zipped: bool) -> None:
    trap, path, sprung = Trap(tmp_path / "sprung"), tmp_path / "model.pt", tmp_path / "sprung"
    state: dict[str, Any] = {"config": dict(OPTIONS), "weights": weights}
    if where == "namespace":
        state["config"] = argparse.Namespace(**OPTIONS, trap=trap)
    else:
        state.setdefault(where, {})["trap"] = trap
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"model.pt: holds \w+.mkdir, neither weight nor option, and is not loaded"):
        cpc_speech.load(path)
    assert not sprung.exists()
    torch.load(path, weights_only=False)
    assert sprung.exists()  # so there was something to refuse


def test_other_files_are_refused(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    whole = write(tmp_path / "whole.pt", weights)
    assert zipfile.is_zipfile(whole)
    for name, content in {"cut.pt": whole.read_bytes()[:-2000], "empty.pt": b"", "text.json": b'{"a": 3}'}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}: is not a checkpoint that torch can read, or is damaged"):
            cpc_speech.load(tmp_path / name)
    torch.save({"model": weights, "update": 3}, tmp_path / "ours.pt")
    with pytest.raises(UserError, match="name the experiment's folder"):
        cpc_speech.load(tmp_path / "ours.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UserError, match="is not a checkpoint of CPC_audio"):
        cpc_speech.load(tmp_path / "list.pt")
    torch.save({"config": OPTIONS, "weights": weights | {"x": 3}}, tmp_path / "x.pt")
    with pytest.raises(UserError, match="its weights x are not tensors"):
        cpc_speech.load(tmp_path / "x.pt")
