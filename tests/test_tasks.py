"""Targets and splits as the data directory has them."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path

import kaldiio
import numpy as np
import pytest

from cpc_speech.errors import UserError
from cpc_speech.kaldi import write_int_vectors
from cpc_speech.tasks import Task, load_splits, load_task


def test_splits_are_the_lists(data: Path) -> None:
    audio, splits = load_splits(data)
    for split in ("train", "dev", "test"):
        assert [audio.utterances[i] for i in splits[split]] == (data / "splits" / f"{split}.list").read_text().split()


def test_utterances_in_no_list_are_left_alone(data: Path) -> None:
    ids = (data / "splits" / "train.list").read_text().split()
    (data / "splits" / "train.list").write_text("".join(f"{u}\n" for u in ids[1:]))
    audio, splits = load_splits(data)
    assert ids[0] not in audio.utterances and len(audio) == 35 == sum(map(len, splits.values()))


def test_phone_targets_are_kaldis_ids_minus_one(data: Path) -> None:
    audio, splits = load_splits(data)
    task = load_task("phone", data, audio, splits)
    assert (task.name, task.classes) == ("phone", 41)
    labels = kaldiio.load_scp(str(data / "phones.scp"))  # another reader than the library's
    for utterance, target, samples in zip(audio.utterances, task.targets, audio.num_samples, strict=True):
        np.testing.assert_array_equal(target, labels[utterance].astype(int) - 1)
        assert len(target) == samples // 160 and target[0] == -1 and target.dtype == np.int64


def test_speaker_targets(data: Path) -> None:
    audio, splits = load_splits(data)
    task = load_task("speaker", data, audio, splits)
    assert task.classes == 3
    for utterance, target, samples in zip(audio.utterances, task.targets, audio.num_samples, strict=True):
        assert target.tolist() == [["ann", "bob", "eve"].index(utterance[:3])] * (samples // 160)


def test_majority_is_trains_most_frequent_class_on_test(data: Path) -> None:
    audio, splits = load_splits(data)
    task = load_task("phone", data, audio, splits)
    counts = {s: Counter(int(y) for i in splits[s] for y in task.targets[i] if y >= 0) for s in ("train", "test")}
    most = max(sorted(counts["train"]), key=lambda label: counts["train"][label])
    assert task.majority() == pytest.approx(100 * counts["test"][most] / sum(counts["test"].values()))


def rewrite(data: Path, split: str, ids: list[str]) -> None:
    (data / "splits" / f"{split}.list").write_text("".join(f"{u}\n" for u in sorted(ids)))


def test_classes_are_counted_in_the_memory_of_an_utterance() -> None:
    """Of train-clean-100 all targets together are 0.3 GB, and copies of them as much again."""
    task = Task("phone", 41, [np.repeat([-1, 3, 5], [1000, 4000, 5000])] * 200, {"train": [*range(150)], "test": [170]})
    tracemalloc.start()
    assert task.majority() == pytest.approx(100 * 5000 / 9000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6  # an utterance has 80 kB, train 12 MB


def test_an_utterance_in_two_lists_is_refused(data: Path) -> None:
    rewrite(data, "dev", ["ann-000", "ann-001"])
    with pytest.raises(UserError, match="two lists"):
        load_splits(data)


def test_an_empty_split_is_refused(data: Path) -> None:
    rewrite(data, "dev", [])
    with pytest.raises(UserError, match="dev without an utterance"):
        load_splits(data)


def test_an_unknown_utterance_is_refused(data: Path) -> None:
    rewrite(data, "dev", ["nobody-000"])
    with pytest.raises(UserError, match="nobody-000"):
        load_splits(data)


def test_a_speaker_without_training_utterances_is_named(data: Path) -> None:
    rewrite(data, "train", [u for u in (data / "splits" / "train.list").read_text().split() if "bob" not in u])
    audio, splits = load_splits(data)
    with pytest.raises(UserError, match="speaker bob"):
        load_task("speaker", data, audio, splits)


def test_labels_of_another_length_are_refused(data: Path) -> None:
    samples = (data / "utt2num_samples").read_text().splitlines()
    (data / "utt2num_samples").write_text("\n".join(["ann-000 15840", *samples[1:]]) + "\n")  # a frame less
    audio, splits = load_splits(data)
    with pytest.raises(UserError, match="ann-000 has 100 labels for 99 frames"):
        load_task("phone", data, audio, splits)


@pytest.mark.parametrize("shift", range(-3, 4))
def test_labels_moved_by_frames(data: Path, shift: int) -> None:
    audio, splits = load_splits(data)
    task = load_task("phone", data, audio, splits)
    for before, after in zip(task.targets, task.shifted(shift).targets, strict=True):
        for t, target in enumerate(after):
            assert target == (before[t - shift] if 0 <= t - shift < len(before) else -1)
    short = Task("phone", 41, [np.array([4, 5]), np.array([6]), np.array([], np.int64)], splits)
    expected = {0: [4, 5], 1: [-1, 4], -1: [5, -1]}.get(shift, [-1, -1])
    assert [target.tolist() for target in short.shifted(shift).targets] == [expected, [-1 if shift else 6], []]


def test_labels_of_another_folder(data: Path, tmp_path: Path) -> None:
    audio, splits = load_splits(data)
    other = tmp_path / "other"
    other.mkdir()
    missing = audio.utterances[2]
    vectors = {u: np.full(n // 160, 7, np.int32) for u, n in zip(audio.utterances, audio.num_samples, strict=True)}
    del vectors[missing]
    write_int_vectors(other / "phones.ark", other / "phones.scp", sorted(vectors.items()))
    with pytest.raises(UserError, match="not in it"):
        load_task("phone", data, audio, splits, other)
    (other / "labels.dropped").write_text(f"{missing} no words in text\n")
    task = load_task("phone", data, audio, splits, other)
    assert {int(y) for target in task.targets for y in target} == {6, -1} and task.targets[2].max() == -1
