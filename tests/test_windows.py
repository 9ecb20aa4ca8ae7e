"""Window sampling against enumeration of everything that may be drawn."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import oracles
import pytest

from cpc_speech.errors import UserError
from cpc_speech.packed import PackedAudio
from cpc_speech.windows import Window, WindowSampler, dev_seed, load_windows

W = 3  # samples of a window, in the small worlds below
LENGTHS = [9, 2, 5, 7, 3, 8, 6]
SPEAKERS = ["b", "b", "a", "c", "a", "c", "b"]


def sampler(same_speaker: bool, windows: int = 2, seed: int = 0, lengths: list[int] = LENGTHS) -> WindowSampler:
    return WindowSampler(np.array(lengths), SPEAKERS[: len(lengths)], W, windows, same_speaker, seed)


@pytest.mark.parametrize("same_speaker", [False, True])
def test_every_window_of_every_utterance_is_reached_and_nothing_else(same_speaker: bool) -> None:
    draw = sampler(same_speaker)
    seen = {tuple(window) for update in range(1500) for window in draw.minibatch(update, 0)}
    assert seen == set(oracles.all_windows(LENGTHS, W))


@pytest.mark.parametrize("same_speaker", [False, True])
@pytest.mark.parametrize("windows", [1, 2])
def test_windows_of_a_minibatch_never_overlap_and_share_a_speaker_where_they_should(
    same_speaker: bool, windows: int
) -> None:
    draw = sampler(same_speaker, windows)
    mixed = 0
    for update in range(400):
        chosen = draw.minibatch(update, 1)
        assert len(chosen) == windows
        for a, first in enumerate(chosen):
            assert not any(oracles.overlap(first, second, W) for second in chosen[:a])
        mixed += len({SPEAKERS[window.utterance] for window in chosen}) > 1
    assert mixed == 0 if same_speaker or windows == 1 else mixed > 100


@pytest.mark.parametrize("same_speaker", [False, True])
def test_minibatches_are_drawn_with_the_probabilities_of_the_definition(same_speaker: bool) -> None:
    draw, draws = sampler(same_speaker), 12000
    expected = oracles.minibatch_probabilities(LENGTHS, SPEAKERS, W, same_speaker)
    observed = Counter(tuple(tuple(window) for window in draw.minibatch(update, 0)) for update in range(draws))
    assert set(observed) <= set(expected)
    # The seed is fixed, so that this passes always or never; 4 standard deviations of a correct sampler's χ²
    # are exceeded by one seed in ten thousand.
    assert oracles.chi_square([observed[pair] for pair in expected], [draws * p for p in expected.values()]) < 4


@pytest.mark.parametrize("same_speaker", [False, True])
def test_utterances_are_drawn_in_proportion_to_their_windows(same_speaker: bool) -> None:
    lengths = [100, 30, 64, 2, 400]
    draw = WindowSampler(np.array(lengths), ["x", "y", "x", "y", "y"], 10, 1, same_speaker, 5)
    draws = 4000
    observed = Counter(draw.minibatch(update, 0)[0].utterance for update in range(draws))
    held = {u: n - 9 for u, n in enumerate(lengths) if n >= 10}
    assert set(observed) == set(held)
    total = sum(held.values())
    assert oracles.chi_square([observed[u] for u in held], [draws * n / total for n in held.values()]) < 4  # as above


def test_a_minibatch_depends_on_seed_update_and_number_alone() -> None:
    keys = [(u, j) for u in range(20) for j in range(3)]

    def sampler(seed: int) -> WindowSampler:
        return WindowSampler(np.array([9000, 8000, 7000]), ["a", "b", "a"], 100, 4, True, seed)

    first, second = sampler(0), sampler(0)
    forwards = {key: first.minibatch(*key) for key in keys}
    assert {key: second.minibatch(*key) for key in reversed(keys)} == forwards
    assert len({tuple(chosen) for chosen in forwards.values()}) == len(keys)  # no coordinate is ignored
    assert sampler(1).minibatch(0, 0) != forwards[0, 0]


def test_dev_seed_is_a_fixed_other_seed() -> None:
    assert len({dev_seed(seed) for seed in range(100)} - set(range(100))) == 100
    assert dev_seed(1) == int.from_bytes(hashlib.sha256(b"dev 1").digest()[:6], "big")  # never Python's salted hash


def test_short_utterances_and_small_speakers_are_counted() -> None:
    draw = WindowSampler(np.array([2, 9, 30, 2]), ["a", "a", "b", "c"], W, 4, True, 0)
    assert draw.too_short == 2
    assert draw.left_out == ["a", "c"]  # 3 windows side by side at most, and none
    assert {window.utterance for u in range(50) for window in draw.minibatch(u, 0)} == {2}
    assert WindowSampler(np.array([2, 9, 30, 2]), ["a", "a", "b", "c"], W, 4, False, 0).left_out == []


@pytest.mark.parametrize(
    "lengths, windows, same_speaker",
    [([2, 2], 1, False), ([5, 2], 2, False), ([5, 5], 2, True), ([], 1, False)],
)
def test_too_small_a_corpus_is_refused_at_once(lengths: list[int], windows: int, same_speaker: bool) -> None:
    with pytest.raises(UserError, match=f"{windows} windows of 3 samples"):
        WindowSampler(np.array(lengths, dtype=int), ["a", "b"][: len(lengths)], W, windows, same_speaker, 0)


@pytest.mark.parametrize("same_speaker", [False, True])
@pytest.mark.parametrize(
    "lengths", [[16_000, 100_000], [16_000], [26_000], [40_000], [9000, 9000], [2000] * 7 + [2001]]
)
def test_what_the_constructor_accepts_can_be_drawn(lengths: list[int], same_speaker: bool) -> None:
    """Eight windows of 2,000 samples just fit into 16,000, but random starts practically never find that. Such a
    speaker must be left out, or refused, before the first update: an error at update 100,000 could not be mended."""
    speakers = ["tight", *["roomy" if lengths[-1] == 100_000 else "tight"] * (len(lengths) - 1)]
    try:
        draw = WindowSampler(np.array(lengths), speakers, 2000, 8, same_speaker, 0)
    except UserError:
        return
    for update in range(60):
        assert len(draw.minibatch(update, 0)) == 8


def test_same_start_in_another_utterance_is_no_overlap() -> None:
    draw = WindowSampler(np.array([3, 3]), ["a", "b"], W, 2, False, 0)
    assert sorted(draw.minibatch(0, 0)) == [Window(0, 0), Window(1, 0)]


def test_load_gives_the_samples_and_no_others(data: Path) -> None:
    audio = PackedAudio(data)
    everything = np.fromfile(data / "audio.000.i16", "<i2")
    starts = [int(line.rsplit(":", 1)[1]) for line in (data / "audio.scp").read_text().splitlines()]
    last = int(audio.num_samples[35]) - 320
    batch = load_windows(audio, [Window(0, 0), Window(7, 5), Window(35, last)], 320)
    assert batch.dtype == np.int16 and batch.shape == (3, 320)
    for row, (u, start) in zip(batch, [(0, 0), (7, 5), (35, last)], strict=True):
        np.testing.assert_array_equal(row, everything[starts[u] + start :][:320])
    with pytest.raises(IndexError):
        load_windows(audio, [Window(0, int(audio.num_samples[0]) - 319)], 320)
