"""The probe as a command: what it leaves, of which inputs, and what it does after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import assert_equal_states

from cpc_speech import checkpoint
from cpc_speech import probe as module
from cpc_speech.config import Config
from cpc_speech.errors import UserError
from cpc_speech.features import FeatureStore
from cpc_speech.kaldi import read_int_vectors, write_int_vectors
from cpc_speech.tasks import Task


def run(data: Path, exp: Path, *more: str) -> dict[str, dict]:
    module.main(["--data", str(data), "--exp", str(exp), *more])
    left = {path.name for path in exp.iterdir()} - {"config.yaml", "checkpoints"}
    assert left == {"probes"}  # and no features: of a large corpus they are gigabytes
    return {path.name: json.loads(path.read_text()) for path in sorted((exp / "probes").glob("*.json"))}


@pytest.fixture
def settings(tmp_path: Path) -> tuple[Config, Path]:
    config = Config(channels=16, context_dim=8, steps=2, window_samples=1600, windows=2, seed=3, precision="bf16")
    (tmp_path / "tiny.yaml").write_text(config.dump())
    return config, tmp_path / "tiny.yaml"


@pytest.mark.usefixtures("few_passes")
def test_mfcc_command_tells_the_speakers_apart(data: Path, tmp_path: Path) -> None:
    results = run(data, tmp_path / "exp", "--representation", "mfcc")
    assert list(results) == ["mfcc.phone.linear.json", "mfcc.speaker.linear.json"]
    speaker, phone = results["mfcc.speaker.linear.json"], results["mfcc.phone.linear.json"]
    assert speaker["accuracy"] > 90  # noise of three colours
    assert phone["accuracy"] < phone["majority"] + 10  # the labels of noise mean nothing
    assert speaker["utterances"] == (data / "splits" / "test.list").read_text().split()
    assert sum(speaker["frames"]) == sum(phone["frames"]) + 9  # one unlabelled frame in each of 9 test utterances
    for facts in results.values():
        assert {
            "row",
            "task",
            "probe",
            "accuracy",
            "ci95",
            "majority",
            "learning_rate_by_seed",
            "commit",
            "command",
            "machine",
        } <= set(facts)
        assert facts["ci95"][0] <= facts["accuracy"] <= facts["ci95"][1]


@pytest.mark.usefixtures("few_passes")
@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_several_seeds_are_the_sum_of_each(data: Path, tmp_path: Path, kind: str) -> None:
    """All counts, so that the accuracy is the mean; the classifier that is kept is the first seed's."""
    common = ["--representation", "mfcc", "--probe", kind, "--seed"]
    alone = [run(data, tmp_path / seed, *common, seed) for seed in "583"]
    both = run(data, tmp_path / "all", *common, "5", "8", "3", "8")
    for name, facts in both.items():
        each = [results[name] for results in alone]
        assert facts["probe_seeds"] == [5, 8, 3] and facts["utterances"] == each[0]["utterances"]
        keys = ["correct", "frames", "confusion" if facts["task"] == "phone" else "utterances_right"]
        for key in keys:
            assert np.array_equal(facts[key], np.sum([one[key] for one in each], axis=0)), key
        for key in ("accuracy", "learning_rate", "dev_accuracy"):
            assert facts[f"{key}_by_seed"] == [one[f"{key}_by_seed"][0] for one in each]
        assert facts["accuracy"] == pytest.approx(np.mean([one["accuracy"] for one in each]))
    phones = [results[f"mfcc.phone.{kind}.json"]["correct"] for results in alone]
    assert phones[0] != phones[1], "a seed makes a difference"
    kept, first = (tmp_path / folder / "probes" / "mfcc.phone.linear.pt" for folder in ("all", "5"))
    if kind == "linear":
        assert_equal_states(*(torch.load(path, weights_only=True) for path in (kept, first)))


@pytest.mark.usefixtures("few_passes")
def test_network_commands(data: Path, tmp_path: Path, settings: tuple[Config, Path]) -> None:
    config, file = settings
    exp = tmp_path / "exp"
    checkpoint.settle_config(exp, config)
    checkpoint.save(exp, {"update": 0, "model": checkpoint.build_model(config).state_dict()}, 1)
    results = run(data, exp, "--task", "speaker")
    results = run(data, exp, "--task", "speaker", "--probe-context", "window")
    results = run(data, exp, "--task", "speaker", "--representation", "z")
    results = run(data, exp, "--task", "speaker", "--representation", "random", "--config", str(file))
    assert list(results) == [f"{name}.speaker.linear.json" for name in ("c", "c.window", "random", "z")]
    c, random = results["c.speaker.linear.json"], results["random.speaker.linear.json"]
    assert c["correct"] == random["correct"]  # the checkpoint holds the untrained network of the same seed
    assert c["correct"] != results["c.window.speaker.linear.json"]["correct"]
    assert c["config"] == vars(config) and c["seed"] == 3 and random["updates"] == 0


