"""The map of frames: which frames are shown, of what values, and that it is the same every time."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")

from runs import SMALL

from cpc_speech import checkpoint, tsne
from cpc_speech.config import Config
from cpc_speech.errors import UserError
from cpc_speech.packed import PackedAudio
from cpc_speech.phones import SYMBOLS, read_phones, write_symbols
from cpc_speech.representations import MFCC, CPCFrames
from cpc_speech.tasks import Task

# Utterances of test, their speakers, and where they are labelled; "cat" has 5 labelled frames, the others 20 and more.
SPEAKERS = ["dan", "ann", "ann", "cat", "bob", "dan", "eve"]
LABELLED = [12, 10, 10, 5, 40, 12, 90]


def task() -> Task:
    targets = [np.where(np.arange(100) % 100 < n, 3, -1)[::-1].copy() for n in LABELLED]
    return Task("phone", 41, targets, {"test": [0, 1, 2, 3, 4, 5]})  # eve's is not in test


def test_the_first_speakers_who_have_enough() -> None:
    chosen = tsne.choose(task(), SPEAKERS, 2, 20, seed=0)
    assert Counter(SPEAKERS[i] for i, _ in chosen) == {"ann": 20, "bob": 20}
    assert [SPEAKERS[i] for i, _ in chosen] == ["ann"] * 20 + ["bob"] * 20
    assert len(set(chosen)) == 40 and all(t >= 100 - LABELLED[i] for i, t in chosen)
    assert {i for i, _ in chosen[:20]} == {1, 2}  # ann has just so many


def test_frames_are_drawn_by_the_seed_evenly() -> None:
    draws = [tsne.choose(task(), SPEAKERS, 1, 5, seed) for seed in range(400)]
    assert draws[0] == tsne.choose(task(), SPEAKERS, 1, 5, 0) and draws[0] != draws[1]
    count = Counter(frame for draw in draws for frame in draw)
    assert len(count) == 20
    # 2,000 of 20 frames: 100 each, with a standard deviation of √(400 · ¼ · ¾) = 8.7; six of them either way.
    assert all(abs(number - 100) < 52 for number in count.values())


def test_fewer_speakers_than_wanted_are_all_shown(caplog: pytest.LogCaptureFixture) -> None:
    chosen = tsne.choose(task(), SPEAKERS, 10, 20, seed=0)
    assert sorted({SPEAKERS[i] for i, _ in chosen}) == ["ann", "bob", "dan"]
    assert "of the 10 speakers wanted, the 3 with 20 labelled frames are shown" in caplog.text


def test_nobody_has_enough() -> None:
    with pytest.raises(UserError, match="no test speaker has 41 labelled frames, the most are 40; .* --frames"):
        tsne.choose(task(), SPEAKERS, 10, 41, seed=0)


def test_a_large_corpus_is_not_listed_frame_by_frame() -> None:
    """An object a frame takes about 100 bytes: here 50 MB, of train-clean-100's 20 hours of test 0.7 GB."""
    speakers = [f"{i // 10:02d}" for i in range(500)]
    large = Task("phone", 41, [np.zeros(1000, np.int8)] * 500, {"test": list(range(500))})
    tracemalloc.start()
    chosen = tsne.choose(large, speakers, 2, 200, seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [speakers[i] for i, _ in chosen] == ["00"] * 200 + ["01"] * 200
    assert peak < 5e6  # of two speakers, 20,000 frames


@pytest.mark.parametrize("layer", ["c", "z"])
def test_values_are_those_of_whole_utterances(data: Path, layer: str) -> None:
    audio = PackedAudio(data)
    model = checkpoint.build_model(Config(**SMALL))
    representation = CPCFrames(layer, model, layer, precision="fp32")
    frames = [tsne.Frame(i, t) for i, t in [(5, 3), (0, 99), (5, 60), (2, 0)]]
    values = tsne.extract(representation, audio, frames)
    for row, (i, t) in zip(values, frames, strict=True):
        [whole] = representation([torch.from_numpy(audio[i] / np.float32(32768))])
        # A batch of other utterances may sum in another order: a few times float32's rounding.
        np.testing.assert_allclose(row, whole[t], rtol=1e-4, atol=1e-5)


def test_values_that_are_not_finite(data: Path) -> None:
    class Broken(MFCC):
        def __call__(self, waveforms: Any) -> Any:
            return [x * np.nan for x in super().__call__(waveforms)]

    with pytest.raises(UserError, match="ann-003: mfcc of frame 7 is not finite"):
        tsne.extract(Broken(), PackedAudio(data), [tsne.Frame(3, 7)])


def clusters(scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """120 points of 3 normal classes of 8 values, far apart; one value in a unit of its own."""
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(3), 40)
    values = (8 * rng.normal(size=(3, 8))[classes] + rng.normal(size=(120, 8))).astype(np.float32)
    values[:, 0] *= scale
    return values, classes


def test_neighbours_stay_together_and_units_do_not_matter() -> None:
    values, classes = clusters()
    places = tsne.embed(values, perplexity=10, seed=0)
    assert places.shape == (120, 2) and np.isfinite(places).all()
    distances = ((places[:, None] - places) ** 2).sum(-1) + np.diag(np.full(120, np.inf))
    assert (classes[distances.argmin(1)] == classes).all()
    np.testing.assert_array_equal(places, tsne.embed(values, perplexity=10, seed=0))
    # Scaled by a power of two, which loses no bit.
    np.testing.assert_array_equal(places, tsne.embed(clusters(1024.0)[0], perplexity=10, seed=0))


def test_a_constant_value_does_no_harm() -> None:
    values, _ = clusters()
    values[:, 3] = 2
    assert np.isfinite(tsne.embed(values, perplexity=10, seed=0)).all()


@pytest.mark.parametrize("perplexity", [0, 120])
def test_perplexity_below_the_number_of_frames(perplexity: float) -> None:
    with pytest.raises(UserError, match="below the 120 frames there are"):
        tsne.embed(clusters()[0], perplexity, seed=0)


def test_the_command_shows_the_same_frames_of_every_representation(data: Path, tmp_path: Path) -> None:
    write_symbols(tmp_path / "lang")
    exp = tmp_path / "exp"
    checkpoint.settle_config(exp, Config(**SMALL))
    checkpoint.save(exp, {"model": checkpoint.build_model(Config(**SMALL)).state_dict(), "update": 5}, keep=1)
    options = ["--speakers", "2", "--frames", "30", "--perplexity", "8", "--data", str(data), "--exp", str(exp)]
    for name in ("c", "mfcc"):
        tsne.main([*options, "--representation", name])
    c, mfcc = (json.loads((exp / f"tsne.{name}.json").read_text()) for name in ("c", "mfcc"))
    points = c["points"]
    assert {key: len(values) for key, values in points.items()} == dict.fromkeys(points, 60)
    for key in ("speaker", "phone", "utterance", "frame"):
        assert points[key] == mfcc["points"][key]
    assert points["x"] != mfcc["points"]["x"]
    assert Counter(points["speaker"]) == {"ann": 30, "bob": 30}
    test = (data / "splits" / "test.list").read_text().split()
    labels = read_phones(data, test, data / "phones.scp")
    assert set(points["utterance"]) <= set(test)
    for utterance, t, phone in zip(points["utterance"], points["frame"], points["phone"], strict=True):
        assert phone == SYMBOLS[labels[utterance][t]] != "<eps>"
    assert (c["representation"], c["updates"], c["perplexity"], c["commit"]) == ("c", 5, 8, mfcc["commit"])
