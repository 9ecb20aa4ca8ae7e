"""The configuration: what it refuses, and what it understands."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from cpc_speech.config import Config, load_config
from cpc_speech.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*/conf/cpc.yaml"))


def test_defaults_are_the_papers() -> None:
    config = Config()
    assert (config.channels, config.context_dim, config.steps) == (512, 256, 12)
    assert (config.window_samples, config.windows, config.minibatches) == (20480, 8, 8)
    assert (config.learning_rate, config.updates) == (2e-4, 300_000)
    assert (config.batch_composition, config.candidates) == ("mixed_speaker", "minibatch")
    assert config.frames == 128


@pytest.mark.parametrize(
    "settings, candidates",  # facts of the paper's minibatch: 8 windows of 128 frames
    [
        ({}, 1024),
        ({"candidates": "other_windows"}, 897),
        ({"candidates": "current_window"}, 128),
        ({"negatives": 10}, 11),
    ],
)
def test_number_of_candidates(settings: dict, candidates: int) -> None:
    assert Config(**settings).num_candidates == candidates


def test_later_files_and_overrides_win(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("channels: 32\nsteps: 4\nupdates: 10\n")
    (tmp_path / "b.yaml").write_text("steps: 6\nseed: 3\n")
    config = load_config(
        [tmp_path / "a.yaml", tmp_path / "b.yaml"], ["seed=9", "negatives=all", "candidates=other_windows"]
    )
    assert (config.channels, config.steps, config.updates, config.seed) == (32, 6, 10, 9)
    assert (config.negatives, config.candidates) == ("all", "other_windows")


def test_empty_file_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert load_config([tmp_path / "empty.yaml"]) == Config()


@pytest.mark.parametrize("written", ["2e-4", "2.0e-4", "0.0002", "'0.0002'"])
def test_numbers_as_people_write_them(tmp_path: Path, written: str) -> None:
    """YAML 1.1 takes 2e-4 for a string."""
    (tmp_path / "a.yaml").write_text(f"learning_rate: {written}\n")
    assert load_config([tmp_path / "a.yaml"]).learning_rate == 2e-4
    assert load_config([], [f"learning_rate={written}"]).learning_rate == 2e-4


@pytest.mark.parametrize(
    "key, nearest",
    [
        ("learning_rat", "learning_rate"),
        ("canidates", "candidates"),
        ("step", "steps"),
        ("batch-composition", "batch_composition"),
    ],
)
def test_unknown_key_names_the_nearest_and_the_place(tmp_path: Path, key: str, nearest: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"{key}: 1\n")
    with pytest.raises(UserError, match=f"mine.yaml: unknown key '{key}'; did you mean {nearest}"):
        load_config([tmp_path / "mine.yaml"])
    with pytest.raises(UserError, match=f"{key}=1: unknown key '{key}'; did you mean {nearest}"):
        load_config([], [f"{key}=1"])


def test_key_like_no_other_lists_all() -> None:
    with pytest.raises(UserError, match="channels, norm_epsilon, .*keep_checkpoints"):
        load_config([], ["zzz=1"])


@pytest.mark.parametrize(
    "override, complaint",
    [
        ("channels=0", "channels: 0 is too small"),
        ("channels=-4", "channels: -4 is too small"),
        ("channels=1.5", "channels: 1.5 is not a whole number"),
        ("channels=true", "channels: True is not a whole number"),
        ("channels=", "channels: None is not a whole number"),
        ("channels=many", "channels: 'many' is not a whole number"),
        ("learning_rate=fast", "learning_rate: 'fast' is not a number"),
        ("learning_rate=nan", "learning_rate: nan"),
        ("learning_rate=inf", "learning_rate: inf"),
        ("learning_rate=0", "learning_rate: 0 is too small"),
        ("negatives=some", "negatives: 'some' is not 'all' or a whole number"),
        ("negatives=0", "negatives: 0 is too small"),
        ("candidates=others", "'others' is none of minibatch, other_windows, current_window"),
        ("precision=fp16", "'fp16' is none of auto, bf16, fp32"),
        ("window_samples=20481", "not a multiple of 160"),
        ("steps=128", "does not fit a window of 128 frames"),
        ("channels", "write it as key=value"),
        ("seed=[", "seed="),
    ],
)
def test_wrong_value_is_refused(override: str, complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config([], [override])
    assert complaint in str(caught.value)


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing.yaml: cannot be read"):
        load_config([tmp_path / "missing.yaml"])
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(UserError, match="list.yaml: holds no 'key: value' lines"):
        load_config([tmp_path / "list.yaml"])
    (tmp_path / "broken.yaml").write_text("a: [\n")
    with pytest.raises(UserError, match="broken.yaml: not valid YAML"):
        load_config([tmp_path / "broken.yaml"])
    (tmp_path / "binary.yaml").write_bytes(b"PK\3\4\xff")
    with pytest.raises(UserError, match="binary.yaml: not valid YAML"):
        load_config([tmp_path / "binary.yaml"])


def test_other_windows_need_another_window() -> None:
    with pytest.raises(UserError, match="at least two windows"):
        Config(windows=1, candidates="other_windows")


def test_dump_reads_back_equal(tmp_path: Path) -> None:
    config = Config(channels=16, learning_rate=1e-5, negatives=7, seed=0)
    (tmp_path / "config.yaml").write_text(config.dump())
    assert load_config([tmp_path / "config.yaml"]) == config
    assert list(yaml.safe_load(config.dump())) == [field.name for field in dataclasses.fields(Config)]


def test_configuration_cannot_change_under_a_run() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 3  # type: ignore[misc]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.parents[1].name)
def test_recipes_configurations_load_and_are_complete(path: Path) -> None:
    keys = {field.name for field in dataclasses.fields(Config)}
    assert set(yaml.safe_load(path.read_text())) == keys
    for other in sorted(path.parent.glob("*.yaml")):
        load_config([path, other])


def test_rows_of_table_2_are_one_difference_each_from_any_recipe() -> None:
    """steps 2 to 20, where negatives come from, how many they are, how long a window is: N and nothing else follows."""
    rows = {path.stem: path for path in (ROOT / "recipes" / "shared" / "conf" / "ablations").glob("*.yaml")}
    n = {"other_windows": 7 * 128 + 1, "current_window": 128}
    for base in RECIPES:
        for name, path in rows.items():
            config = load_config([base, path])
            changed = yaml.safe_load(path.read_text())
            assert dataclasses.asdict(config) == yaml.safe_load(base.read_text()) | changed, name
            negatives = changed.get("negatives")
            assert config.num_candidates == (negatives + 1 if negatives else n.get(config.candidates, 1024)), name
    assert {f"steps_{k}" for k in (2, 4, 8, 16, 20)} | {f"negatives_{n}" for n in (8, 32, 128, 512)} < set(rows)


def test_librispeech100_is_the_paper() -> None:
    config = load_config([ROOT / "recipes" / "librispeech100" / "conf" / "cpc.yaml"])
    for key in (
        "channels",
        "context_dim",
        "steps",
        "window_samples",
        "windows",
        "minibatches",
        "updates",
        "learning_rate",
    ):
        assert getattr(config, key) == getattr(Config(), key), key
