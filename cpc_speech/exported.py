"""Exported models on disk: ``model.safetensors``, the weights, and ``config.json``, what they are. No pickle.

config.json holds ``model_type`` (cpc-speech), ``format_version``, ``sample_rate`` (Hz), ``hop`` (samples a frame),
``architecture`` (the arguments of ``cpc_speech.model.CPC``), ``sha256`` of the weights' file, and ``provenance``.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from cpc_speech.checkpoint import restore
from cpc_speech.errors import UserError
from cpc_speech.files import atomic_write
from cpc_speech.model import CPC, HOP
from cpc_speech.packed import SAMPLE_RATE

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_MODEL_TYPE, _VERSION = "cpc-speech", 1


def save_exported(folder: Path, model: CPC, provenance: dict[str, Any]) -> None:
    """Write both files. A kill in between leaves two that do not belong together, which loading detects."""
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
    content = save_tensors(weights, metadata={"format": "pt"})  # as the Hub's own tools expect
    with atomic_write(folder / WEIGHTS, "wb") as file:
        file.write(content)
    config = {
        "model_type": _MODEL_TYPE, "format_version": _VERSION, "sample_rate": SAMPLE_RATE, "hop": HOP,
        "architecture": model.architecture, "sha256": hashlib.sha256(content).hexdigest(), "provenance": provenance,
    }  # fmt: skip
    with atomic_write(folder / CONFIG) as file:
        json.dump(config, file, indent=1, ensure_ascii=False)


def load_exported(path: Path) -> tuple[CPC, dict[str, Any]]:
    """Model, in evaluation mode, and provenance, of a folder or of its .safetensors file.

    Raises:
        UserError: a file is missing, damaged, another project's, or of a later version of this one; it is named.
    """
    path = path if path.suffix == ".safetensors" else path / WEIGHTS
    config = _read_config(path.with_name(CONFIG))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); copy or export the model anew") from error
    if hashlib.sha256(content).hexdigest() != config["sha256"]:
        raise UserError(
            f"{path}: is not the file that {CONFIG} beside it was written for, but damaged, of another export, or a "
            "Git LFS pointer; copy or export the model anew"
        )
    try:
        weights = load_tensors(content)
    except SafetensorError as error:
        raise UserError(f"{path}: is not a safetensors file ({error}); copy or export the model anew") from error
    return restore(config["architecture"], weights, path), config["provenance"]


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); it belongs beside the weights and says what they are"
        ) from error
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error}); copy or export the model anew") from error
    if not isinstance(config, dict) or config.get("model_type") != _MODEL_TYPE:
        raise UserError(f"{path}: does not describe a model of this project (its model_type is not {_MODEL_TYPE})")
    version = config.get("format_version")
    if version != _VERSION:
        raise UserError(f"{path}: has format_version {version}, and {_VERSION} is known here; update cpc-speech")
    kinds = {"architecture": dict, "sha256": str, "provenance": dict}
    if wrong := [key for key, kind in kinds.items() if not isinstance(config.get(key), kind)]:
        raise UserError(f"{path}: lacks {' and '.join(wrong)}; copy or export the model anew")
    if (config.get("sample_rate"), config.get("hop")) != (SAMPLE_RATE, HOP):
        raise UserError(f"{path}: is of {config.get('sample_rate')} Hz and {config.get('hop')} samples a frame, "
                        f"not {SAMPLE_RATE} and {HOP}")  # fmt: skip
    return config
