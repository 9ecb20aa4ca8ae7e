"""What a frame is represented by: c_t, z_t, MFCC, ... behind one interface.

A representation maps a batch of waveforms to frames, one per ``HOP`` samples: utterance of n samples →
(n // 160, D). Frame t is centred on sample 160·t + 79 (CPC) or 160·t + 80 (MFCC).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torchaudio
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cpc_speech.checkpoint import build_model, load_experiment
from cpc_speech.config import load_config
from cpc_speech.errors import UserError
from cpc_speech.machine import autocast, resolve, set_up
from cpc_speech.model import CPC, HOP, State
from cpc_speech.processes import alone

REPRESENTATIONS = ("c", "z", "random", "mfcc", "mfcc39", "fbank")


class Representation(Protocol):
    """``dim`` values for each frame of ``hop`` samples."""

    name: str
    hop: int
    dim: int

    def __call__(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Waveforms (n_i,) of 16 kHz in [−1, 1] → frames (n_i // hop, dim), float32."""
        ...


class MFCC:
    """Kaldi's mel-frequency cepstra, 13 a frame; with their first and second differences 39.

    The 13 are Kaldi's default; the paper does not give its dimension. Windows are centred on their frame
    (``snip_edges=False``), so that they fit the labels as CPC's frames do, and nothing is dithered.
    """

    hop = HOP

    def __init__(self, deltas: bool = False) -> None:
        self.deltas = deltas
        self.name, self.dim = ("mfcc39", 39) if deltas else ("mfcc", 13)

    def __call__(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        return _of_each(self._mfcc, waveforms, self.dim)

    def _mfcc(self, waveform: Tensor) -> Tensor:
        cepstra = _by_kaldi("mfcc", waveform, num_ceps=13)
        if self.deltas:
            first = torchaudio.functional.compute_deltas(cepstra.t())
            second = torchaudio.functional.compute_deltas(first)
            cepstra = torch.cat((cepstra, first.t(), second.t()), dim=1)
        return cepstra


class LogMel:
    """Kaldi's log-mel filterbank, 80 a frame, as ESPnet's and icefall's recipes have it; framed as ``MFCC``."""

    name, hop, dim = "fbank", HOP, 80

    def __call__(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        return _of_each(lambda waveform: _by_kaldi("fbank", waveform, num_mel_bins=self.dim), waveforms, self.dim)


def _of_each(compute: Callable[[Tensor], Tensor], waveforms: Sequence[Tensor], dim: int) -> list[Tensor]:
    """``compute`` of each waveform; no frames of one that is shorter than a frame."""
    return [compute(waveform) if len(waveform) >= HOP else torch.empty(0, dim) for waveform in waveforms]


def _by_kaldi(function: str, waveform: Tensor, **options: int) -> Tensor:
    """Waveform (n,) of at least a frame → features (n // 160, D), by one of torchaudio's functions after Kaldi."""
    from torchaudio.compliance import kaldi

    samples = waveform.cpu()[None] * 32768  # Kaldi's scale
    if samples.shape[1] < 400:  # torchaudio wants a whole window: mirror, as Kaldi does at the edges
        samples = torch.cat([samples, samples.flip(1)] * (400 // samples.shape[1] + 1), dim=1)[:, :400]
    frames = getattr(kaldi, function)(samples, snip_edges=False, dither=0.0, **options)
    return frames[: len(waveform) // HOP]


class CPCFrames:
    """c_t, z_t or both of a CPC model.

    Args:
        name: as reported, e.g. ``c`` or ``random``.
        model: the network, trained or not.
        layer: ``c``; ``z``; ``both``, z and c side by side; or ``c1``, ``c2``, ... for the output of that layer of the
            context, the last being ``c``.
        window_samples: None carries the context through the utterance; a number starts it afresh, and the
            encoder's padding with it, every so many samples, as in pretraining.
        precision: of the encoder's products, as ``machine.resolve`` takes it; the recurrence is fp32.

    Raises:
        UserError: the network has no such layer.
    """

    hop = HOP

    def __init__(
        self,
        name: str,
        model: CPC,
        layer: str = "c",
        window_samples: int | None = None,
        precision: str = "auto",
    ) -> None:
        rnn = model.context.rnn
        layers = ["z", "c", "both", *(f"c{depth}" for depth in range(1, rnn.num_layers + 1))]
        if layer not in layers:
            raise UserError(f"layer {layer!r}: the network has {', '.join(layers)}")
        if layer[1:].isdecimal():
            model, layer = model.truncated(int(layer[1:])), "c"
        self.name, self.model, self.window_samples = name, model.eval(), window_samples
        self.precision = precision
        self.layer = layer
        self.dim = (layer != "c") * model.encoder.channels + (layer != "z") * rnn.hidden_size

    @torch.no_grad()
    def __call__(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        cut = [self._pieces(waveform) for waveform in waveforms]
        pieces = sum(cut, [])
        frames = iter(self._frames(pieces) if pieces else [])
        none = torch.empty(0, self.dim, device=next(self.model.parameters()).device)
        return [torch.cat([next(frames) for _ in parts]) if parts else none for parts in cut]

    def _pieces(self, waveform: Tensor) -> list[Tensor]:
        """The parts of a waveform that the network hears by themselves; none of what is shorter than a frame."""
        if len(waveform) < HOP:
            return []
        if self.window_samples is None:
            return [waveform]
        return list(waveform[: len(waveform) // HOP * HOP].split(self.window_samples))

    def _frames(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        device = next(self.model.parameters()).device
        with autocast(self.precision, device):
            # One by one: at an utterance's end every convolution pads its own input, which no batch padding equals.
            matrices = self.model.encoder.matrices()
            z = [self.model.encoder.long(waveform.to(device), matrices) for waveform in waveforms]
            # The recurrence looks back only: what is padded behind an utterance cannot change it.
            frames = self.of_encoded(pad_sequence(z, batch_first=True))[0]
        return [frames[i, : len(own)] for i, own in enumerate(z)]

    def of_encoded(self, z: Tensor, state: State | None = None) -> tuple[Tensor, State | None]:
        """z (B, T, C), the recurrence's state before it → frames (B, T, D) float32, the state after it."""
        if self.layer == "z":
            return z.float(), None
        c, state = self.model.context(z, state)
        return c if self.layer == "c" else torch.cat((z.float(), c), -1), state


def make_representation(
    name: str, exp: Path, config_files: list[str], context: str
) -> tuple[Representation, dict[str, Any]]:
    """The representation of this name, and the facts about it that stand in results.

    Args:
        name: one of ``REPRESENTATIONS``.
        exp: the experiment whose network it is; of ``c`` and ``z``.
        config_files: of the untrained network, ``random``.
        context: ``utterance``, or ``window`` to begin afresh every window.

    Raises:
        UserError: the experiment holds no checkpoint, or an argument is missing or means nothing here.
    """
    if name in ("mfcc", "mfcc39", "fbank"):
        if context == "window":
            raise UserError(f"--probe-context window: frames of {name} carry no context; leave it out")
        return LogMel() if name == "fbank" else MFCC(deltas=name == "mfcc39"), {}
    if name == "random":
        if not config_files:
            raise UserError("--representation random needs --config, the network it is")
        config = load_config(config_files)
        model, updates = build_model(config), 0
    else:
        config, model, updates = load_experiment(exp)
    device = alone().device
    set_up("auto", device)
    model.to(device)
    window = config.window_samples if context == "window" else None
    frames = CPCFrames(name, model, "z" if name == "z" else "c", window)
    config = dataclasses.replace(config, precision=resolve(config.precision, device))
    facts = {"updates": updates, "seed": config.seed, "config": dataclasses.asdict(config)}
    # The network may have been trained in another precision, on another machine.
    return frames, {**facts, "precision": resolve(frames.precision, device)}
