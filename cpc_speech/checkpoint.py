"""Checkpoints of an experiment: atomic, loaded without unpickling, the last few and the best kept, damaged ones
passed over."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cpc_speech.config import ARCHITECTURE, Config, check, load_config
from cpc_speech.errors import UserError
from cpc_speech.files import atomic_write
from cpc_speech.machine import CPU, resolve
from cpc_speech.model import CPC

log = logging.getLogger(__name__)


def build_model(config: Config) -> CPC:
    """An untrained model, its initialisation decided by the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return CPC(**config.architecture)


def digest_of(model: CPC) -> str:
    """SHA-256 of the network that frames come from, independent of the file that held it."""
    shape = {key: value for key, value in model.architecture.items() if key != "steps"}
    digest = hashlib.sha256(repr(sorted(shape.items())).encode())
    for part in (model.encoder, model.context):
        for name, tensor in sorted(part.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def restore(architecture: Mapping[str, Any], weights: Mapping[str, Tensor], source: str | Path) -> CPC:
    """A model with these weights, in evaluation mode; float32 tensors are taken over as they are, others converted.

    Args:
        architecture: the arguments of ``CPC``, all of them.
        source: where both come from, for messages.

    Raises:
        UserError: the arguments do not describe a network, or the weights are not those of the network described.
    """
    if set(architecture) != set(ARCHITECTURE):
        raise UserError(f"{source}: describes a network by {', '.join(architecture)}, not {', '.join(ARCHITECTURE)}")
    for key, value in architecture.items():
        if (key, value) != ("steps", 0):
            try:
                check(key, value)
            except UserError as error:
                raise UserError(f"{source}: {error}") from error
    with torch.device("meta"):  # only the shape is wanted
        model = CPC(**architecture)
    due = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    wrong = [f"{name} is missing" for name in due if name not in found]
    wrong += [f"{name} is not of this network" for name in found if name not in due]
    wrong += [f"{name} is {found[name]}, not {due[name]}" for name in due if found.get(name, due[name]) != due[name]]
    wrong += [f"{name} is {weight.dtype}" for name, weight in weights.items() if not weight.is_floating_point()]
    if wrong:
        more = f"; and {len(wrong) - 6} more" if len(wrong) > 6 else ""
        raise UserError(f"{source}: not the weights of the network it describes: {'; '.join(wrong[:6])}{more}")
    model.load_state_dict({name: weight.float() for name, weight in weights.items()}, assign=True)
    return model.eval()


def save(exp: Path, state: dict[str, Any], keep: int) -> Path:
    """Write ``state`` (tensors and plain Python; ``state["update"]`` names it) and remove all but the last ``keep``."""
    path = exp / "checkpoints" / f"update-{state['update']:08d}.pt"
    _write(path, state)
    for stray in path.parent.glob("*.tmp.*"):  # half written, when a run was killed
        stray.unlink()
    paths = _newest_first(exp)
    for old in [p for p in paths if p.name > path.name] + [p for p in paths if p.name <= path.name][keep:]:
        old.unlink()  # one newer than what was just saved was damaged: the run went back to an earlier one
    return path


def save_if_best(exp: Path, model: CPC, update: int, dev_loss: float) -> None:
    """Write ``checkpoints/best.pt`` where no earlier update had a lower loss on dev, in nats.

    What counts is the loss in the file, so a resumed run that repeats the same update changes nothing.
    """
    path = _best(exp)
    best = _read(path)
    if math.isfinite(dev_loss) and (best is None or dev_loss < best["dev_loss"]):
        _write(path, {"model": model.state_dict(), "update": update, "dev_loss": dev_loss})


def newest_update(exp: Path) -> int:
    """The update after which a state was last saved, by its file's name; 0 where there is none."""
    return max((int(path.stem.rpartition("-")[2]) for path in _newest_first(exp)), default=0)


def load_latest(exp: Path) -> dict[str, Any] | None:
    """The newest state that can be read, or None where there is none; damaged ones are warned of and passed over.

    Raises:
        UserError: there are checkpoints, and all of them are damaged.
    """
    paths = _newest_first(exp)
    for path in paths:
        if (state := _read(path)) is not None:
            return state
        log.warning("taking the checkpoint before it")
    if paths:
        raise UserError(f"{exp}/checkpoints: none of {len(paths)} checkpoints can be read; remove them to start anew")
    return None


def _write(path: Path, state: dict[str, Any]) -> None:
    with atomic_write(path, "wb") as file:
        torch.save(state, file)


def _read(path: Path) -> dict[str, Any] | None:
    """What was saved; None where there is nothing or, with a warning, where it is damaged or somebody else's."""
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # what a truncated zip or a foreign file raises is not one type, and may advise to unpickle it
        state = None
    if isinstance(state, dict) and isinstance(state.get("update"), int) and isinstance(state.get("model"), dict):
        if all(isinstance(weight, Tensor) for weight in state["model"].values()):
            return state
    log.warning("%s cannot be read: it is damaged, or not a checkpoint of this program", path)
    return None


def load_experiment(exp: str | Path, which: str = "last") -> tuple[Config, CPC, int]:
    """Configuration, model in evaluation mode, and number of updates of a pretraining experiment.

    Args:
        which: ``last``, or ``best`` by the loss on dev.
    """
    exp = Path(exp)
    state = _read(_best(exp)) if which == "best" else load_latest(exp)
    if state is None:
        kind = "best checkpoint" if which == "best" else "checkpoint"
        raise UserError(f"{exp}: holds no {kind}; name an experiment that stage 4 has pretrained")
    config = load_config([exp / "config.yaml"])
    return config, restore(config.architecture, state["model"], exp), int(state["update"])


def settle_config(exp: Path, config: Config, device: torch.device = CPU) -> Config:
    """Write ``exp/config.yaml``, or check that a run to be resumed goes on as it began; returns what is in it.

    ``precision: auto`` becomes what it means on ``device`` or, in a run to be resumed, what it was when that began.

    Raises:
        UserError: the experiment was begun with other values; every one is named.
    """
    path = exp / "config.yaml"
    if not path.exists():
        config = dataclasses.replace(config, precision=resolve(config.precision, device))
        with atomic_write(path) as file:
            file.write(config.dump())
        return config
    begun = load_config([path])  # an older file lacks later keys
    config = config.settled_as(begun)
    before, now = dataclasses.asdict(begun), dataclasses.asdict(config)
    may_change = {"log_every", "dev_every", "checkpoint_every", "keep_checkpoints"}
    changed = [f"{key} {before[key]!r} → {now[key]!r}" for key in now if before[key] != now[key]]
    if [change for change in changed if change.split()[0] not in may_change]:
        raise UserError(
            f"{exp} was begun with another configuration ({'; '.join(changed)}); take another --exp or remove it"
        )
    return config


def _best(exp: Path) -> Path:
    return exp / "checkpoints" / "best.pt"


def _newest_first(exp: Path) -> list[Path]:
    return sorted((exp / "checkpoints").glob("update-*.pt"), reverse=True)
