"""Scaled log-likelihoods of frames: by Bayes' rule where densities are known, and as a command for every classifier."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import torch

from cpc_speech import checkpoint, posteriors, probe, supervised, write_features
from cpc_speech.classifier import PRIOR_FLOOR, load_classifier, save_classifier
from cpc_speech.config import Config
from cpc_speech.errors import UserError
from cpc_speech.representations import MFCC
from cpc_speech.tasks import Task

MakeData = Callable[..., Path]

CONFIG = Config(
    channels=16, context_dim=8, steps=2, window_samples=3200, windows=4, updates=3, minibatches=1, seed=2,
    learning_rate=1e-3, final_learning_rate=1e-3,
)  # fmt: skip


@pytest.fixture(autouse=True)
def few_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "UPDATES", 1)


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(CONFIG.dump())
    return tmp_path / "tiny.yaml"


def score(data: Path, exp: Path, to: Path, *more: str) -> dict[str, np.ndarray]:
    posteriors.main(["--data", str(data), "--exp", str(exp), "--to", str(to), *more])
    return dict(kaldiio.load_scp(str(to / "posteriors.scp")))  # another reader than the library's


def test_likelihood_ratios_of_normal_classes(tmp_path: Path) -> None:
    """Where class k is normal around μ_k, log p(x | 0) − log p(x | 1) is known, whatever the shares in training."""
    mu, shares = np.array([[0.0, 1.0], [2.0, -1.0]]), np.array([0.9, 0.1])
    linear = torch.nn.Linear(2, 2)
    mean, std = np.array([0.5, -2.0], np.float32), np.array([2.0, 3.0], np.float32)
    with torch.no_grad():  # of x itself the logits are μx − μ²/2 + log share; here x = std · y + mean
        linear.weight.copy_(torch.from_numpy(mu * std))
        linear.bias.copy_(torch.from_numpy(mu @ mean - (mu**2).sum(1) / 2 + np.log(shares)))
    targets = [np.repeat([0, 1, -1], [9, 1, 5]), np.array([1, 1, 1])]  # of train, and of dev, which does not count
    save_classifier(tmp_path / "a.pt", linear, Task("phone", 2, targets, {"train": [0], "dev": [1]}), mean, std)
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    scores = load_classifier(tmp_path / "a.pt").log_likelihoods(torch.from_numpy(x)).numpy()
    density = -((x[:, None] - mu) ** 2).sum(2) / 2
    np.testing.assert_allclose(scores[:, 0] - scores[:, 1], density[:, 0] - density[:, 1], atol=1e-4)  # fp32 weights
    np.testing.assert_allclose((np.exp(scores) * shares).sum(1), 1, atol=1e-5)


def test_class_that_training_never_saw(tmp_path: Path) -> None:
    """It has a finite score, and no larger one than 1 / PRIOR_FLOOR of its posterior."""
    task = Task("phone", 3, [np.array([0, 1, 1, 0])], {"train": [0]})
    save_classifier(tmp_path / "a.pt", torch.nn.Linear(2, 3), task)
    log_priors = load_classifier(tmp_path / "a.pt").log_priors
    np.testing.assert_allclose(log_priors.exp(), [0.5, 0.5, PRIOR_FLOOR])


def check(scores: dict[str, np.ndarray], data: Path, result: dict, log_priors: torch.Tensor) -> None:
    """All utterances, one row a frame, and the accuracy on test is the one that the probe reported."""
    samples = dict(line.split() for line in (data / "utt2num_samples").read_text().splitlines())
    assert {u: m.shape for u, m in scores.items()} == {u: (int(n) // 160, 41) for u, n in samples.items()}
    labels = kaldiio.load_scp(str(data / "phones.scp"))
    correct = []
    for utterance in result["utterances"]:
        logits = scores[utterance] + log_priors.numpy()
        np.testing.assert_allclose(np.exp(logits).sum(1), 1, rtol=1e-4)
        correct.append(int((logits.argmax(1) + 1 == labels[utterance])[labels[utterance] > 0].sum()))
    # The probe read its frames from float16; that may decide a frame between two classes.
    np.testing.assert_allclose(correct, result["correct"], atol=2)


def test_mfcc(data: Path, tmp_path: Path) -> None:
    ids = (data / "splits" / "train.list").read_text().split()
    (data / "splits" / "train.list").write_text("".join(f"{u}\n" for u in ids[1:]))  # one is in no split
    exp = tmp_path / "exp"
    probe.main(["--data", str(data), "--exp", str(exp), "--task", "phone", "--representation", "mfcc"])
    scores = score(data, exp, tmp_path / "to", "--representation", "mfcc")
    result = json.loads((exp / "probes" / "mfcc.phone.linear.json").read_text())
    check(scores, data, result, load_classifier(exp / "probes" / "mfcc.phone.linear.pt").log_priors)


def test_context_is_the_default(data: Path, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    checkpoint.settle_config(exp, CONFIG)
    checkpoint.save(exp, {"update": 0, "model": checkpoint.build_model(CONFIG).state_dict()}, 1)
    probe.main(["--data", str(data), "--exp", str(exp), "--task", "phone"])
    result = json.loads((exp / "probes" / "c.phone.linear.json").read_text())
    scores = score(data, exp, tmp_path / "to")
    check(scores, data, result, load_classifier(exp / "probes" / "c.phone.linear.pt").log_priors)


def test_supervised_network(data: Path, tmp_path: Path, config_file: Path) -> None:
    exp = tmp_path / "exp"
    arguments = ["--data", str(data), "--exp", str(exp), "--config", str(config_file), "--task", "phone"]
    supervised.main([*arguments, "--dev-every", "2"])
    result = json.loads((exp / "probes" / "supervised.phone.end_to_end.json").read_text())
    pt = exp / "probes" / "supervised.phone.end_to_end.pt"
    check(score(data, exp, tmp_path / "to"), data, result, load_classifier(pt).log_priors)

    pt.unlink()  # as of a network trained before this file was written: the same command again, and it is there
    with pytest.raises(UserError, match="again"):
        score(data, exp, tmp_path / "to", "--representation", "supervised")
    supervised.main([*arguments, "--dev-every", "2"])
    state = torch.load(pt, weights_only=True)
    torch.save(state | {"weight": state["weight"] + 1}, pt)
    with pytest.raises(UserError, match="training end"):
        score(data, exp, tmp_path / "to")


def test_shorter_than_a_frame(make_data: MakeData, tmp_path: Path) -> None:
    data = make_data([16000 + 10 * i for i in range(11)] + [159], ["ann"] * 12)
    train, exp = data / "splits" / "train.list", tmp_path / "exp"
    train.write_text(train.read_text().replace("ann-011\n", ""))
    probe.main(["--data", str(data), "--exp", str(exp), "--task", "phone", "--representation", "mfcc39"])
    scores = score(data, exp, tmp_path / "to", "--representation", "mfcc39")
    assert scores["ann-011"].shape == (0, 41) and scores["ann-000"].shape == (100, 41)


def test_too_little_room_is_told_first(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of scores, and of the features that stage 8 writes."""
    probe.main(["--data", str(data), "--exp", str(tmp_path), "--representation", "mfcc"])
    frames = sum(int(line.split()[1]) // 160 for line in (data / "utt2num_samples").read_text().splitlines())
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    monkeypatch.setattr(MFCC, "__call__", lambda *_: pytest.fail("computed for nothing"))
    with pytest.raises(UserError, match=f"scores: {frames * 41 * 4:,} bytes are to be written, 1,000 are free"):
        score(data, tmp_path, tmp_path / "scores", "--representation", "mfcc")
    with pytest.raises(UserError, match=f"feats: {frames * 13 * 4:,} bytes are to be written, 1,000 are free"):
        write_features.main(["--data", str(data), "--representation", "mfcc", "--to", str(tmp_path / "feats")])


def test_what_is_missing_is_said(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="c.phone.linear.pt: no such file; run the probe"):
        score(data, tmp_path / "exp", tmp_path / "to")
    (tmp_path / "exp" / "probes").mkdir(parents=True)
    (tmp_path / "exp" / "probes" / "c.phone.linear.pt").write_bytes(b"PK")
    with pytest.raises(UserError, match="cannot be read"):
        score(data, tmp_path / "exp", tmp_path / "to")
    assert not (tmp_path / "to").exists()
