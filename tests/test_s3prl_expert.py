"""The upstream for s3prl, beside frames of the same model by themselves. s3prl itself is not needed for it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cpc_speech import checkpoint
from cpc_speech.config import Config
from cpc_speech.errors import UserError
from cpc_speech.model import CPC
from cpc_speech.representations import CPCFrames
from cpc_speech.s3prl_expert import UpstreamExpert, cpc_speech, main


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    config = Config(channels=16, context_dim=8, steps=2, seed=4)
    checkpoint.settle_config(tmp_path, config)
    checkpoint.save(tmp_path, {"update": 3, "model": checkpoint.build_model(config).state_dict()}, 1)
    return tmp_path


@pytest.fixture
def model(exp: Path) -> CPC:
    return checkpoint.load_experiment(exp)[1]


WAVEFORMS = [0.1 * torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (1600, 1759, 4001, 479)]


@pytest.mark.parametrize("key, layer", [("hidden_states", "c"), ("z", "z")])
def test_states_are_the_models_frames(exp: Path, model: CPC, key: str, layer: str) -> None:
    upstream = cpc_speech(str(exp)).eval()
    [states] = upstream(WAVEFORMS)[key]
    expected = CPCFrames(layer, model, layer, precision="fp32")(WAVEFORMS)
    assert states.shape == (4, 26, expected[0].shape[1])  # s3prl counts every begun 160 of 4,001 samples
    for one, frames in zip(states, expected, strict=True):
        # Rounding alone differs: the context's products are blocked by the batch's size.
        torch.testing.assert_close(one[: len(frames)], frames, rtol=1e-4, atol=1e-6)
        assert torch.equal(one[len(frames) :], one[len(frames) - 1].expand_as(one[len(frames) :]))
    assert upstream.get_downsample_rates(key) == 160


def test_less_than_a_frame(exp: Path) -> None:
    """Of 100 samples s3prl counts a frame, which the model has not."""
    [states] = UpstreamExpert(str(exp))([WAVEFORMS[0], WAVEFORMS[0][:100]])["hidden_states"]
    assert states.shape == (2, 10, 8) and states[0].any() and not states[1].any()
    found = UpstreamExpert(str(exp))([WAVEFORMS[0][:100], WAVEFORMS[0][:159]])
    for name, dim in (("hidden_states", 8), ("z", 16)):
        assert found[name][0].shape == (2, 1, dim) and not found[name][0].any()


def test_both_parts_can_be_trained_on(exp: Path) -> None:
    upstream = UpstreamExpert(str(exp))
    upstream(WAVEFORMS)["hidden_states"][0].square().sum().backward()
    parameters = dict(upstream.named_parameters())
    assert parameters and all(parameter.grad is not None for parameter in parameters.values())
    assert not [name for name in parameters if "predictors" in name]


def test_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file or folder"):
        UpstreamExpert(str(tmp_path / "nothing"))


def test_run_downstream_finds_it_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    hub, found = SimpleNamespace(), []
    run_downstream = SimpleNamespace(main=lambda: found.append(hub.cpc_speech))
    monkeypatch.setitem(sys.modules, "s3prl", SimpleNamespace(hub=hub, run_downstream=run_downstream))
    main()
    assert found == [cpc_speech]


def test_without_s3prl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3prl", None)
    with pytest.raises(UserError, match="docs/s3prl.md"):
        main()
