"""One line loads a model, wherever it comes from: frames are the network's own, and what cannot be is said."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from runs import ROOT
from torch import Tensor

import cpc_speech
from cpc_speech import checkpoint, export
from cpc_speech.config import Config
from cpc_speech.errors import UserError
from cpc_speech.model import CPC

CONFIG = Config(channels=16, context_dim=8, context_layers=2, recurrence="lstm", steps=3, updates=20, seed=3)


def noise(*shape: int) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def other(model: CPC) -> CPC:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    return model


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    """An experiment whose best checkpoint is not its last."""
    exp = tmp_path / "exp" / "small"
    checkpoint.settle_config(exp, CONFIG)
    checkpoint.save(exp, {"update": 20, "model": checkpoint.build_model(CONFIG).state_dict()}, keep=1)
    checkpoint.save_if_best(exp, other(checkpoint.build_model(CONFIG)), 10, 3.0)
    return exp


@pytest.fixture
def hub_cache(exp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hub's cache as huggingface_hub keeps it, with the experiment as ann/small, and no network."""
    constants = pytest.importorskip("huggingface_hub.constants")
    cache, revision = tmp_path / "hub", "0123456789abcdef0123456789abcdef01234567"
    folder = cache / "models--ann--small"
    export.main([str(exp), "--to", str(folder / "snapshots" / revision)])
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(revision)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


def test_frames_are_the_networks(exp: Path) -> None:
    network = checkpoint.build_model(CONFIG)
    waveform = noise(2, 10 * 160 + 37)
    with torch.no_grad():
        z, c = network(waveform)
        _, c1 = network.truncated(1)(waveform)
    for layer, expected in {"c": c, "c2": c, "c1": c1, "z": z}.items():
        model = cpc_speech.load(exp, layer)
        assert (model.sample_rate, model.hop, model.dim, model.name) == (16000, 160, expected.shape[2], layer)
        torch.testing.assert_close(model.encode(waveform), expected, rtol=0, atol=1e-6)  # fp32
        torch.testing.assert_close(model(waveform[1]), expected[1], rtol=0, atol=1e-6)
        assert not model.training and not model.encode(waveform).requires_grad
        for n in (0, 159):
            assert model.encode(waveform[:, :n]).shape == (2, 0, model.dim)
    for wrong in (waveform[None], torch.zeros(1600, dtype=torch.int16)):
        with pytest.raises(ValueError, match=r"not \((1, 2, 1637|1600,)\) in torch.(float32|int16)"):
            model.encode(wrong)
    stereo = waveform.t().contiguous()  # as soundfile gives it
    assert torch.equal(model.encode(stereo[:, 0]), model.encode(waveform[0]))
    assert torch.equal(model.encode(waveform.double()), model.encode(waveform))  # soundfile's default


def test_it_is_a_module(exp: Path) -> None:
    model = cpc_speech.load(str(exp))
    waveform = noise(1600)
    before = model.encode(waveform)
    duplicate = copy.deepcopy(model)
    other(model.model)
    assert not torch.allclose(model.encode(waveform), before, atol=1e-2)
    assert torch.equal(duplicate.encode(waveform), before)
    assert isinstance(model.model, CPC) and set(model.state_dict()) == {f"model.{k}" for k in model.model.state_dict()}
    assert all(parameter.requires_grad for parameter in model.parameters())  # for who trains it further
    [frames] = model.representation([waveform])
    assert torch.equal(frames, model.encode(waveform))


def test_precision(exp: Path) -> None:
    waveform = noise(3200)
    exact, rounded = (cpc_speech.load(exp, precision=precision).encode(waveform) for precision in ("fp32", "bf16"))
    assert exact.dtype == rounded.dtype == torch.float32
    assert 0 < (exact - rounded).abs().max() < 0.1  # see test_representations
    with pytest.raises(UserError, match="precision: 'fp16' is none of auto, bf16, fp32"):
        cpc_speech.load(exp, precision="fp16")


def test_last_and_best(exp: Path) -> None:
    last, best = checkpoint.build_model(CONFIG), other(checkpoint.build_model(CONFIG))
    for which, expected in (("last", last), ("best", best)):
        found = cpc_speech.load(exp, which=which).model
        assert torch.equal(found.context.rnn.weight_ih_l0, expected.context.rnn.weight_ih_l0), which
    with pytest.raises(UserError, match="newest: the checkpoint of an experiment is last or best"):
        cpc_speech.load(exp, which="newest")


def test_a_model_of_the_hub(exp: Path, hub_cache: Path) -> None:
    waveform = noise(1600)
    expected = cpc_speech.load(exp).encode(waveform)
    assert torch.equal(cpc_speech.load("ann/small").encode(waveform), expected)
    assert torch.equal(cpc_speech.load("ann/small@main").encode(waveform), expected)
    for name in ("ann/large", "ann/small@v2"):
        with pytest.raises(UserError, match=f"{name}: is not a file or folder here, and cannot be had from the Hub"):
            cpc_speech.load(name)


def test_without_the_hubs_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError) as caught:
        cpc_speech.load("exp/smal")
    assert "exp/smal: there is no such file or folder" in str(caught.value)
    assert "huggingface_hub: pip install" in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_model_is_said(exp: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing/at/all: there is no such file or folder"):
        cpc_speech.load("nothing/at/all")
    with pytest.raises(UserError, match="holds neither an experiment .* nor an exported model"):
        cpc_speech.load(exp.parent)
    with pytest.raises(UserError, match="layer 'c3': the network has z, c,.* c1, c2$"):
        cpc_speech.load(exp, "c3")
    export.main([str(exp), "--to", str(tmp_path / "out")])
    with pytest.raises(UserError, match="only an experiment has a best checkpoint"):
        cpc_speech.load(tmp_path / "out", which="best")


def test_half_a_summary_is_said(exp: Path) -> None:
    (exp / "train.json").write_text('{"updates": 2')
    with pytest.raises(UserError, match="train.json: is not JSON .*; copy it anew, or remove it"):
        cpc_speech.load(exp)


def test_an_experiment_of_another_network_is_said(exp: Path) -> None:
    (exp / "config.yaml").write_text((exp / "config.yaml").read_text().replace("lstm", "gru"))
    with pytest.raises(
        UserError, match=r"small: not the weights .*: context.rnn.weight_ih_l0 is \(32, 16\), not \(24,"
    ):
        cpc_speech.load(exp)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, cpc_speech; cpc_speech.load; print({'torch', 'numpy', 'yaml'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"


def test_torch_hub(exp: Path) -> None:
    model = torch.hub.load(str(ROOT), "cpc", exp, layer="z", source="local")
    assert torch.equal(model.encode(noise(1600)), cpc_speech.load(exp, "z").encode(noise(1600)))


def test_torch_hub_is_told_every_package_that_loading_imports() -> None:
    """Of those in setup.cfg: what a fresh process has imported once it has loaded the module."""
    code = "import sys, torch.hub, torchaudio; before = set(sys.modules); import cpc_speech.pretrained as p; "
    code += "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = set(found.stdout.split()) & {"yaml", "safetensors", "soundfile", "kaldi_io", "tensorboard", "tqdm"}
    spec: dict[str, list[str]] = {}
    exec((ROOT / "hubconf.py").read_text(), spec)
    assert imported and imported <= set(spec["dependencies"])
