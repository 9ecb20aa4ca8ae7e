"""Phone recognition from end to end: features that spell their phones, resume, and input that is wrong."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import assert_equal_states, latest

from cpc_speech import checkpoint
from cpc_speech import recognise as module
from cpc_speech.datadir import read_table, write_table
from cpc_speech.errors import UserError
from cpc_speech.kaldi import read_float_matrices, write_float_matrices
from cpc_speech.recogniser import best_path
from cpc_speech.transcribed import Features, by_length, load_transcripts, shuffled

PHONES = ["AA", "B", "SH", "T"]
SMALL = ["--updates", "12", "--dev-every", "5", "--hidden", "4", "--learning-rate", "0.01"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """60 utterances of 3 to 9 phones, 40 of them to train on, 10 for dev and 10 for test.

    A phone is four frames with its own value raised, behind four frames with none; all under noise and an offset.
    """
    data = tmp_path / "mini"
    (data / "splits").mkdir(parents=True)
    rng = np.random.default_rng(0)
    text, matrices = {}, []
    for i in range(60):
        numbers = rng.integers(len(PHONES), size=rng.integers(3, 10))
        steps = np.zeros((2 * len(numbers), len(PHONES)), np.float32)
        steps[2 * np.arange(len(numbers)) + 1, numbers] = 1
        frames = np.repeat(steps, 4, axis=0)
        matrices.append((f"u{i:02d}", (5 + 2 * frames + 0.1 * rng.normal(size=frames.shape)).astype(np.float32)))
        text[f"u{i:02d}"] = " ".join(PHONES[number] for number in numbers)
    write_table(data / "phones.text", text)
    write_table(data / "phones.text.dropped", {})
    for split, ids in (("train", range(40)), ("dev", range(40, 50)), ("test", range(50, 60))):
        (data / "splits" / f"{split}.list").write_text("".join(f"u{i:02d}\n" for i in ids))
    write_features(data, matrices)
    return data


def write_features(data: Path, matrices: Any) -> None:
    folder = data.parent / "mini_spelt"
    write_float_matrices(folder / "feats.ark", folder / "feats.scp", matrices)


def change(data: Path, utterance: str, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    """Write the features again with one utterance's changed."""
    matrices = list(read_float_matrices(data.parent / "mini_spelt" / "feats.scp"))
    write_features(data, [(name, edit(matrix) if name == utterance else matrix) for name, matrix in matrices])


def recognise(data: Path, exp: Path, *options: str) -> dict[str, Any]:
    """What a run leaves in per.json."""
    feats = data.parent / "mini_spelt" / "feats.scp"
    module.main(["--data", str(data), "--feats", str(feats), "--exp", str(exp), *options])
    return json.loads((exp / "per.json").read_text())


@pytest.mark.parametrize("head", ["linear", "lstm"])
def test_features_that_spell_their_phones_are_read_without_error(data: Path, tmp_path: Path, head: str) -> None:
    options = ("--updates", "120", "--dev-every", "40", "--hidden", "16", "--learning-rate", "0.03")
    found = recognise(data, tmp_path / "exp", "--head", head, *options)
    assert found["per"] == 0 and found["ci95"] == [0, 0] and found["dev_per"][-1] == 0
    assert read_table(tmp_path / "exp/hyp") == read_table(tmp_path / "exp/ref")
    said = read_table(data / "phones.text")
    assert found["phones"] == [len(said[utterance].split()) for utterance in found["utterances"]]
    assert found["utterances"] == (data / "splits/test.list").read_text().split()
    assert (found["features"], found["data"], found["dim"]) == ("mini_spelt", "mini", 4)
    linear = 5 * (8 * 4 + 1)
    lstm = 16 * (8 * 4 + 1) + 2 * 4 * 16 * (16 + 16 + 2) + 5 * (2 * 16 + 1)
    assert found["parameters"] == (linear if head == "linear" else lstm)
    assert (tmp_path / "exp/tokens.txt").read_text() == "<blk> 0\nAA 1\nB 2\nSH 3\nT 4\n"