@pytest.mark.usefixtures("few_passes")
def test_probe_computes_in_fp32_for_every_representation(
    data: Path, tmp_path: Path, settings: tuple[Config, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network's bf16 must not reach the classifier: MFCC's is fitted in fp32, and the rows are compared."""
    seen = []
    real = module.fit

    def fit(*rest: Any) -> Any:
        seen.append([getattr(torch.backends, name).matmul.fp32_precision for name in ("mkldnn", "cuda")])
        return real(*rest)

    monkeypatch.setattr(module, "fit", fit)
    run(data, tmp_path / "a", "--task", "speaker", "--representation", "random", "--config", str(settings[1]))
    assert settings[0].precision == "bf16"
    assert all("bf16" not in precision and "tf32" not in precision for precision in seen[0])


def test_what_is_missing_is_said(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--config"):
        run(data, tmp_path, "--representation", "random")
    with pytest.raises(UserError, match="carry no context"):
        run(data, tmp_path, "--representation", "mfcc", "--probe-context", "window")
    with pytest.raises(UserError, match="holds no checkpoint"):
        run(data, tmp_path / "nothing")


@pytest.mark.usefixtures("few_passes")
def test_labels_of_others_and_moved_ones_are_results_of_their_own(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("phones.ark", "phones.scp"):
        (other / name).write_bytes((data / name).read_bytes())
    (other / "labels.json").write_text('{"by": "phones by hand.ctm"}')
    exp = tmp_path / "exp"
    command = ["--representation", "mfcc", "--labels", str(other), "--label-shift", "-1", "2"]
    assert run(data, exp, *command) == {}, "table 1 is not touched"
    found = {path.name: json.loads(path.read_text()) for path in (exp / "probes" / "labels").iterdir()}
    assert set(found) == {"mfcc.phones_by_hand_ctm.-1.json", "mfcc.phones_by_hand_ctm.+2.json"}
    frames = sum(found["mfcc.phones_by_hand_ctm.-1.json"]["frames"])
    # A frame at each end has no label that was moved onto it; the first, unlabelled one has left, or come in.
    assert sum(found["mfcc.phones_by_hand_ctm.+2.json"]["frames"]) == frames - 2 * 9
    for facts in found.values():
        assert facts["labels"] == "phones by hand.ctm" and facts["task"] == "phone"
    with pytest.raises(UserError, match="leave out --task speaker"):
        run(data, exp, *command, "--task", "speaker")


def undated(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: {**facts, "date": None, "command": None} for name, facts in results.items()}


@pytest.mark.usefixtures("few_passes")
def test_what_was_probed_before_a_kill_is_left_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["--representation", "mfcc", "--probe", "linear", "mlp"]
    undisturbed = run(data, tmp_path / "undisturbed", *command)
    fitted: list[str] = []
    real = module.probe_seeds

    def probe_seeds(store: FeatureStore, task: Task, seeds: Any, kind: str, *rest: Any) -> Any:
        if len(fitted) == 2:
            raise KeyboardInterrupt
        fitted.append(f"{task.name}.{kind}")
        return real(store, task, seeds, kind, *rest)

    monkeypatch.setattr(module, "probe_seeds", probe_seeds)
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "exp", *command)
    again = fitted[:]
    fitted.clear()
    results = run(data, tmp_path / "exp", *command)
    assert len(again + fitted) == len({*again, *fitted}) == 4, "each was fitted once"
    assert undated(results) == undated(undisturbed)
    fitted.clear()
    run(data, tmp_path / "exp", *command, "--task", "phone")
    assert fitted == []
    run(data, tmp_path / "exp", *command, "--task", "phone", "--force")
    assert fitted == ["phone.linear", "phone.mlp"]


@pytest.mark.usefixtures("few_passes")
@pytest.mark.parametrize("change", ["seed", "weights", "labels", "splits", "audio", "nothing"])
def test_a_result_of_other_inputs_is_made_anew(
    data: Path, tmp_path: Path, settings: tuple[Config, Path], caplog: pytest.LogCaptureFixture, change: str
) -> None:
    config, _ = settings
    exp, command = tmp_path / "exp", ["--task", "speaker" if change == "audio" else "phone"]
    checkpoint.settle_config(exp, config)
    weights = checkpoint.build_model(config).state_dict()
    checkpoint.save(exp, {"update": 0, "model": weights}, 1)
    run(data, exp, *command)
    caplog.set_level("INFO")
    if change == "seed":
        command += ["--seed", "7"]
    elif change == "weights":
        next(iter(weights.values())).add_(0.1)
        checkpoint.save(exp, {"update": 0, "model": weights}, 1)
    elif change == "labels":
        rolled = [(utterance, np.roll(labels, 1)) for utterance, labels in read_int_vectors(data / "phones.scp")]
        write_int_vectors(data / "phones.ark", data / "phones.scp", rolled)
    elif change == "splits":
        train, dev = data / "splits" / "train.list", data / "splits" / "dev.list"
        first, *rest = train.read_text().split()
        train.write_text("".join(f"{utterance}\n" for utterance in rest))
        dev.write_text("".join(f"{utterance}\n" for utterance in sorted([first, *dev.read_text().split()])))
    elif change == "audio":
        (data / "audio.scp").write_text((data / "audio.scp").read_text())
    run(data, exp, *command)
    assert ("probed already" in caplog.text) == (change == "nothing")
