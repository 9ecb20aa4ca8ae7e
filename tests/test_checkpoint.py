"""Checkpoints: damage, retention, and which runs may be resumed."""

from __future__ import annotations

import dataclasses
import errno
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cpc_speech import checkpoint, machine
from cpc_speech.config import Config
from cpc_speech.errors import UserError
from cpc_speech.model import CPC

NAN = float("nan")
TINY = Config(channels=4, context_dim=4, steps=2, window_samples=1600, windows=2, seed=3, precision="fp32")


def state(update: int) -> dict[str, Any]:
    return {"update": update, "model": {"w": torch.full((50,), float(update))}, "note": "plain Python"}


def names(exp: Path) -> list[str]:
    return sorted(path.name for path in (exp / "checkpoints").iterdir())


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_newest_is_loaded_and_the_last_few_are_kept(tmp_path: Path) -> None:
    assert checkpoint.load_latest(tmp_path) is None
    for update in (5, 10, 15, 99_999_999):
        checkpoint.save(tmp_path, state(update), keep=10)
    loaded = checkpoint.load_latest(tmp_path)
    assert loaded is not None and loaded["update"] == 99_999_999
    assert torch.equal(loaded["model"]["w"], torch.full((50,), 99_999_999.0))


def test_keep(tmp_path: Path) -> None:
    for update in (5, 10, 15, 20):
        path = checkpoint.save(tmp_path, state(update), keep=2)
    assert names(tmp_path) == ["update-00000015.pt", "update-00000020.pt"] and path.name == names(tmp_path)[-1]


def holds(content: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


@pytest.mark.parametrize(
    "damage",
    [
        truncate, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"nonsense" * 99),
        holds([1, 2]), holds({"update": 10}), holds({"model": {}}), holds({"update": 10, "model": {"w": 1.0}}),
        holds({"update": 10, "model": {}, "code": Path()}),
    ],
)  # fmt: skip
def test_damaged_newest_falls_back_with_a_warning(
    tmp_path: Path, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint.save(tmp_path, state(5), keep=2)
    damage(checkpoint.save(tmp_path, state(10), keep=2))
    with caplog.at_level(logging.WARNING):
        loaded = checkpoint.load_latest(tmp_path)
    assert loaded is not None and loaded["update"] == 5
    assert "update-00000010.pt cannot be read: it is damaged, or not a checkpoint of this program" in caplog.text
    assert "weights_only" not in caplog.text  # nor any other advice of torch's


def test_all_damaged_is_an_error_that_says_so(tmp_path: Path) -> None:
    for update in (5, 10):
        truncate(checkpoint.save(tmp_path, state(update), keep=2))
    with pytest.raises(UserError, match="none of 2 checkpoints can be read; remove them to start anew"):
        checkpoint.load_latest(tmp_path)


def test_a_damaged_file_never_pushes_out_a_sound_one(tmp_path: Path) -> None:
    """Resumed at 5 because 10 is damaged, the run saves 7: both whole files are worth more than the damaged one."""
    checkpoint.save(tmp_path, state(5), keep=2)
    truncate(checkpoint.save(tmp_path, state(10), keep=2))
    checkpoint.save(tmp_path, state(7), keep=2)
    sound = []
    for path in (tmp_path / "checkpoints").iterdir():
        try:
            sound.append(torch.load(path, weights_only=True)["update"])
        except Exception:  # damaged, as arranged
            pass
    assert sorted(sound) == [5, 7]


def test_with_one_kept_the_checkpoint_just_saved_stays(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(5), keep=2)
    truncate(checkpoint.save(tmp_path, state(10), keep=2))
    checkpoint.save(tmp_path, state(7), keep=1)  # keep_checkpoints may change between two runs
    loaded = checkpoint.load_latest(tmp_path)
    assert loaded is not None and loaded["update"] == 7


def test_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, state(5), keep=1)

    def full(content: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left on device: '.*00000010.pt'"):
        checkpoint.save(tmp_path, state(10), keep=1)
    assert names(tmp_path) == ["update-00000005.pt"]
    loaded = checkpoint.load_latest(tmp_path)
    assert loaded is not None and loaded["update"] == 5


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "sprung",))

    path = checkpoint.save(tmp_path, state(5), keep=1)
    torch.save({"update": 6, "trap": Trap()}, path)
    with pytest.raises(UserError):
        checkpoint.load_latest(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_model_is_decided_by_the_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = checkpoint.build_model(TINY).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)  # and the caller's randomness is left alone
    torch.manual_seed(2)
    second = checkpoint.build_model(TINY).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = checkpoint.build_model(Config(**{**vars(TINY), "seed": 4})).state_dict()
    assert not torch.equal(first["encoder.layers.0.conv.weight"], other["encoder.layers.0.conv.weight"])


