"""The flat configuration of a pretraining run: defaults are the paper's, files and ``key=value`` override them."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cpc_speech.errors import UserError

# The keys that say which network it is: the arguments of model.CPC.
ARCHITECTURE = ("channels", "norm_epsilon", "context_dim", "recurrence", "context_layers", "steps")
CHOICES: dict[str, tuple[str, ...]] = {
    "recurrence": ("gru", "lstm"),
    "batch_composition": ("mixed_speaker", "same_speaker"),
    "candidates": ("minibatch", "other_windows", "current_window"),
    "precision": ("auto", "bf16", "fp32"),
    "pretrain_on": ("train", "all"),
}


@dataclass(frozen=True)
class Config:
    """Every key of ``conf/cpc.yaml``; ``recipes/librispeech100/conf/cpc.yaml`` explains each where it is set.

    Lengths are in samples of 16 kHz audio, counts of windows are per minibatch, intervals are in updates.
    """

    channels: int = 512
    norm_epsilon: float = 1e-5
    context_dim: int = 256
    recurrence: str = "gru"
    context_layers: int = 1
    steps: int = 12
    window_samples: int = 20480
    windows: int = 8
    batch_composition: str = "mixed_speaker"
    candidates: str = "minibatch"
    negatives: int | str = "all"
    updates: int = 300_000
    minibatches: int = 8
    learning_rate: float = 2e-4
    final_learning_rate: float = 2e-4
    warmup_updates: int = 0
    seed: int = 0
    precision: str = "auto"
    pretrain_on: str = "train"
    log_every: int = 20
    dev_every: int = 1000
    dev_minibatches: int = 16
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check(field.name, getattr(self, field.name))
        if self.window_samples % 160:
            raise UserError(f"window_samples: {self.window_samples} is not a multiple of 160, the encoder's hop")
        if self.steps >= self.frames:
            raise UserError(f"steps: {self.steps} does not fit a window of {self.frames} frames; take fewer steps")
        if self.candidates == "other_windows" and self.windows < 2:
            raise UserError("windows: candidates 'other_windows' need at least two windows in a minibatch")

    @property
    def frames(self) -> int:
        """Frames in a window."""
        return self.window_samples // 160

    @property
    def architecture(self) -> dict[str, Any]:
        """The values that say which network it is: the arguments of ``model.CPC``."""
        return {key: getattr(self, key) for key in ARCHITECTURE}

    @property
    def num_candidates(self) -> int:
        """N of log N: the positive and its negatives."""
        if self.negatives != "all":
            return int(self.negatives) + 1
        return {
            "minibatch": self.windows * self.frames,
            "other_windows": (self.windows - 1) * self.frames + 1,
            "current_window": self.frames,
        }[self.candidates]

    def settled_as(self, begun: Config) -> Config:
        """This configuration, with ``precision: auto`` replaced by what it was for ``begun``."""
        return dataclasses.replace(self, precision=begun.precision) if self.precision == "auto" else self

    def dump(self) -> str:
        """The configuration as YAML, keys in the order they are declared."""
        return yaml.safe_dump(dataclasses.asdict(self), sort_keys=False)


_DEFAULTS: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(Config)}
_MAY_BE_ZERO = ("seed", "warmup_updates", "final_learning_rate")


def check(key: str, value: Any) -> None:
    """Refuse a value that the key cannot have, whatever the other keys' values are.

    Raises:
        UserError: it has another type, or is out of range.
    """
    default = _DEFAULTS[key]
    if key in CHOICES:
        if value not in CHOICES[key]:
            raise UserError(f"{key}: {value!r} is none of {', '.join(CHOICES[key])}")
    elif key == "negatives" and value == "all":
        pass
    else:
        kind = float if isinstance(default, float) else int
        numeric = (int, float) if kind is float else int
        if isinstance(value, bool) or not isinstance(value, numeric):
            expected = (
                "'all' or a whole number" if key == "negatives" else "a number" if kind is float else "a whole number"
            )
            raise UserError(f"{key}: {value!r} is not {expected}")
        if not math.isfinite(value):
            raise UserError(f"{key}: {value} is not finite")
        if value < 0 or (value == 0 and key not in _MAY_BE_ZERO):
            raise UserError(f"{key}: {value} is too small")


def _known(settings: Mapping[str, Any], source: str) -> dict[str, Any]:
    for key in settings:
        if key not in _DEFAULTS:
            near = difflib.get_close_matches(str(key), _DEFAULTS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(_DEFAULTS)}"
            raise UserError(f"{source}: unknown key {key!r}; {hint}")
    return {key: _number(value) if key not in CHOICES else value for key, value in settings.items()}


def _number(value: Any) -> Any:
    """YAML 1.1 reads 2e-4 as a string: take it as the number it is."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def load_config(files: Iterable[str | Path], overrides: Iterable[str] = ()) -> Config:
    """Read YAML files, later ones over earlier ones, then ``key=value`` strings over both.

    Raises:
        UserError: a file is missing or is no mapping, a key is unknown (the nearest is named), a value is wrong.
    """
    settings: dict[str, Any] = {}
    for file in files:
        try:
            content = yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror}); name an existing configuration") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{file}: not valid YAML ({error})") from error
        if not isinstance(content, dict):
            raise UserError(f"{file}: holds no 'key: value' lines")
        settings |= _known(content, str(file))
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise UserError(f"{override}: write it as key=value")
        try:
            settings |= _known({key: yaml.safe_load(value)}, override)
        except yaml.YAMLError as error:
            raise UserError(f"{override}: the value is not valid YAML ({error})") from error
    return Config(**settings)
