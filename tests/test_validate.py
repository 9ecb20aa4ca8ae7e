from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cpc_speech.errors import UserError
from cpc_speech.kaldi import write_int_vectors
from cpc_speech.phones import write_symbols
from data_prep import validate as module
from data_prep.librispeech import main as scan
from data_prep.pack import pack
from data_prep.splits import main as split
from data_prep.validate import main, validate


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A complete, valid data directory: two speakers, four utterances of 0.5 s."""
    for reader in ("1", "2"):
        chapter = tmp_path / "corpus" / reader / "7"
        chapter.mkdir(parents=True)
        lines = ""
        for number in range(2):
            utterance = f"{reader}-7-{number}"
            soundfile.write(chapter / f"{utterance}.flac", np.full(8000, 5, np.int16), 16_000)
            lines += f"{utterance} HELLO\n"
        (chapter / f"{reader}-7.trans.txt").write_text(lines)
    folder = tmp_path / "data"
    scan([str(tmp_path / "corpus"), str(folder)])
    pack(folder)
    label(folder, {key: 50 for key in ("1-7-0", "1-7-1", "2-7-0", "2-7-1")})
    split([str(folder)])
    return folder


def label(folder: Path, frames: dict[str, int], value: int = 41) -> None:
    items = ((key, np.full(length, value, np.int32)) for key, length in sorted(frames.items()))
    write_int_vectors(folder / "phones.ark", folder / "phones.scp", items)
    write_symbols(folder.parent / "lang")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_valid(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(data)])
    assert capsys.readouterr().out == f"{data}: valid: 4 utterances, 2 speakers, 0.00 h\n"
    for stage in ("audio", "phones", "splits"):
        validate(data, stage)


def test_tabs_part_as_spaces_do(data: Path) -> None:
    for name in ("wav.scp", "utt2spk", "text"):
        (data / name).write_text((data / name).read_text().replace(" ", "\t"))
    validate(data, "audio")


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda folder: edit(folder / name, old, new)


def audio_moved(folder: Path) -> None:
    (folder.parent / "corpus" / "2" / "7" / "2-7-1.flac").unlink()


def shard_cut(folder: Path) -> None:
    (folder / "audio.000.i16").write_bytes(b"\0" * 10)


def label_lost(folder: Path) -> None:
    label(folder, {"1-7-0": 50, "1-7-1": 50, "2-7-0": 50})


def label_long(folder: Path) -> None:
    label(folder, {"1-7-0": 50, "1-7-1": 51, "2-7-0": 50, "2-7-1": 50})


def label_high(folder: Path) -> None:
    label(folder, {key: 50 for key in ("1-7-0", "1-7-1", "2-7-0", "2-7-1")}, value=42)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("wav.scp"), "wav.scp: missing; run the stage"),
        (remove("spk2utt"), "spk2utt: missing"),
        (replace("wav.scp", "2-7-1 ", "2-7-1 cat "), "wav.scp: 2-7-1: cat /.*no such file"),
        (replace("wav.scp", "2-7-1.flac", "2-7-1.flac |"), "2-7-1: .*neither a file nor"),
        (audio_moved, "wav.scp: 2-7-1: .*2-7-1.flac: no such file; restore it"),
        (replace("utt2spk", "1-7-0 1\n", ""), "wav.scp: 1-7-0 is not in utt2spk"),
        (replace("utt2spk", "1-7-0 1\n", "1-7-0 1\n1-7-0 1\n"), "utt2spk:2: 1-7-0 stands here a second time"),
        (replace("utt2spk", "1-7-0 1\n1-7-1 1\n", "1-7-1 1\n1-7-0 1\n"), "utt2spk:2: .*LC_ALL=C sort -o"),
        (replace("utt2spk", "1-7-0 1\n", "1-7-0 1\n\n"), "utt2spk:2: no id"),
        (replace("utt2spk", "1-7-0 1", "1-7-0 2"), "1-7-0 does not start with its speaker '2'"),
        (replace("spk2utt", "2 2-7-0 2-7-1", "2 2-7-0"), "spk2utt: not the inverse of utt2spk at 2-7-1 of 2"),
        (replace("utt2dur", "1-7-0 0.5", "1-7-0 none"), "utt2dur: 1-7-0 has no positive duration but 'none'"),
        (replace("utt2dur", "1-7-0 0.5", "1-7-0 0.6"), "utt2dur: 1-7-0 has 0.6 s for 8000 samples"),
        (replace("text", "1-7-0 HELLO", "1-7-0"), "text: 1-7-0 has no words"),
        (replace("text", "1-7-0 HELLO\n", ""), "text: 1-7-0 of utt2spk is missing"),
        (replace("audio.scp", "i16:8000", "i16:8001"), "audio.scp: 1-7-1 .*run python -m data_prep.pack"),
        (replace("audio.scp", "2-7-1 audio.000.i16:24000\n", ""), "audio.scp: 2-7-1 of utt2spk is missing"),
        (remove("utt2num_samples"), "utt2num_samples: missing"),
        (shard_cut, "audio.000.i16: 10 bytes, 64,000 expected"),
        (label_lost, "phones.scp: 2-7-1 of utt2spk is missing"),
        (label_long, "phones.scp: 1-7-1 has 51 labels"),
        (label_high, "phones.scp: 1-7-0 has labels outside 0..41"),
        (remove("../lang/phones.txt"), "lang/phones.txt: no such file; run stage 2"),
        (replace("../lang/phones.txt", "ZH 41", "ZZ 41"), "lang/phones.txt:42: 'ZH 41' should stand here"),
        (remove("phones.ark"), "phones.ark: .*again"),
        (replace("splits/train.list", "1", "9"), "train.list: 9.* is not in utt2spk"),
        (replace("splits/dev.list", "1-7-", "2-7-"), "is in train too|is in no list"),
        (remove("splits/test.list"), "test.list: missing"),
        (remove("splits/splits.json"), "splits.json: missing or unreadable; run python -m data_prep.splits"),
    ],
)
def test_each_fault_is_found(data: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(data)
    with pytest.raises(UserError, match=message):
        validate(data)


def test_all_faults_at_once(data: Path) -> None:
    edit(data / "utt2spk", "1-7-0 1\n", "\n")
    edit(data / "text", "2-7-1 HELLO", "2-7-1")
    shard_cut(data)
    label_high(data)
    (data / "splits" / "dev.list").unlink()
    with pytest.raises(UserError) as caught:
        validate(data)
    message = str(caught.value)
    for part in ("utt2spk:1", "text: 2-7-1", "audio.000.i16", "outside 0..41", "dev.list: missing"):
        assert part in message


def test_many_faults_of_a_kind_are_counted(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHOWN", 1)
    edit(data / "text", "HELLO", "")
    with pytest.raises(UserError, match=r"(?s)2 problems.*1-7-0 has no words; add them\n.*and 3 more"):
        validate(data)


def test_dropped_utterances_need_no_labels(data: Path) -> None:
    label_lost(data)
    (data / "labels.dropped").write_text("2-7-1 no path through the words\n")
    validate(data, "phones")


@pytest.mark.parametrize(
    ("stage", "file"), [("audio", "audio.scp"), ("phones", "phones.scp"), ("splits", "splits/train.list")]
)
def test_a_stage_demands_what_it_makes(data: Path, stage: str, file: str) -> None:
    (data / file).unlink()
    validate(data)
    with pytest.raises(UserError, match=f"{file}: missing"):
        validate(data, stage)


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such data directory"):
        validate(tmp_path / "x")
    (tmp_path / "y").mkdir()
    with pytest.raises(UserError, match="utt2spk: missing"):
        validate(tmp_path / "y")
