"""The label of a frame is the phone at its centre, and the centre is where the encoder's receptive field has it."""

from __future__ import annotations

import numpy as np
import pytest

from cpc_speech.datadir import write_table
from cpc_speech.errors import UserError
from cpc_speech.kaldi import write_int_vectors
from cpc_speech.phones import (
    ARPABET,
    CENTRE,
    HOP,
    NUMBERED,
    SYMBOLS,
    Interval,
    intervals_from_labels,
    labels_from_intervals,
    read_phones,
    read_symbols,
    strip_stress,
    write_symbols,
)


def receptive_field(frame: int) -> tuple[int, int]:
    """First and last sample that reach an encoder frame, by pushing an impulse mask through the strided windows.

    Kernels, strides and paddings as the paper's encoder has them (3,2,1,1,1 padding gives n // 160 frames).
    """
    seen = {frame}
    for kernel, stride, padding in reversed(list(zip((10, 8, 4, 4, 4), (5, 4, 2, 2, 2), (3, 2, 1, 1, 1), strict=True))):
        seen = {out * stride - padding + tap for out in seen for tap in range(kernel)}
    return min(seen), max(seen)


def test_the_centre_is_that_of_the_receptive_field():
    for frame in (0, 1, 7):
        first, last = receptive_field(frame)
        assert (first, last) == (HOP * frame - 153, HOP * frame + 311)
        assert HOP * frame + CENTRE == (first + last) // 2


@pytest.mark.parametrize("seed", range(20))
def test_labels_equal_a_lookup_of_every_sample(seed):
    random = np.random.default_rng(seed)
    samples = int(random.integers(0, 4_000))
    cuts = np.sort(random.integers(0, samples + 400, size=random.integers(2, 30)))
    intervals, phone_at = [], np.zeros(samples + 400, dtype=np.int64)
    for start, end in zip(cuts[:-1], cuts[1:], strict=True):
        if random.random() < 0.2:
            continue  # a gap stays unlabelled
        phone = int(random.integers(1, len(SYMBOLS)))
        intervals.append(Interval(start / 16_000, end / 16_000, SYMBOLS[phone]))
        phone_at[start:end] = phone
    labels = labels_from_intervals(intervals, samples)
    assert labels.dtype == np.int32
    assert labels.tolist() == [phone_at[160 * t + 79] for t in range(samples // 160)]


@pytest.mark.parametrize("seed", range(20))
def test_frames_become_intervals_and_frames_again(seed):
    random = np.random.default_rng(seed)
    samples = int(random.integers(0, 4_000))
    labels = np.repeat(random.integers(0, len(SYMBOLS), 30), random.integers(1, 5, 30))[: samples // 160]
    labels = labels.astype(np.int32)
    intervals = intervals_from_labels(labels, samples)
    assert labels_from_intervals([x for x in intervals if x.phone != "<eps>"], samples).tolist() == labels.tolist()
    # without gap from end to end, each boundary half-way between the centres of the frames beside it
    assert all(left.end == right.start and left.phone != right.phone for left, right in zip(intervals, intervals[1:]))
    if len(labels):
        assert (intervals[0].start, intervals[-1].end) == (0, samples / 16_000)
    changes = [t for t in range(1, len(labels)) if labels[t] != labels[t - 1]]
    assert [x.start for x in intervals[1:]] == [((160 * t - 81) + (160 * t + 79)) / 2 / 16_000 for t in changes]


def test_ten_millisecond_grids_fall_on_frames():
    labels = labels_from_intervals([Interval(0, 0.03, "SIL"), Interval(0.03, 0.05, "AA")], 960)
    assert labels.tolist() == [1, 1, 1, 3, 3, 0]


@pytest.mark.parametrize("bad", [(0, 1, "AH0"), (0, 1, "<eps>"), (1, 0.5, "AA"), (-1, 1, "AA")])
def test_bad_intervals_are_refused(bad):
    with pytest.raises(UserError):
        labels_from_intervals([Interval(*bad)], 16_000)


def test_the_symbol_table_is_as_published(tmp_path):
    write_symbols(tmp_path / "lang")
    lines = (tmp_path / "lang/phones.txt").read_text().splitlines()
    assert lines[:4] == ["<eps> 0", "SIL 1", "SPN 2", "AA 3"] and lines[-1] == "ZH 41" and len(ARPABET) == 39
    assert read_symbols(tmp_path / "data") == SYMBOLS


def test_there_are_two_tables_and_no_third(tmp_path):
    numbers = ["<eps> 0", *(f"P{number:02d} {number + 1}" for number in range(41))]
    write_symbols(tmp_path / "lang", NUMBERED)
    path = tmp_path / "lang/phones.txt"
    assert path.read_text().splitlines() == numbers
    assert read_symbols(tmp_path / "data") == NUMBERED
    for wrong, place in (
        (["<eps> 0", "SIL 1", *numbers[2:]], 3),
        (numbers[:-1], 42),
        ([*numbers, "P41 42"], 43),
        ([], 1),
        ([*numbers[:9], "P08  9", *numbers[10:]], 10),
    ):
        path.write_text("\n".join(wrong) + "\n" * bool(wrong))
        with pytest.raises(UserError, match=f"lang/phones.txt:{place}: .*run stage 2"):
            read_symbols(tmp_path / "data")
    path.unlink()
    with pytest.raises(UserError, match="lang/phones.txt: no such file; run stage 2"):
        read_symbols(tmp_path / "data")


def test_stress_is_stripped():
    assert [strip_stress(phone) for phone in ("AH0", "OY1", "ER2", "ZH")] == ["AH", "OY", "ER", "ZH"]


def test_read_phones_checks_length_and_range(tmp_path):
    write_table(tmp_path / "utt2num_samples", {"a": 479, "b": 320, "c": 160})
    labels = {"a": [0, 41], "b": [1], "c": [42]}
    items = [(name, np.array(ids, dtype=np.int32)) for name, ids in labels.items()]
    write_int_vectors(tmp_path / "phones.ark", tmp_path / "phones.scp", items)
    assert read_phones(tmp_path, ["a"])["a"].tolist() == [0, 41]
    with pytest.raises(UserError, match="b has 1 labels for 2 frames"):
        read_phones(tmp_path, ["a", "b"])
    with pytest.raises(UserError, match="outside"):
        read_phones(tmp_path, ["c"])
