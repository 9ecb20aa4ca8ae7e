from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from cpc_speech.errors import UserError
from data_prep.folder import main

NOISE = (np.random.default_rng(0).standard_normal(1600) * 1000).astype(np.int16)


def write(path: Path, rate: int = 16_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, NOISE, rate)
    return path


def test_speakers_and_ids_from_the_folders(tmp_path: Path) -> None:
    source, data = tmp_path / "in", tmp_path / "out"
    write(source / "anna maria" / "day 1" / "x.wav")
    write(source / "anna maria" / "y.FLAC")
    write(source / "bob" / "z.ogg")
    write(source / "solo take.mp3", 8_000)
    write(source / ".trash" / "old.wav")
    (source / "bob" / "round").symlink_to(source)
    (source / "notes.txt").write_text("not audio")
    (data / "text").parent.mkdir()
    (data / "text").write_text("of an earlier corpus\n")
    main([str(source), str(data)])
    assert (data / "utt2spk").read_text().splitlines() == [
        "anna-maria-day-1-x anna-maria",
        "anna-maria-y anna-maria",
        "bob-z bob",
        "solo-take solo-take",
    ]
    first = (data / "wav.scp").read_text().splitlines()[0]
    assert first == f"anna-maria-day-1-x {source}/anna maria/day 1/x.wav"
    assert (data / "utt2dur").read_text().splitlines()[3] == "solo-take 0.2"
    assert not (data / "text").exists()


def test_one_id_for_two_files(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a" / "b.flac"), write(tmp_path / "a" / "b.wav")
    third = write(tmp_path / "a-b.wav")
    with pytest.raises(UserError) as caught:
        main([str(tmp_path), str(tmp_path / "data")])
    message = str(caught.value)
    assert "2 problems" in message and all(str(path) in message for path in (first, second, third))
    assert not (tmp_path / "data").exists()


def test_unreadable_files_are_listed_together(tmp_path: Path) -> None:
    for name in ("a.wav", "b.flac"):
        (tmp_path / name).write_bytes(b"not audio")
    with pytest.raises(UserError, match=r"(?s)2 problems.*a\.wav.*b\.flac"):
        main([str(tmp_path), str(tmp_path / "data")])


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no audio here"):
        main([str(tmp_path), str(tmp_path / "data")])
    with pytest.raises(UserError, match="no such folder"):
        main([str(tmp_path / "x"), str(tmp_path / "data")])
    with pytest.raises(UserError, match="another folder"):
        main([str(tmp_path), str(tmp_path)])


def test_kaldi_directory(tmp_path: Path) -> None:
    source, data = tmp_path / "kaldi", tmp_path / "out"
    plain, piped = write(tmp_path / "audio" / "1.wav"), write(tmp_path / "audio" / "2.flac")
    source.mkdir()
    (source / "wav.scp").write_text(f"s1-a {plain}\ns2-b flac -c -d -s {piped} |\n")
    main([str(source), str(data)])
    assert (data / "utt2spk").read_text() == "s1-a s1-a\ns2-b s2-b\n"
    (source / "utt2spk").write_text("s1-a s1\ns2-b s2\n")
    main([str(source), str(data)])
    assert (data / "utt2spk").read_text() == "s1-a s1\ns2-b s2\n"
    assert (data / "wav.scp").read_text() == f"s1-a {plain}\ns2-b {piped}\n"


def test_kaldi_directory_refused(tmp_path: Path) -> None:
    source, data = tmp_path / "kaldi", tmp_path / "out"
    good = write(tmp_path / "1.wav")
    source.mkdir()
    (source / "wav.scp").write_text(f"a sox {good} - |\nb {tmp_path}/missing.wav\nc {good}\nd {good}\n")
    (source / "utt2spk").write_text("a a\nb b\nc x\ne e\n")
    with pytest.raises(UserError) as caught:
        main([str(source), str(data)])
    problems = str(caught.value).splitlines()[1:]
    assert len(problems) == 5
    for part in ("e is not in wav.scp", "a: 'sox", "missing.wav: no such", "does not start", "d has no"):
        assert sum(part in problem for problem in problems) == 1, part
    (source / "segments").write_text("a r 0 1\n")
    with pytest.raises(UserError, match="segments: .*not supported"):
        main([str(source), str(data)])
    assert not data.exists()
