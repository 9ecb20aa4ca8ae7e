"""Representations: frame counts and geometry, and that batching and cutting change nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cpc_speech.errors import UserError
from cpc_speech.model import CPC, HOP
from cpc_speech.representations import MFCC, CPCFrames, LogMel, Representation

LENGTHS = [1600, 1759, 3200, 3201, 400 + 159, 20 * HOP + 80]


def noise(n: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(n, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model() -> CPC:
    torch.manual_seed(5)
    model = CPC(16, 8, 2)
    with torch.no_grad():  # untrained biases are 0, at which padding and silence look alike
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


@pytest.mark.parametrize("deltas, dim", [(False, 13), (True, 39)])
def test_mfcc_has_n_over_160_frames_for_every_n(deltas: bool, dim: int) -> None:
    mfcc = MFCC(deltas)
    assert (mfcc.dim, mfcc.hop) == (dim, HOP)
    for n in [*range(400, 400 + 2 * HOP), 16000, 16159]:
        assert mfcc([noise(n)])[0].shape == (n // HOP, dim), n


@pytest.mark.parametrize("n", [160, 319, 399])
def test_mfcc_of_less_than_its_window(n: int) -> None:
    """Labels exist from 160 samples on, so frames must."""
    frames = MFCC()([noise(n)])[0]
    assert frames.shape == (n // HOP, 13) and torch.isfinite(frames).all()


def test_mfcc_frame_is_centred_on_its_label() -> None:
    """A click at the centre of frame t is loudest in frame t: Povey's window falls off to both sides."""
    for t in (3, 10, 18):
        waveform = 1e-4 * noise(20 * HOP)
        waveform[HOP * t + 80] = 0.5
        assert MFCC()([waveform])[0][:, 0].argmax().item() == t


