"""Pretrained models: read from wherever they are, whatever wrote them, and ready to encode; see ``cpc_speech.load``."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cpc_speech.checkpoint import load_experiment
from cpc_speech.config import check
from cpc_speech.cpc_audio import load_cpc_audio
from cpc_speech.errors import UserError, require
from cpc_speech.exported import CONFIG, WEIGHTS, load_exported
from cpc_speech.model import CPC, HOP
from cpc_speech.packed import SAMPLE_RATE
from cpc_speech.representations import CPCFrames
from cpc_speech.streaming import Stream


class Pretrained(nn.Module):
    """A network in evaluation mode, and the layer of it that is wanted.

    ``representation`` is the same in the interface of ``cpc_speech.representations``, which the rest of the suite uses:
    a list of waveforms of any lengths in, a list of frames out. ``model`` is the network, for those who train it
    further.

    Args:
        layer: ``c``, ``z``, ``both`` (z and c side by side), or ``c1``, ``c2``, ... for a layer of the context.
        precision: ``fp32``, ``bf16``, or ``auto``: bf16 where the device multiplies it natively.
    """

    sample_rate = SAMPLE_RATE  # Hz
    hop = HOP  # samples a frame

    def __init__(self, model: CPC, layer: str = "c", precision: str = "auto") -> None:
        super().__init__()
        check("precision", precision)
        self.representation = CPCFrames(layer, model, layer, precision=precision)
        self.model = self.representation.model
        self.name, self.dim = self.representation.name, self.representation.dim
        self.eval()

    def encode(self, waveform: Tensor) -> Tensor:
        """Waveform (n,) or waveforms (B, n) of 16 kHz in [−1, 1] → (n // 160, dim) or (B, n // 160, dim), float32,
        on the network's device (``.to("cuda")``), without gradients. Waveforms of several lengths need
        ``representation``, since padding changes the last frames.

        Raises:
            ValueError: it has another shape, or holds integers, whose scale is not known.
        """
        if waveform.dim() not in (1, 2) or not waveform.is_floating_point():
            raise ValueError(f"a waveform is (n,) or (B, n) in floats, not {tuple(waveform.shape)} in {waveform.dtype}")
        frames = self.representation(list(waveform.float() if waveform.dim() == 2 else waveform.float()[None]))
        return frames[0] if waveform.dim() == 1 else torch.stack(frames)

    forward = encode

    def stream(self) -> Stream:
        """For audio that is still being recorded: see ``cpc_speech.streaming``."""
        return Stream(self.representation)


class Source(NamedTuple):
    """A network that was read, in evaluation mode, with its predictors where it has them; ``facts`` say where it comes
    from, as plain values for JSON."""

    model: CPC
    facts: dict[str, Any]


def read_model(source: str | Path, which: str = "last") -> Source:
    """The model at ``source``; arguments and errors are those of ``cpc_speech.load``."""
    if which not in ("last", "best"):
        raise UserError(f"{which}: the checkpoint of an experiment is last or best")
    path = Path(source)
    if (path / "config.yaml").exists() or (path / "checkpoints").exists():
        return _experiment(path, which)
    if which == "best":
        raise UserError(f"{source}: only an experiment has a best checkpoint, and this is not one")
    if (path / WEIGHTS).exists() or (path / CONFIG).exists() or path.suffix == ".safetensors":
        return Source(*load_exported(path))
    if path.is_dir():
        raise UserError(
            f"{source}: holds neither an experiment (config.yaml, checkpoints/) nor an exported model ({CONFIG}, "
            f"{WEIGHTS}); of another project's training, name a checkpoint"
        )
    if path.exists():
        return Source(*load_cpc_audio(path))
    if re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", str(source)):
        return Source(*load_exported(_from_hub(str(source))))
    raise UserError(f"{source}: there is no such file or folder, and it is not an owner/name on the Hugging Face Hub")


def _experiment(exp: Path, which: str) -> Source:
    config, model, updates = load_experiment(exp, which)
    facts = {"experiment": exp.resolve().name, "which": which, "updates": updates, "config": asdict(config)}
    summary = exp / "train.json"
    if summary.exists():
        try:
            facts["training"] = json.loads(summary.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{summary}: is not JSON ({error}); copy it anew, or remove it") from error
    return Source(model, facts)


def _from_hub(name: str) -> Path:
    """The folder of this model in the Hub's own cache; fetched if it is not there."""
    try:
        hub = require("huggingface_hub", "hub")
    except UserError as error:
        raise UserError(
            f"{name}: there is no such file or folder; as a name on the Hugging Face Hub, {error}"
        ) from None
    repository, _, revision = name.partition("@")
    try:
        return Path(hub.snapshot_download(repository, revision=revision or None, allow_patterns=[WEIGHTS, CONFIG]))
    except Exception as error:  # what its client raises is not one type, and not the same in all versions
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{name}: is not a file or folder here, and cannot be had from the Hub ({reason})") from error
