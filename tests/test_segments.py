from __future__ import annotations

import os
from pathlib import Path

import pytest

from cpc_speech.errors import UserError
from cpc_speech.segments import Segment, read_segments


def audio(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")  # it is not looked at
    return path


def test_folders_and_files_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio(tmp_path / "in" / "anna" / "day 1" / "x.wav")
    audio(tmp_path / "in" / "solo.flac")
    audio(tmp_path / "a talk.v2.mp3")
    monkeypatch.chdir(tmp_path)
    found = read_segments([Path("in"), Path("a talk.v2.mp3")])
    assert [(s.utterance, s.speaker, s.path) for s in found] == [
        ("a-talk.v2", "a-talk.v2", f"{tmp_path}/a talk.v2.mp3"),
        ("anna-day-1-x", "anna", f"{tmp_path}/in/anna/day 1/x.wav"),
        ("solo", "solo", f"{tmp_path}/in/solo.flac"),
    ]
    assert all(s.recording == s.utterance and (s.start, s.end) == (0, -1) for s in found)


def test_one_id_twice(tmp_path: Path) -> None:
    first, second = audio(tmp_path / "a" / "x.wav"), audio(tmp_path / "b" / "x.wav")
    with pytest.raises(UserError, match=f"{second}: {first} gives the same id x; rename"):
        read_segments([first, second])


@pytest.mark.parametrize("name", ["a\nb.wav", os.fsdecode(b"gr\xfc\xdfe.wav")])
def test_names_that_no_table_can_hold(tmp_path: Path, name: str) -> None:
    """Given by itself, or found in a folder; the second is no UTF-8."""
    for given in (audio(tmp_path / "in" / name), tmp_path / "in"):
        with pytest.raises(UserError, match="1 problem:\n.*unprintable characters in the name; rename"):
            read_segments([given])


def test_a_name_of_spaces_is_an_id(tmp_path: Path) -> None:
    path = audio(tmp_path / "  .wav")
    assert [segment.utterance for segment in read_segments([path])] == ["-"]
    assert [segment.utterance for segment in read_segments([tmp_path])] == ["-"]


def test_data_directories_are_not_joined(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "wav.scp").write_text(f"{name} /{name}.wav\n")
    single = audio(tmp_path / "x.wav")
    for inputs in (["a", "b"], ["a", "x.wav"], ["x.wav", "a"]):
        with pytest.raises(UserError, match=f"{tmp_path}/a: is a Kaldi data directory, of which one is read at a time"):
            read_segments([tmp_path / name for name in inputs])
    assert len(read_segments([single])) == 1


def test_a_kaldi_directory_without_speakers(tmp_path: Path) -> None:
    (tmp_path / "wav.scp").write_text("r1 /a/r1.wav\nr2 flac -c -d -s /a/r2.flac |\n")
    assert read_segments([tmp_path]) == [
        Segment("r1", "r1", "r1", "/a/r1.wav"),
        Segment("r2", "r2", "r2", "flac -c -d -s /a/r2.flac |"),
    ]
    assert read_segments([tmp_path])[1].path == "/a/r2.flac"


def test_segments_of_a_kaldi_directory(tmp_path: Path) -> None:
    (tmp_path / "wav.scp").write_text("r1 /a/r1.wav\n")
    (tmp_path / "segments").write_text("ann-1 r1 0.5 2.25\nbob-1 r1 3 -1\n")
    (tmp_path / "utt2spk").write_text("ann-1 ann\nbob-1 bob\n")
    assert read_segments([tmp_path]) == [
        Segment("ann-1", "ann", "r1", "/a/r1.wav", 0.5, 2.25),
        Segment("bob-1", "bob", "r1", "/a/r1.wav", 3, -1),
    ]


@pytest.mark.parametrize("times", ["0.5", "0.5 0.5", "2 1", "-1 1", "0 nan", "0 inf", "inf -1", "0 1 2", "a b"])
def test_times_that_are_none(tmp_path: Path, times: str) -> None:
    (tmp_path / "wav.scp").write_text("r1 /a/r1.wav\n")
    (tmp_path / "segments").write_text(f"u1 r1 {times}\n")
    with pytest.raises(UserError, match=r"segments: u1: 'r1 .*' is no `recording start end` in seconds"):
        read_segments([tmp_path])
