"""Checkpoints of facebookresearch/CPC_audio (Rivière, Joulin, Mazaré, Dupoux 2020), such as the one published with
Libri-light, which was trained on 60,000 hours.

Its network is this one's: the same five convolutions, then a GRU or LSTM. Its "layerNorm" divides by the unbiased
variance over the channels, v d / (d − 1) for d channels where LayerNorm has v, and
    w / √(v d / (d − 1) + ε) = w √((d − 1) / d) / √(v + ε (d − 1) / d),
so that a LayerNorm with this gain and this epsilon is the same function.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cpc_speech.checkpoint import restore
from cpc_speech.errors import UserError
from cpc_speech.files import sha256
from cpc_speech.model import CPC

_EPSILON = 1e-5  # of its normalisation; no option
# The options that decide what the network is: default, and the values that are supported here; None: any number.
_OPTIONS: dict[str, tuple[Any, tuple[Any, ...] | None]] = {
    "hiddenEncoder": (256, None),
    "hiddenGar": (256, None),
    "nLevelsGRU": (1, None),
    "encoder_type": ("cpc", ("cpc",)),
    "normMode": ("layerNorm", ("layerNorm",)),
    "arMode": ("LSTM", ("GRU", "LSTM")),
    "cpc_mode": (None, (None, "none")),
}


def load_cpc_audio(path: Path) -> tuple[CPC, dict[str, Any]]:
    """Model without predictors, in evaluation mode, and where it comes from.

    Two kinds of file are read: the published one, which holds ``config`` and ``weights``, and what its training leaves,
    which holds ``gEncoder`` and has ``checkpoint_args.json`` beside it. Nothing in them is executed.

    Raises:
        UserError: it is neither, or a network that is not supported here; the option or the weights are named.
    """
    given, weights = _open(path)
    options = {name: given.get(name, default) for name, (default, _) in _OPTIONS.items()}
    for name, (_, modelled) in _OPTIONS.items():
        value = options[name]
        if modelled is None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UserError(f"{path}: its option {name} is {value!r}, not a positive whole number")
        if modelled is not None and value not in modelled:
            known = " and ".join(map(repr, modelled))
            raise UserError(f"{path}: its option {name} is {value!r}; only {known} can be read here")
    channels, layers = options["hiddenEncoder"], options["nLevelsGRU"]
    biased = (channels - 1) / channels
    architecture = {
        "channels": channels, "norm_epsilon": _EPSILON * biased, "context_dim": options["hiddenGar"],
        "recurrence": options["arMode"].lower(), "context_layers": layers, "steps": 0,
    }  # fmt: skip
    model = restore(architecture, _renamed(weights, layers, math.sqrt(biased), path), path)
    return model, {"cpc_audio": path.name, "sha256": sha256(path), "options": options}


def _open(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The options and the weights of a checkpoint, under its own names."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # a bag of options, of plain values in its turn
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a truncated zip or a foreign file raises is not one type
        if named := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{path}: holds {named[1]}, neither weight nor option, and is not loaded: unpickling it could run code"
            ) from error
        raise UserError(f"{path}: is not a checkpoint that torch can read, or is damaged; copy it anew") from error
    state = state if isinstance(state, dict) else {}
    if "weights" in state and "config" in state:
        options, weights = state["config"], state["weights"]
        options = vars(options) if isinstance(options, argparse.Namespace) else options
    elif "gEncoder" in state:
        options, weights = _options_beside(path), state["gEncoder"]
    else:
        remedy = "name the experiment's folder, not its checkpoint" if "model" in state else "take another file"
        raise UserError(f"{path}: is not a checkpoint of CPC_audio, which has 'config' and 'weights'; {remedy}")
    if not isinstance(options, dict) or not isinstance(weights, dict):
        raise UserError(f"{path}: its options or its weights are not a table; take another file")
    if strange := [name for name, weight in weights.items() if not isinstance(weight, Tensor)]:
        raise UserError(f"{path}: its weights {', '.join(map(str, strange))} are not tensors; take another file")
    return options, weights


def _options_beside(path: Path) -> Any:
    arguments = path.with_name("checkpoint_args.json")
    try:
        return json.loads(arguments.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{arguments}: cannot be read ({error}); it says what network {path.name} is") from error


def _renamed(weights: Mapping[str, Tensor], layers: int, gain: float, path: Path) -> dict[str, Tensor]:
    """The weights under the names of ``CPC``, normalisation's multiplied by ``gain``."""
    weights = {name.removeprefix("module."): weight for name, weight in weights.items()}
    names = {
        f"gEncoder.{theirs}{i}.{kind}": f"encoder.layers.{i}.{ours}.{kind}"
        for i in range(5)
        for theirs, ours in (("conv", "conv"), ("batchNorm", "norm"))
        for kind in ("weight", "bias")
    }
    names |= {
        f"gAR.baseNet.{kind}_l{layer}": f"context.rnn.{kind}_l{layer}"
        for layer in range(layers)
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    wrong = [f"{name} is missing" for name in names if name not in weights]
    wrong += [f"{name} is not of this network" for name in weights if name not in names]
    if wrong:
        raise UserError(f"{path}: not the weights of the network that its options describe: {'; '.join(wrong)}")
    renamed = {}
    for theirs, ours in names.items():
        weight = weights[theirs]
        if ".batchNorm" in theirs:  # (1, C, 1)
            weight = weight.flatten() * (gain if theirs.endswith("weight") else 1)
        renamed[ours] = weight
    return renamed