def test_log_mel_equals_kaldis() -> None:
    """Kaldi's own code, wrapped by kaldi-native-fbank: the settings say the same, and so do the numbers."""
    knf = pytest.importorskip("kaldi_native_fbank")
    options = knf.FbankOptions()
    options.frame_opts.snip_edges, options.frame_opts.dither = False, 0.0
    options.mel_opts.num_bins = 80
    for n in (1600, 16159):
        computer = knf.OnlineFbank(options)
        computer.accept_waveform(16000, (32768 * noise(n)).tolist())
        computer.input_finished()
        expected = torch.stack([torch.from_numpy(computer.get_frame(t).copy()) for t in range(n // HOP)])
        frames = LogMel()([noise(n)])[0]
        assert frames.shape == (n // HOP, LogMel.dim)
        # Logarithms of sums in single precision, of an FFT in another order.
        torch.testing.assert_close(frames, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("n", [0, 159, 160, 399])
def test_log_mel_of_less_than_its_window(n: int) -> None:
    frames = LogMel()([noise(n)])[0]
    assert frames.shape == (n // HOP, 80) and torch.isfinite(frames).all()


def test_mfcc_differences_equal_kaldis_formula() -> None:
    """Δ_t = Σ_{n=1,2} n (c_{t+n} − c_{t−n}) / (2 Σ n²), the edges repeated; the second are those of the first."""
    waveform = noise(30 * HOP)
    cepstra, expected = MFCC()([waveform])[0], []
    for _ in range(3):
        expected.append(cepstra)
        last = len(cepstra) - 1
        cepstra = torch.stack([
            sum(n * (cepstra[min(t + n, last)] - cepstra[max(t - n, 0)]) for n in (1, 2)) / 10  # type: ignore[misc]
            for t in range(last + 1)
        ])  # fmt: skip
    # fp32 cepstra of up to about 100: sums in another order.
    torch.testing.assert_close(MFCC(deltas=True)([waveform])[0], torch.cat(expected, 1), rtol=0, atol=1e-4)


def test_mfcc_is_deterministic_and_a_batch_equals_its_utterances() -> None:
    waveforms = [noise(n, n) for n in LENGTHS]
    for together, waveform in zip(MFCC()(waveforms), waveforms, strict=True):
        assert torch.equal(together, MFCC()([waveform])[0])


@pytest.mark.parametrize("layer, dim", [("c", 8), ("z", 16)])
def test_frames_are_the_networks_and_n_over_160(model: CPC, layer: str, dim: int) -> None:
    frames = CPCFrames("x", model, layer, precision="fp32")
    assert (frames.dim, frames.hop) == (dim, HOP)
    for n in [160, 319, 400, *LENGTHS]:
        z, c = model(noise(n)[None])
        found = frames([noise(n)])[0]
        assert found.shape == (n // HOP, dim) and found.dtype == torch.float32
        torch.testing.assert_close(found, (c if layer == "c" else z)[0], rtol=0, atol=1e-6)  # fp32


@pytest.mark.parametrize("recurrence", ["gru", "lstm"])
def test_a_layer_is_the_networks_cut_there(recurrence: str) -> None:
    torch.manual_seed(5)
    model = CPC(16, 8, 2, recurrence=recurrence, context_layers=2)
    waveforms = [noise(n, n) for n in LENGTHS]
    for layer, network in [("c1", model.truncated(1)), ("c2", model), ("c", model)]:
        frames = CPCFrames(layer, model, layer, precision="fp32")
        assert frames.dim == 8
        for found, waveform in zip(frames(waveforms), waveforms, strict=True):
            torch.testing.assert_close(found, network(waveform[None])[1][0], rtol=0, atol=1e-6)  # fp32
    assert not torch.allclose(CPCFrames("a", model, "c1")(waveforms)[0], CPCFrames("b", model)(waveforms)[0], atol=1e-2)
    for layer in ("c0", "c3", "z1", "", "mfcc"):
        with pytest.raises(UserError, match=f"layer '{layer}': the network has z, c,.* c1, c2$"):
            CPCFrames("x", model, layer)


@pytest.mark.parametrize("layer", ["c", "z"])
@pytest.mark.parametrize("window", [None, 800])
@pytest.mark.parametrize("bf16", [False, True])
def test_a_batch_equals_its_utterances_to_the_last_frame(
    model: CPC, layer: str, window: int | None, bf16: bool
) -> None:
    """Longer neighbours must not reach into an utterance's end, where its own padding counts."""
    frames = CPCFrames("x", model, layer, window, precision="bf16" if bf16 else "fp32")
    waveforms = [noise(n, n) for n in LENGTHS]
    for together, waveform in zip(frames(waveforms), waveforms, strict=True):
        # The encoder runs utterance by utterance; the recurrence is fp32 in both, of a matrix of other height.
        torch.testing.assert_close(together, frames([waveform])[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("layer", ["c", "z"])
@pytest.mark.parametrize("n", [800, 2400, 2401, 2399, 4 * 800 + 160, 4 * 800 + 799])
def test_window_context_equals_cutting_by_hand(model: CPC, layer: str, n: int) -> None:
    waveform = noise(n)
    found = CPCFrames("x", model, layer, 800, precision="fp32")([waveform, noise(5000)])[0]
    pieces = []
    for start in range(0, n // HOP * HOP, 800):
        z, c = model(waveform[start : min(start + 800, n // HOP * HOP)][None])
        pieces.append((c if layer == "c" else z)[0])
    torch.testing.assert_close(found, torch.cat(pieces), rtol=0, atol=1e-6)  # fp32
    carried = CPCFrames("x", model, layer, precision="fp32")([waveform])[0]
    assert carried.shape == found.shape
    if n > 960:
        assert not torch.allclose(carried[5:], found[5:], atol=1e-3)


def test_bf16_rounds_and_no_more(model: CPC) -> None:
    waveform = [noise(3200)]
    exact, rounded = (
        CPCFrames("x", model, precision="bf16" if bf16 else "fp32")(waveform)[0] for bf16 in (False, True)
    )
    assert 0 < (exact - rounded).abs().max() < 0.1  # bf16 keeps 3 digits of values below 1, through five layers


def test_nothing_is_recorded_for_a_gradient(model: CPC) -> None:
    assert not CPCFrames("x", model)([noise(1600)])[0].requires_grad


@pytest.mark.parametrize("n", [0, 1, 159])
def test_less_than_a_frame_has_none(model: CPC, n: int) -> None:
    z = CPCFrames("z", model, "z")
    all_of_them: list[Representation] = [MFCC(), MFCC(deltas=True), LogMel(), CPCFrames("c", model), z]
    all_of_them.append(CPCFrames("windows", model, window_samples=1600))
    for representation in all_of_them:
        before, none, after = representation([noise(1600), noise(n), noise(800)])
        assert none.shape == (0, representation.dim) and none.dtype == torch.float32, representation.name
        expected = representation([noise(1600), noise(800)])
        assert torch.equal(before, expected[0]) and torch.equal(after, expected[1]), representation.name
        assert [frames.shape for frames in representation([noise(n)])] == [(0, representation.dim)]
