"""Frames of a stream against the network's own on the whole waveform."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cpc_speech.model import CPC, HOP
from cpc_speech.representations import CPCFrames
from cpc_speech.streaming import Stream

N = 4 * 20480 + 77  # samples, no multiple of 160: 512 frames, more than are encoded at a time


def network(recurrence: str = "gru", layers: int = 1) -> CPC:
    torch.manual_seed(5)
    model = CPC(16, 8, 2, recurrence=recurrence, context_layers=layers)
    with torch.no_grad():  # untrained biases are 0, at which padding and silence look alike
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.eval()


def noise(n: int) -> Tensor:
    return 0.1 * torch.randn(n, generator=torch.Generator().manual_seed(n))


@torch.no_grad()
def whole(model: CPC, waveform: Tensor, layer: str) -> Tensor:
    """What the model gives for all of it in one piece."""
    z, c = model(waveform[None])
    return {"z": z[0], "c": c[0], "both": torch.cat((z[0], c[0]), -1)}[layer]


def streamed(stream: Stream, waveform: Tensor, size: int) -> list[Tensor]:
    return [*(stream.push(samples) for samples in waveform.split(size)), stream.flush()]


@pytest.mark.parametrize("recurrence, layers", [("gru", 1), ("lstm", 2)])
@pytest.mark.parametrize("layer", ["c", "z", "both"])
@pytest.mark.parametrize("size", [159, 160, 161, 1000, 20480, N])
def test_any_pieces_give_the_frames_of_the_whole(recurrence: str, layers: int, layer: str, size: int) -> None:
    model, waveform = network(recurrence, layers), noise(N)
    frames = torch.cat(streamed(Stream(CPCFrames("x", model, layer, precision="fp32")), waveform, size))
    # fp32, values of about 1: products of other heights are summed in another order
    torch.testing.assert_close(frames, whole(model, waveform, layer), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size, n", [(1, 5 * HOP + 3), (7, 20 * HOP + 159)])
@pytest.mark.parametrize("layer", ["c", "both"])
def test_a_few_samples_at_a_time(size: int, n: int, layer: str) -> None:
    model, waveform = network("lstm", 2), noise(n)
    frames = torch.cat(streamed(Stream(CPCFrames("x", model, layer, precision="fp32")), waveform, size))
    torch.testing.assert_close(frames, whole(model, waveform, layer), rtol=0, atol=1e-5)


@pytest.mark.parametrize("n", [0, 1, 159, 160, 161, 319, 320, 321, 479, 480, 639])
@pytest.mark.parametrize("size", [1, 7, 160, 1000])
def test_short_recordings_one_after_another(n: int, size: int) -> None:
    """flush forgets what was before."""
    model = network()
    stream = Stream(CPCFrames("x", model, precision="fp32"))
    streamed(stream, noise(1111), 500)
    frames = torch.cat(streamed(stream, noise(n), size))
    assert frames.shape == (n // HOP, 8) and frames.dtype == torch.float32
    if n >= HOP:
        torch.testing.assert_close(frames, whole(model, noise(n), "c"), rtol=0, atol=1e-5)


def test_a_frame_comes_with_the_last_sample_of_the_next() -> None:
    """As documented: frame t with sample 160·t + 319, not before and not later."""
    stream, waveform = Stream(CPCFrames("x", network())), noise(5 * HOP + 30)
    came = [(t, len(stream.push(sample))) for t, sample in enumerate(waveform.split(1))]
    assert [(sample, m) for sample, m in came if m] == [(160 * t + 319, 1) for t in range(4)]
    assert len(stream.flush()) == 1


def test_what_comes_out_does_not_depend_on_what_comes_later() -> None:
    model, waveform = network(), noise(3200)
    stream = Stream(CPCFrames("x", model, precision="fp32"))
    frames = stream.push(waveform)
    assert len(frames) == 19
    longer = torch.cat((waveform, noise(800)))
    torch.testing.assert_close(frames, whole(model, longer, "c")[:19], rtol=0, atol=1e-5)


def test_memory_is_bounded() -> None:
    stream = Stream(CPCFrames("x", network()))
    for _ in range(50):
        stream.push(noise(1234))
        assert len(stream._waiting) < 3 * HOP


def test_numpy_and_wrong_shapes() -> None:
    stream = Stream(CPCFrames("x", network()))
    assert len(stream.push(noise(1600).numpy())) == 9
    with pytest.raises(ValueError, match="one channel"):
        stream.push(torch.zeros(2, 160))
    with pytest.raises(ValueError, match=r"in floats, not \(160,\) in torch.int16"):
        stream.push(torch.full((160,), 20000, dtype=torch.int16).numpy())
    assert len(stream.push(noise(160).double().numpy())) == 1  # and nothing of these was taken
    with pytest.raises(ValueError, match="window_samples"):
        Stream(CPCFrames("x", network(), window_samples=1600))


def test_bf16_rounds_and_no_more() -> None:
    """The encoder's factors keep 8 bits of their mantissa through five layers; values below about 1."""
    model, waveform = network(), noise(3200)
    frames = torch.cat(streamed(Stream(CPCFrames("x", model, precision="bf16")), waveform, 1000))
    difference = (frames - whole(model, waveform, "c")).abs().max()
    assert 0 < difference < 0.1
