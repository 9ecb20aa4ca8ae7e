"""What aligners keep while they work."""

from __future__ import annotations

import numpy as np

from cpc_speech.packed import PackedAudio
from data_prep.alignment import Job, add_seconds, chunked, digest, take_up, why_not


def test_what_is_kept_counts_only_for_the_same_inputs(tmp_path):
    take_up(tmp_path, "one", ["*.json"])
    for name in ("000003.json", "notes.txt"):
        (tmp_path / name).write_text("")
    take_up(tmp_path, "one", ["*.json"])
    assert (tmp_path / "000003.json").exists()
    take_up(tmp_path, "two", ["*.json"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digest", "notes.txt"]


def test_digest_tells_inputs_apart(tmp_path):
    def of(*facts, **pronunciations):
        return digest(Job(tmp_path, audio, {}, pronunciations, tmp_path, 1), *facts)

    for name in ("text", "utt2num_samples", "utt2spk", "audio.scp"):
        (tmp_path / name).write_text("")
    audio = PackedAudio(tmp_path)
    known = [of(1), of(2), of(1, A=[("AH",)]), of(1, A=[("EY",)])]
    (tmp_path / "text").write_text("1-a A\n")
    known.append(of(1))
    np.zeros(3, np.int16).tofile(tmp_path / "audio.000.i16")
    known.append(of(1))
    assert len(set(known)) == len(known) and of(1) == known[-1]


def test_chunks_and_reasons():
    assert chunked([5, 6, 7, 9, 11], 2) == [[5, 6], [7, 9], [11]] and chunked([], 2) == []
    assert why_not(159, ["A"], "") == "shorter than one frame"
    assert why_not(24_000, ["A", "B"], "beam 40") == "its 2 words do not fit its 1.50 s of audio (beam 40)"


def test_seconds_add_up_until_inputs_change(tmp_path):
    take_up(tmp_path, "one", [])
    assert add_seconds(tmp_path, 1.5) == 1.5 and add_seconds(tmp_path, 2.25) == 3.75
    take_up(tmp_path, "one", [])
    assert add_seconds(tmp_path, 1.0) == 4.75
    take_up(tmp_path, "two", [])
    assert add_seconds(tmp_path, 1.0) == 1.0