def test_the_state_that_is_tested_is_devs_best(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates, seen = iter([50.0, 30.0, 30.0, 40.0]), []
    real = module.evaluate

    def evaluate(model: Any, features: Any, transcripts: Any, split: str) -> Any:
        seen.append((split, model.convolution.weight.detach().clone()))
        found = real(model, features, transcripts, split)
        if split == "dev":
            rate = next(rates)
            monkeypatch.setattr(type(found.errors), "rate", property(lambda self: rate))
        return found

    monkeypatch.setattr(module, "evaluate", evaluate)
    found = recognise(data, tmp_path / "exp", *SMALL, "--dev-every", "3")
    assert [split for split, _ in seen] == ["dev"] * 4 + ["test"]
    assert torch.equal(seen[-1][1], seen[1][1]) and not torch.equal(seen[2][1], seen[1][1])  # a tie: the earlier
    assert found["updates"] == 6 and found["dev_per"] == [50, 30, 30, 40]


def test_outputs_are_left_for_other_decoders(data: Path, tmp_path: Path) -> None:
    """Log-probabilities of dev and test, from which the best path is read."""
    recognise(data, tmp_path / "exp", *SMALL)
    scores = dict(read_float_matrices(tmp_path / "exp/scores.scp"))
    assert sorted(scores) == [f"u{i:02d}" for i in range(40, 60)]
    said = read_table(data / "phones.text")
    for utterance, matrix in scores.items():
        assert matrix.shape == (2 * len(said[utterance].split()), 1 + len(PHONES))
        np.testing.assert_allclose(np.exp(matrix).sum(1), 1, rtol=1e-5)
    read = {u: " ".join(PHONES[i - 1] for i in best_path(torch.from_numpy(scores[u]))) for u in sorted(scores)[10:]}
    assert read == read_table(tmp_path / "exp/hyp")


@pytest.mark.parametrize("stop_at", [2, 7, 12])
def test_resumes_bit_for_bit(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int) -> None:
    """Ctrl-C comes before any state is saved, between two, and in the last update; in the third epoch, too."""
    whole = recognise(data, tmp_path / "whole", *SMALL)
    real, calls = module.ctc_loss, []

    def loss(*rest: Any) -> Any:
        calls.append(1)
        if len(calls) == stop_at:
            signal.raise_signal(signal.SIGINT)
        return real(*rest)

    monkeypatch.setattr(module, "ctc_loss", loss)
    with pytest.raises(KeyboardInterrupt):
        recognise(data, tmp_path / "broken", *SMALL)
    assert not (tmp_path / "broken/per.json").exists()
    broken = recognise(data, tmp_path / "broken", *SMALL)
    assert_equal_states(latest(tmp_path / "whole"), latest(tmp_path / "broken"))
    for key in ("per", "substitutions", "dev_per", "updates"):
        assert whole[key] == broken[key], key
    assert len(calls) == 12 + stop_at - (stop_at // 5 * 5 if stop_at < 12 else 12)


def test_its_time_counts_from_the_beginning(data: Path, tmp_path: Path) -> None:
    """Also of what was done before it was stopped, here 5,000 seconds."""
    assert 0 < recognise(data, tmp_path / "exp", *SMALL)["seconds"] < 1000
    checkpoint.save(tmp_path / "exp", latest(tmp_path / "exp") | {"seconds": 5000.0}, keep=1)
    assert 5000 < recognise(data, tmp_path / "exp", *SMALL)["seconds"] < 6000


@pytest.mark.parametrize("options, named", [(["--seed", "2"], "seed"), (["--learning-rate", "0.1"], "learning-rate")])
def test_other_settings_in_the_same_folder_are_refused(
    data: Path, tmp_path: Path, options: list[str], named: str
) -> None:
    recognise(data, tmp_path / "exp", *SMALL)
    with pytest.raises(UserError, match=f"was begun with other {named}; take another --exp"):
        recognise(data, tmp_path / "exp", *SMALL, *options)


def test_other_features_in_the_same_folder_are_refused(data: Path, tmp_path: Path) -> None:
    recognise(data, tmp_path / "exp", *SMALL)
    change(data, "u03", lambda matrix: matrix + 1)
    with pytest.raises(UserError, match="was begun with other feats"):
        recognise(data, tmp_path / "exp", *SMALL)


@pytest.mark.parametrize("utterance", ["u03", "u45", "u55"])
def test_other_phones_in_the_same_folder_are_refused(data: Path, tmp_path: Path, utterance: str) -> None:
    """Of train, dev or test, with no symbol that was not there before."""
    recognise(data, tmp_path / "exp", *SMALL)
    write_table(data / "phones.text", read_table(data / "phones.text") | {utterance: "AA B"})
    with pytest.raises(UserError, match="was begun with other transcripts; take another --exp"):
        recognise(data, tmp_path / "exp", *SMALL)


@pytest.mark.parametrize("option", ["stride", "hidden", "updates", "dev-every", "learning-rate"])
def test_settings_of_nothing_are_refused(
    data: Path, tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in ("0", "-1"):
        with pytest.raises(SystemExit):
            recognise(data, tmp_path / "exp", *SMALL, f"--{option}={value}")
        assert re.search(rf"error: .*--{option}\b.* (1 or more|more than 0)", capsys.readouterr().err)
    assert not (tmp_path / "exp").exists()


@pytest.mark.parametrize(
    "utterance, edit, message",
    [
        ("u03", lambda matrix: matrix[:4], r"1 training utterances have more phones .* u03 \(4 frames, \d phones\)"),
        ("u45", lambda matrix: matrix[:, :3], r"u45 has \d+ frames of 3 values, where finite ones of 4 are due"),
        ("u55", lambda matrix: matrix[:0], "u55 has 0 frames"),
        ("u03", lambda matrix: matrix * np.float32(np.nan), "u03 has .* finite ones"),
    ],
)
def test_features_that_do_not_fit(
    data: Path, tmp_path: Path, utterance: str, edit: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    change(data, utterance, edit)
    with pytest.raises(UserError, match=message):
        recognise(data, tmp_path / "exp", *SMALL)


def test_too_short_a_test_utterance_is_no_error(data: Path, tmp_path: Path) -> None:
    """What cannot be said is left out by the recogniser, and counted as deletions."""
    change(data, "u55", lambda matrix: matrix[:4])
    assert recognise(data, tmp_path / "exp", *SMALL)["phones"][5] > 1


def test_features_that_lack_an_utterance(data: Path, tmp_path: Path) -> None:
    matrices = list(read_float_matrices(tmp_path / "mini_spelt/feats.scp"))
    write_features(data, [(name, matrix) for name, matrix in matrices if name != "u45"])
    with pytest.raises(UserError, match="1 of 60 utterances are not in it, first u45"):
        recognise(data, tmp_path / "exp", *SMALL)


def test_utterances_without_phones_are_left_out_or_an_error(data: Path, tmp_path: Path) -> None:
    text = read_table(data / "phones.text")
    write_table(data / "phones.text", {name: said for name, said in text.items() if name not in ("u03", "u55")})
    with pytest.raises(UserError, match="1 utterances of train.list are not in it, first u03"):
        recognise(data, tmp_path / "exp", *SMALL)
    write_table(data / "phones.text.dropped", {"u03": "spoken noise", "u55": "spoken noise"})
    found = recognise(data, tmp_path / "exp", *SMALL)
    assert found["left_out"] == {"train": 1, "dev": 0, "test": 1} and "u55" not in found["utterances"]


def test_a_phone_that_train_lacks_is_an_error_of_test(data: Path, tmp_path: Path) -> None:
    write_table(data / "phones.text", read_table(data / "phones.text") | {"u55": "ZH ZH"})
    found = recognise(data, tmp_path / "exp", *SMALL)
    place = found["utterances"].index("u55")
    assert found["phones"][place] == 2 == found["substitutions"][place] + found["deletions"][place]


def test_statistics_are_trains(data: Path) -> None:
    transcripts = load_transcripts(data)
    features = Features(data.parent / "mini_spelt" / "feats.scp", transcripts.splits)
    train = np.concatenate([m for name, m in read_float_matrices(features.scp) if name < "u40"])
    np.testing.assert_allclose(features.mean, train.mean(0), rtol=1e-5)
    np.testing.assert_allclose(features.std, train.std(0), rtol=1e-4)


def test_minibatches_cover_every_epoch_and_are_alike_in_length() -> None:
    rng = np.random.default_rng(1)
    frames = {f"u{i:04d}": int(n) for i, n in enumerate(rng.integers(100, 2000, 1000))}
    utterances = sorted(frames)
    epochs = [shuffled(utterances, frames, 16, 7, epoch) for epoch in range(2)]
    for minibatches in epochs:
        assert sorted(sum(minibatches, [])) == utterances
        assert sorted(map(len, minibatches)) == [8, *[16] * 62]
    assert epochs[0] != epochs[1] and epochs[0] == shuffled(utterances, frames, 16, 7, 0)
    assert epochs[0] != shuffled(utterances, frames, 16, 8, 0)
    padded = [max(frames[name] for name in minibatch) * len(minibatch) for minibatch in epochs[0]]
    # 512 uniform lengths in 32 minibatches: neighbours span 1/32 of 1,900, and the padding is half of it: some 3 %.
    assert sum(padded) < 1.06 * sum(frames.values())
    assert sum(by_length(utterances, frames, 16), []) == sorted(utterances, key=lambda name: frames[name])