def test_load_experiment_gives_what_was_saved(tmp_path: Path) -> None:
    model = checkpoint.build_model(TINY)
    with torch.no_grad():
        next(model.predictors[1].parameters()).fill_(7)
    checkpoint.settle_config(tmp_path, TINY)
    checkpoint.save(tmp_path, {"update": 12, "model": model.state_dict()}, keep=1)
    config, loaded, updates = checkpoint.load_experiment(tmp_path)
    assert (config, updates) == (TINY, 12) and not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_experiment_without_a_checkpoint_names_the_stage(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stage 4"):
        checkpoint.load_experiment(tmp_path)


def test_another_configuration_is_refused_with_every_difference(tmp_path: Path) -> None:
    checkpoint.settle_config(tmp_path, TINY)
    checkpoint.settle_config(tmp_path, TINY)
    with pytest.raises(UserError) as caught:
        checkpoint.settle_config(tmp_path, Config(**{**vars(TINY), "steps": 3, "seed": 8}))
    assert "steps 2 → 3" in str(caught.value) and "seed 3 → 8" in str(caught.value) and "--exp" in str(caught.value)


@pytest.mark.parametrize("key", ["log_every", "dev_every", "checkpoint_every", "keep_checkpoints"])
def test_housekeeping_may_change(tmp_path: Path, key: str) -> None:
    checkpoint.settle_config(tmp_path, TINY)
    checkpoint.settle_config(tmp_path, Config(**{**vars(TINY), key: 77}))


def test_auto_is_settled_when_a_run_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was then stands in config.yaml, and the run goes on in it wherever it is resumed."""
    auto = dataclasses.replace(TINY, precision="auto")
    for native, precision in ((False, "fp32"), (True, "bf16")):
        exp = tmp_path / precision
        monkeypatch.setattr(machine, "native_bf16", lambda device, native=native: native)
        assert checkpoint.settle_config(exp, auto).precision == precision
        assert f"precision: {precision}\n" in (exp / "config.yaml").read_text()
        monkeypatch.setattr(machine, "native_bf16", lambda device, native=native: not native)
        assert checkpoint.settle_config(exp, auto).precision == precision
    with pytest.raises(UserError, match="precision 'bf16' → 'fp32'"):
        checkpoint.settle_config(exp, TINY)


def test_an_older_configuration_is_that_of_the_paper_for_what_it_lacks(tmp_path: Path) -> None:
    """A run begun before there were other recurrences goes on, and is loaded, as what it was."""
    checkpoint.settle_config(tmp_path, TINY)
    lines = (tmp_path / "config.yaml").read_text().splitlines(keepends=True)
    later = ("recurrence", "context_layers", "norm_epsilon")
    (tmp_path / "config.yaml").write_text("".join(line for line in lines if line.partition(":")[0] not in later))
    checkpoint.settle_config(tmp_path, TINY)
    with pytest.raises(UserError, match=r"configuration \(recurrence 'gru' → 'lstm'\)"):
        checkpoint.settle_config(tmp_path, dataclasses.replace(TINY, recurrence="lstm"))
    checkpoint.save(tmp_path, {"update": 2, "model": filled(2).state_dict()}, keep=1)
    assert checkpoint.load_experiment(tmp_path)[0] == TINY


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    checkpoint.settle_config(tmp_path, TINY)
    weights = filled(1).state_dict()
    del weights["encoder.layers.2.conv.bias"]
    weights |= {"output.bias": torch.zeros(3), "predictors.1.weight": torch.zeros(4, 5)}
    checkpoint.save(tmp_path, {"update": 2, "model": weights}, keep=1)
    with pytest.raises(UserError) as caught:
        checkpoint.load_experiment(tmp_path)
    for wrong in ("encoder.layers.2.conv.bias is missing", "output.bias is not of this network",
                  "predictors.1.weight is (4, 5), not (4, 4)"):  # fmt: skip
        assert wrong in str(caught.value)


def best_path(exp: Path) -> Path:
    return exp / "checkpoints" / "best.pt"


def filled(value: float) -> CPC:
    """A model all of whose weights are this number."""
    model = checkpoint.build_model(TINY)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model


def best(exp: Path) -> tuple[int, set[float]]:
    """Its update, and its weights' values."""
    _, model, update = checkpoint.load_experiment(exp, "best")
    assert not model.training
    return update, {value for parameter in model.parameters() for value in parameter.flatten().tolist()}


@pytest.mark.parametrize(
    "losses, kept",
    [
        ([3.0, 2.0, 4.0], 2),
        ([3.0, 4.0, 2.0], 3),
        ([2.0, 2.0, 3.0], 1),
        ([3.0, float("nan"), 4.0], 1),
        ([float("nan"), 4.0, 5.0], 2),
    ],
)
def test_best_is_replaced_by_a_better_one_alone(tmp_path: Path, losses: list[float], kept: int) -> None:
    checkpoint.settle_config(tmp_path, TINY)
    for update, loss in enumerate(losses, 1):
        checkpoint.save_if_best(tmp_path, filled(update), update, loss)
    assert best(tmp_path) == (kept, {float(kept)})
    assert names(tmp_path) == ["best.pt"]  # and no temporary file


def test_best_is_a_copy(tmp_path: Path) -> None:
    """The optimiser changes the weights in place, behind the back of whoever holds them."""
    checkpoint.settle_config(tmp_path, TINY)
    model = filled(1)
    checkpoint.save_if_best(tmp_path, model, 1, 3.0)
    checkpoint.save(tmp_path, {"update": 1, "model": model.state_dict()}, keep=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    checkpoint.save_if_best(tmp_path, model, 2, 4.0)
    checkpoint.save(tmp_path, {"update": 2, "model": model.state_dict()}, keep=1)  # removes that of update 1
    assert best(tmp_path) == (1, {1.0})
    assert not best_path(tmp_path).is_symlink() and best_path(tmp_path).stat().st_nlink == 1


def test_best_outlives_all_others_and_is_no_state_to_resume_from(tmp_path: Path) -> None:
    checkpoint.settle_config(tmp_path, TINY)
    checkpoint.save_if_best(tmp_path, filled(1), 1, 3.0)
    assert checkpoint.load_latest(tmp_path) is None
    for update in (2, 3, 4):
        checkpoint.save(tmp_path, {"update": update, "model": filled(update).state_dict()}, keep=1)
    assert names(tmp_path) == ["best.pt", "update-00000004.pt"]
    assert best(tmp_path) == (1, {1.0})
    loaded = checkpoint.load_latest(tmp_path)
    assert loaded is not None and loaded["update"] == 4
    assert checkpoint.load_experiment(tmp_path)[2] == checkpoint.load_experiment(tmp_path, "last")[2] == 4


def test_damaged_best_is_warned_of_and_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint.settle_config(tmp_path, TINY)
    checkpoint.save_if_best(tmp_path, filled(1), 1, 1.0)
    truncate(best_path(tmp_path))
    with pytest.raises(UserError, match="holds no best checkpoint"):
        best(tmp_path)
    caplog.clear()
    checkpoint.save_if_best(tmp_path, filled(2), 2, 5.0)  # what the damaged one's loss was is not known
    assert "best.pt cannot be read" in caplog.text
    assert best(tmp_path) == (2, {2.0})


def test_experiment_without_a_best_checkpoint_says_so(tmp_path: Path) -> None:
    """As where dev is too small for a loss: the last one is not taken for it."""
    checkpoint.settle_config(tmp_path, TINY)
    checkpoint.save(tmp_path, {"update": 2, "model": filled(2).state_dict()}, keep=1)
    with pytest.raises(UserError, match="holds no best checkpoint"):
        best(tmp_path)
