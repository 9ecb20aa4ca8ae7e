"""The feature store against the frames that went in."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cpc_speech import features
from cpc_speech.errors import UserError
from cpc_speech.features import FeatureStore, batches_by_length
from cpc_speech.packed import PackedAudio

DIM = 5


class Marks:
    """Frame t: the means of five fifths of its 160 samples: each can be told from all others."""

    name, hop, dim = "marks", 160, DIM

    def __call__(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        return [w[: len(w) // 160 * 160].view(-1, DIM, 32).mean(-1) for w in waveforms]


def frames_of(data: Path) -> list[np.ndarray]:
    """The same, from the files, by hand; in float16, as stored."""
    everything = np.fromfile(data / "audio.000.i16", "<i2").astype(np.float32) / 32768
    result, start = [], 0
    for line in (data / "utt2num_samples").read_text().splitlines():
        n = int(line.split()[1])
        whole = everything[start : start + n // 160 * 160]
        result.append(torch.from_numpy(whole).view(-1, DIM, 32).mean(-1).numpy().astype(np.float16))
        start += n
    return result


@pytest.fixture
def store(data: Path, tmp_path: Path) -> FeatureStore:
    return FeatureStore.extract(tmp_path / "exp", PackedAudio(data), Marks())


def test_frames_stand_where_their_utterance_is(store: FeatureStore, data: Path) -> None:
    expected = frames_of(data)
    assert len(store.utterances) == len(expected) == 36
    for i, frames in enumerate(expected):
        np.testing.assert_array_equal(store[i].numpy(), frames.astype(np.float32))
        assert store.rows(i).stop - store.rows(i).start == len(frames)


def test_a_kill_would_leave_no_file(store: FeatureStore, data: Path, tmp_path: Path) -> None:
    """Neither while frames are computed nor while they are read."""
    assert not list((tmp_path / "exp").iterdir())
    seen: list[list[Path]] = []

    class Watched(Marks):
        def __call__(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
            seen.append(list((tmp_path / "exp").iterdir()))
            return super().__call__(waveforms)

    FeatureStore.extract(tmp_path / "exp", PackedAudio(data), Watched())
    assert seen and not any(seen)


def test_order_of_the_audio_is_kept(data: Path, tmp_path: Path) -> None:
    audio = PackedAudio(data, ["eve-003", "ann-001"])
    store = FeatureStore.extract(tmp_path, audio, Marks())
    expected = dict(zip(PackedAudio(data).utterances, frames_of(data), strict=True))
    for i, utterance in enumerate(["eve-003", "ann-001"]):
        np.testing.assert_array_equal(store[i].numpy(), expected[utterance].astype(np.float32))


def test_standardised_by_the_given_utterances_only(store: FeatureStore, data: Path) -> None:
    chosen = [3, 4, 20]
    store.standardise(chosen)
    own = np.concatenate([frames_of(data)[i] for i in chosen]).astype(np.float64)
    for i in (3, 11):
        expected = (frames_of(data)[i] - own.mean(0)) / own.std(0)
        np.testing.assert_allclose(store[i].numpy(), expected, rtol=0, atol=1e-5)  # fp32 of numbers below 10


def test_a_constant_dimension_stays_finite(tmp_path: Path) -> None:
    matrix = np.array([[1, 300], [3, 300]], np.float16)
    matrix.tofile(tmp_path / "x.f16")
    store = FeatureStore(tmp_path / "x.f16", ["u"], np.array([2]), 2)
    store.standardise([0])
    assert store[0].tolist() == [[-1, 0], [1, 0]]


@pytest.mark.parametrize("pool", [1 << 18, 100])
def test_a_pass_gives_every_labelled_frame_once_with_its_target(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, pool: int
) -> None:
    monkeypatch.setattr(features, "_POOL_FRAMES", pool)
    utterances = [7, 0, 30]
    targets = [np.arange(len(store[i])) + 1000 * i for i in utterances]
    targets[0][::3] = -1
    expected = sorted(
        (int(y), tuple(x.tolist()))
        for i, ys in zip(utterances, targets, strict=True)
        for x, y in zip(store[i], ys, strict=True)
        if y >= 0
    )
    passes = [[(x, y) for x, y in store.shuffled(utterances, targets, 32, seed)] for seed in (1, 1, 2)]
    for batches in passes:
        assert all(len(x) == len(y) <= 32 for x, y in batches)
        assert sorted((int(b), tuple(a.tolist())) for x, y in batches for a, b in zip(x, y, strict=True)) == expected
    orders = [torch.cat([y for _, y in batches]).tolist() for batches in passes]
    assert orders[0] == orders[1] != orders[2] and orders[0] != sorted(orders[0])


class Wrong(Marks):
    def __init__(self, utterance_frames: int, change: str) -> None:
        self.utterance_frames, self.change = utterance_frames, change

    def __call__(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        result = super().__call__(waveforms)
        for i, frames in enumerate(result):
            if len(frames) == self.utterance_frames:
                if self.change == "short":
                    result[i] = frames[:-1]
                else:
                    frames[-1, 2] = float(self.change)
        return result


@pytest.mark.parametrize("change", ["short", "nan", "inf", "-1e6"])
def test_wrong_frames_name_the_utterance_and_leave_no_file(data: Path, tmp_path: Path, change: str) -> None:
    """Not finite as stored, that is: float16 ends at 65,504."""
    audio = PackedAudio(data)
    lengths = (audio.num_samples // 160).tolist()
    unique = next(i for i, n in enumerate(lengths) if lengths.count(n) == 1)
    with pytest.raises(UserError, match=audio.utterances[unique]):
        FeatureStore.extract(tmp_path / "exp", audio, Wrong(lengths[unique], change))
    assert list((tmp_path / "exp").iterdir()) == []


def test_batches_hold_every_utterance_once_within_their_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_BATCH_SECONDS", 2)  # 32,000 samples
    lengths = np.random.default_rng(0).integers(100, 20000, 200)
    lengths[17] = 50_000  # alone over the bound: a batch of its own
    batches = list(batches_by_length(lengths))
    assert sorted(i for batch in batches for i in batch) == list(range(200))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= 32_000
    assert len(batches) < 150  # and it does put utterances together
    assert list(batches_by_length(np.array([], int))) == []


def test_a_full_disk_is_an_error_that_names_the_folder(data: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for it. Through a memory map it would be a bus error."""
    folder = tmp_path / "exp"
    with pytest.raises(OSError, match=f"File too large: '{folder}'"), file_size_limit(20_000):
        FeatureStore.extract(folder, PackedAudio(data), Marks())
    assert not list(folder.iterdir())


def test_too_little_room_is_told_first(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    monkeypatch.setattr(Marks, "__call__", lambda *_: pytest.fail("computed for nothing"))
    due = sum(len(frames) for frames in frames_of(data)) * DIM * 2
    with pytest.raises(UserError, match=f"exp: {due:,} bytes are to be written, 1,000 are free"):
        FeatureStore.extract(tmp_path / "exp", PackedAudio(data), Marks())


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """The kernel refuses to let a file grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
