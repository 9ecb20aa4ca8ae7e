"""Comparisons of label sets: cases whose figures can be told by hand, and counts against a walk over all frames."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from cpc_speech.datadir import write_table
from cpc_speech.errors import UserError
from cpc_speech.kaldi import write_int_vectors
from cpc_speech.phones import PHONE_ID, SYMBOLS, Interval
from data_prep.compare_labels import figures, main, text
from data_prep.label_agreement import compare
from data_prep.textgrid import write_textgrid

SECOND = 16_000


def write_ctm(path, utterances):
    """Lines of utterance -> [(start, end, phone[, confidence])], seconds."""
    lines = [
        f"{name} 1 {start:.6f} {end - start:.6f} {' '.join(map(str, rest))}\n"
        for name, phones in sorted(utterances.items())
        for start, end, *rest in phones
    ]
    path.write_text("".join(lines))
    return path


def write_scp(folder, utterances):
    folder.mkdir(parents=True)
    vectors = [(name, np.array(labels, dtype=np.int32)) for name, labels in sorted(utterances.items())]
    write_int_vectors(folder / "phones.ark", folder / "phones.scp", vectors)
    return folder / "phones.scp"


@pytest.fixture
def data(tmp_path):
    write_table(tmp_path / "data/utt2num_samples", {f"1-{letter}": SECOND for letter in "abcdefg"})
    return tmp_path / "data"


def compared(data, a, b):
    """The figures for one utterance with these phones."""
    a, b = write_ctm(data.parent / "a.ctm", {"1-a": a}), write_ctm(data.parent / "b.ctm", {"1-a": b})
    return figures(compare(data, a, b))


def test_two_transcriptions_told_by_hand(data):
    a = [(0, 0.2, "SIL"), (0.2, 0.4, "AA"), (0.4, 0.6, "B"), (0.6, 0.8, "IH"), (0.8, 1, "SIL")]
    # 15 ms later, 5 ms earlier, and IY instead of IH, of which neither boundary counts
    b = [(0, 0.215, "SIL"), (0.215, 0.395, "AA"), (0.395, 0.6, "B"), (0.6, 0.8, "IY"), (0.8, 1, "SIL")]
    found = compared(data, a, b)
    assert found["utterances"] == {"compared": 1, "only_a": 0, "only_b": 0, "not_in_data": 0}
    # frame 20 is centred at 204.9 ms and so SIL in B, frame 21 at 214.9 too; the boundary at 395 ms moves no frame
    assert found["frames"].pop("agreement_by_shift")["0"] == 78
    assert found["frames"] == {"compared": 100, "only_a": 0, "only_b": 0, "neither": 0, "agreement_percent": 78}
    assert found["boundaries"] == {
        "in_a": 4,
        "guesses": 0,
        "compared": 2,
        "median_ms": 10.0,
        "p90_ms": 14.0,  # a tenth of the way from the larger to the smaller
        "mean_ms": 5.0,
        "within_percent": {"10": 50.0, "20": 100.0, "50": 100.0},
    }
    aa = {"frames": 20, "recall_percent": 90.0, "confused": [{"b": "SIL", "percent": 10.0}]}
    assert found["phones"]["AA"] == aa
    assert found["phones"]["IH"]["recall_percent"] == 0 and "IY" not in found["phones"]
    assert found["confusions"] == [{"a": "IH", "b": "IY", "percent": 20.0}, {"a": "AA", "b": "SIL", "percent": 2.0}]
    assert found["worst"] == [{"utterance": "1-a", "agreement_percent": 78.0, "frames": 100}]


@pytest.mark.parametrize("moved", [-3, -1, 2])
def test_a_constant_offset_shows(data, moved):
    """Every phone of 100 ms, B all of it later: moved back, all frames agree, and each boundary tells the offset."""
    limits = np.arange(0.1, 1, 0.1)
    phones = ["AA", "B", "CH", "D", "EH", "F", "G", "HH", "IH", "JH"]

    def with_limits(inner):
        return list(zip([0, *inner], [*inner, 1], phones))

    found = compared(data, with_limits(limits), with_limits(limits + moved / 100))
    by_shift = found["frames"]["agreement_by_shift"]
    assert list(by_shift) == ["-3", "-2", "-1", "0", "1", "2", "3"]
    assert by_shift["0"] == 100 - 9 * abs(moved) and by_shift[str(-moved)] == 100
    boundaries = found["boundaries"]
    assert boundaries["compared"] == boundaries["in_a"] == 9
    assert boundaries["mean_ms"] == 10 * moved and boundaries["median_ms"] == boundaries["p90_ms"] == abs(10 * moved)


def test_guessed_and_interrupted_boundaries_do_not_count(data):
    a = [(0, 0.2, "SIL", 1), (0.2, 0.3, "AY", 0.5), (0.3, 0.4, "T", "1.00"), (0.45, 0.6, "S"), (0.605, 1, "SIL", "NA")]
    b = [(0, 0.2, "SIL"), (0.2, 0.3, "AY"), (0.3, 0.4, "T"), (0.4, 0.6, "S"), (0.6, 1, "SIL")]
    found = compared(data, a, b)["boundaries"]  # of AY a guess; before S 50 ms without a label, before SIL 5 ms
    assert (found["in_a"], found["guesses"], found["compared"], found["mean_ms"]) == (3, 1, 2, -2.5)
    backwards = compared(data, b, a)["boundaries"]  # only A's guesses are left out
    assert (backwards["in_a"], backwards["guesses"], backwards["compared"]) == (4, 0, 3)


def test_frames_have_their_boundaries_between_centres(data):
    """A CTM on sample 160 t - 1 and the frames that it makes have the same boundaries; all others are within 5 ms."""
    labels = [1] * 30 + [7] * 20 + [9] * 50
    cuts = [(160 * frame - 1) / SECOND for frame in (30, 50)]
    exact = [(0, cuts[0], SYMBOLS[1]), (cuts[0], cuts[1], SYMBOLS[7]), (cuts[1], 1, SYMBOLS[9])]
    a, b = write_ctm(data.parent / "a.ctm", {"1-a": exact}), write_scp(data.parent / "b", {"1-a": labels})
    comparison = compare(data, a, b)
    assert comparison.differences.tolist() == [0, 0] and figures(comparison)["frames"]["agreement_percent"] == 100
    earliest, latest = (160 * 29 + 80) / SECOND, (160 * 30 + 79) / SECOND  # that give the same frames
    for cut, samples in ((earliest, 79), (latest, -80)):
        a = write_ctm(data.parent / "a.ctm", {"1-a": [(0, cut, SYMBOLS[1]), (cut, cuts[1], SYMBOLS[7]), exact[2]]})
        comparison = compare(data, a, b)
        assert comparison.differences.tolist() == [samples, 0]
        assert figures(comparison)["frames"]["agreement_percent"] == 100


def test_random_frames_against_a_walk_over_them(data):
    random = np.random.default_rng(4)
    a = {f"1-{letter}": random.integers(0, 5, 100) for letter in "abcdefgx"}  # x is not in the data directory
    b = {name: np.where(random.random(100) < 0.7, labels, random.integers(0, 5, 100)) for name, labels in a.items()}
    del a["1-b"], b["1-c"]
    comparison = compare(data, write_scp(data.parent / "a", a), write_scp(data.parent / "b", b))
    found = figures(comparison, confusions=3)
    assert found["utterances"] == {"compared": 5, "only_a": 1, "only_b": 1, "not_in_data": 1}
    names = [f"1-{letter}" for letter in "adefg"]
    pairs = Counter((int(x), int(y)) for name in names for x, y in zip(a[name], b[name]))
    assert {pair: comparison.pairs[pair] for pair in pairs} == pairs and comparison.pairs.sum() == 500
    for shift in range(-3, 4):
        both = [
            (a[name][t], b[name][t - shift])
            for name in names
            for t in range(100)
            if 0 <= t - shift < 100 and a[name][t] and b[name][t - shift]
        ]
        share = 100 * sum(x == y for x, y in both) / len(both)
        assert found["frames"]["agreement_by_shift"][str(shift)] == pytest.approx(share, abs=0.0005)  # 3 decimals
    assert found["frames"]["only_a"] == sum(n for (x, y), n in pairs.items() if x and not y)
    assert found["frames"]["only_b"] == sum(n for (x, y), n in pairs.items() if y and not x)
    wrong = sorted((n for (x, y), n in pairs.items() if x and y and x != y), reverse=True)
    whole = found["frames"]["compared"]
    assert [row["percent"] for row in found["confusions"]] == [round(100 * n / whole, 3) for n in wrong[:3]]
    shares = [row["agreement_percent"] for row in found["worst"]]
    assert shares == sorted(shares) and {row["utterance"] for row in found["worst"]} == set(names)


def test_the_command_prints_and_writes_json(data, capsys):
    a = write_ctm(data.parent / "a.ctm", {"1-a": [(0, 0.5, "SIL"), (0.5, 1, "AA")], "1-b": [(0, 1, "SIL")]})
    b = write_ctm(data.parent / "b.ctm", {"1-a": [(0, 0.4, "SIL"), (0.4, 1, "AA")]})
    main([str(data), str(a), str(b), "--json", str(data.parent / "x.json"), "--confusions", "0"])
    printed = capsys.readouterr().out
    assert "1 compared; only in A: 1, only in B: 0" in printed and "90.00 % of 100 agree" in printed
    assert "B later by -100.00 ms" in printed and "SIL          50   80.00  AA 20.00" in printed
    written = json.loads((data.parent / "x.json").read_text())
    assert (written["a"], written["b"]) == (str(a), str(b))
    assert text(written) in printed and written["confusions"] == []


def test_what_there_is_nothing_to_compute_from_is_null(data):
    found = compared(data, [(0, 0.5, "SIL")], [(0.5, 1, "SIL")])
    assert found["frames"]["agreement_percent"] is None and found["frames"]["only_b"] == 50 and not found["worst"]
    assert found["boundaries"]["mean_ms"] is None and found["boundaries"]["within_percent"]["10"] is None
    assert "- % of 0 agree" in text(found)


def test_mistakes(data, tmp_path):
    a = write_ctm(tmp_path / "a.ctm", {"1-a": [(0, 1, "SIL")]})
    other = write_ctm(tmp_path / "b.ctm", {"lbi-1-a": [(0, 1, "SIL")]})
    with pytest.raises(UserError, match="no utterance of .* in common .1 are only in the first, 1 only in the second"):
        compare(data, a, other)
    with pytest.raises(UserError, match="phones.scp: 1-a has 50 labels for 100 frames of audio"):
        compare(data, a, write_scp(tmp_path / "b", {"1-a": [PHONE_ID["AA"]] * 50}))
    with pytest.raises(UserError, match="a label outside 0..41"):
        compare(data, a, write_scp(tmp_path / "c", {"1-a": [42] * 100}))
    with pytest.raises(UserError, match="a.ctm: 1-a ends at 1.200 s, its audio at 1.000 s"):
        compare(data, write_ctm(tmp_path / "a.ctm", {"1-a": [(0, 1.2, "SIL")]}), a)
    with pytest.raises(UserError, match="no such file"):
        compare(data, tmp_path / "none.scp", a)
    with pytest.raises(UserError, match="--confusions -1"):
        main([str(data), str(a), str(a), "--confusions", "-1"])


def test_a_folder_of_textgrids_is_what_its_ctm_is(data):
    phones = [(0, 0.2, "SIL"), (0.2, 0.43, "AA"), (0.43, 0.6, "AA"), (0.6, 1, "SIL")]
    write_textgrid(data.parent / "grids/a/1-b.TextGrid", [Interval(*phone) for phone in phones], 1.0)
    write_textgrid(data.parent / "grids/b/1-a.TextGrid", [Interval(*phone) for phone in phones], 1.0)  # C order: first
    later = [(max(0, start - 0.02), end - 0.02, phone) for start, end, phone in phones]
    other = write_ctm(data.parent / "b.ctm", {"1-a": later, "1-b": phones})
    same = write_ctm(data.parent / "a.ctm", {"1-a": phones, "1-b": phones})
    assert figures(compare(data, data.parent / "grids", other)) == figures(compare(data, same, other))
    write_table(data / "utt2num_samples", {"1-a": 2 * SECOND, "1-b": SECOND})
    with pytest.raises(UserError, match="1-a ends at 1.000 s, its audio at 2.000 s"):
        compare(data, data.parent / "grids", other)
    write_textgrid(data.parent / "grids/b/1-b.TextGrid", [Interval(0, 1, "SIL")], 1.0)
    with pytest.raises(UserError, match="1-b has .*a/1-b.TextGrid too"):
        compare(data, data.parent / "grids", same)
