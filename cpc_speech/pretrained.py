"""Pretrained models: found where they are, whatever wrote them, and made ready to encode; see ``cpc_speech.load``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cpc_speech import checkpoint
from cpc_speech.errors import UserError
from cpc_speech.model import CPC, HOP
from cpc_speech.packed import SAMPLE_RATE
from cpc_speech.representations import CPCFrames
from cpc_speech.streaming import Stream


class Pretrained(nn.Module):
    """A network in evaluation mode, and what of it is wanted.

    ``representation`` is the same as the rest of the suite knows it (``cpc_speech.representations``): a list of
    waveforms of any lengths in, a list of frames out. ``model`` is the network, for those who train it further.

    Args:
        layer: ``c``, ``z``, or ``c1``, ``c2``, ... for a layer of the context.
        precision: ``fp32`` or ``bf16``.
    """

    sample_rate = SAMPLE_RATE  # Hz
    hop = HOP  # samples a frame

    def __init__(self, model: CPC, layer: str = "c", precision: str = "fp32") -> None:
        super().__init__()
        self.representation = CPCFrames(layer, model, layer, bf16=precision == "bf16")
        self.model = self.representation.model
        self.name, self.dim = self.representation.name, self.representation.dim
        self.eval()

    def encode(self, waveform: Tensor) -> Tensor:
        """Waveform (n,) or waveforms (B, n) of 16 kHz in [−1, 1] → (n // 160, dim) or (B, n // 160, dim), float32,
        where the network is (``.to("cuda")``), without gradients. Waveforms of several lengths want ``representation``:
        padding changes the last frames."""
        if waveform.dim() == 1:
            return self.representation([waveform])[0]
        if waveform.dim() != 2:
            raise ValueError(f"a waveform is (n,) or (B, n), not {tuple(waveform.shape)}")
        return torch.stack(self.representation(list(waveform)))

    forward = encode

    def stream(self) -> Stream:
        """For audio that is still being recorded: see ``cpc_speech.streaming``."""
        return Stream(self.representation)


class Source(NamedTuple):
    """A model that was read, in evaluation mode; ``facts`` say where it comes from, as plain values for JSON."""

    model: CPC
    facts: dict[str, Any]


def read(source: str | Path, which: str = "last") -> Source:
    """The network of ``source``, with its predictors where it has them; the arguments are ``cpc_speech.load``'s."""
    path = Path(source)
    if (path / "config.yaml").exists():
        config, model, updates = checkpoint.load_experiment(path, which)
        return Source(model, {"experiment": path.resolve().name, "updates": updates})
    raise UserError(f"{source}: no experiment")
