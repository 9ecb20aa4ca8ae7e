from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cpc_speech.errors import UserError
from data_prep.librispeech import find_subsets, main

REAL = Path(__file__).resolve().parents[2] / "shared" / "corpora" / "LibriSpeech"


def add_chapter(subset: Path, reader: str, chapter: str, texts: list[str]) -> Path:
    folder = subset / reader / chapter
    folder.mkdir(parents=True)
    lines = []
    for number, text in enumerate(texts):
        utterance = f"{reader}-{chapter}-{number:04d}"
        soundfile.write(folder / f"{utterance}.flac", np.full(1600 * (number + 1), 7, np.int16), 16_000)
        lines.append(f"{utterance} {text}\n")
    (folder / f"{reader}-{chapter}.trans.txt").write_text("".join(lines))
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    root = tmp_path / "My Corpora" / "LibriSpeech"
    add_chapter(root / "dev-clean", "84", "11", ["ONE TWO", "THREE"])
    add_chapter(root / "dev-clean", "840", "2", ["FOUR"])
    add_chapter(root / "train-clean-5", "9", "30", ["FIVE"])
    (root / "README.TXT").write_text("...")
    return root


def test_data_directory(corpus: Path, tmp_path: Path) -> None:
    data = tmp_path / "data" / "mini"
    main([str(corpus), str(data), "--note", "a note"])
    ids = ["84-11-0000", "84-11-0001", "840-2-0000", "9-30-0000"]
    wavs = [line.split(" ", 1) for line in (data / "wav.scp").read_text().splitlines()]
    assert [key for key, _ in wavs] == ids == sorted(ids)
    assert all(Path(path).is_absolute() and Path(path).is_file() for _, path in wavs)
    assert (data / "utt2spk").read_text() == "84-11-0000 84\n84-11-0001 84\n840-2-0000 840\n9-30-0000 9\n"
    assert (data / "spk2utt").read_text() == "84 84-11-0000 84-11-0001\n840 840-2-0000\n9 9-30-0000\n"
    assert (data / "text").read_text().splitlines()[0] == "84-11-0000 ONE TWO"
    assert (data / "utt2dur").read_text().splitlines()[1] == "84-11-0001 0.2"
    facts = json.loads((data / "corpus.json").read_text())
    assert facts["subsets"] == ["dev-clean", "train-clean-5"] and facts["note"] == "a note"
    assert (facts["utterances"], facts["speakers"]) == (4, 3)


def test_a_new_scan_disowns_old_packed_audio(corpus: Path, tmp_path: Path) -> None:
    for name in ("audio.scp", "utt2num_samples"):
        (tmp_path / name).write_text("old\n")
    main([str(corpus), str(tmp_path)])
    assert not (tmp_path / "audio.scp").exists() and not (tmp_path / "utt2num_samples").exists()


def test_where_the_subsets_are(corpus: Path) -> None:
    both = [corpus / "dev-clean", corpus / "train-clean-5"]
    assert find_subsets(corpus) == find_subsets(corpus.parent) == both
    assert find_subsets(corpus / "dev-clean") == both[:1]
    assert find_subsets(corpus, ["train-clean-5"]) == both[1:]
    with pytest.raises(UserError, match="no subset dev-other here, but dev-clean, train-clean-5"):
        find_subsets(corpus, ["dev-other"])
    with pytest.raises(UserError, match="no subset here"):
        find_subsets(corpus / "dev-clean" / "84")
    with pytest.raises(UserError, match="no such folder"):
        find_subsets(corpus / "nowhere")


def test_all_problems_at_once_and_nothing_written(corpus: Path, tmp_path: Path) -> None:
    chapter = corpus / "dev-clean" / "84" / "11"
    (chapter / "84-11-0001.flac").unlink()  # a transcript without audio
    soundfile.write(chapter / "84-11-0002.flac", np.ones(160, np.int16), 16_000)  # audio without transcript
    soundfile.write(chapter / "84-12-0000.flac", np.ones(160, np.int16), 16_000)  # of another chapter
    (chapter / "84-11-0003.flac").write_bytes(b"")  # no header
    soundfile.write(chapter / "84-11-0004.flac", np.ones(0, np.int16), 16_000)  # no samples
    (chapter / "._84-11-0000.flac").write_bytes(b"what other systems leave")
    with open(chapter / "84-11.trans.txt", "a") as file:
        file.write("84-11-0003 SIX\n84-11-0004\n\n84-11-0000 AGAIN\n85-11-0000 WRONG\n")
    twin = add_chapter(corpus / "train-clean-5", "84", "11", ["ONE TWO"])  # an id in two subsets
    (corpus / "train-clean-5" / "9" / "30" / "9-30.trans.txt").write_bytes(b"9-30-0000 \xff\n")

    with pytest.raises(UserError) as caught:
        main([str(corpus), str(tmp_path / "data")])
    problems = str(caught.value).splitlines()[1:]
    expected = [
        "84-12-0000.flac: not named 84-11-NUMBER",
        "84-11.trans.txt:4: 84-11-0004 has an empty transcript",
        "84-11.trans.txt:5: empty line",
        "84-11.trans.txt:6: 84-11-0000 has a line already",
        "84-11.trans.txt:7: 85-11-0000 is not 84-11-NUMBER",
        f"{twin}/84-11-0000.flac: the id is that of {chapter}/84-11-0000.flac too",
        f"{twin}/84-11.trans.txt:1: 84-11-0000 has a line already",
        "9-30.trans.txt: not UTF-8",
        "9-30-0000.flac: no line in the chapter",
        "84-11-0002.flac: no line in the chapter",
        "84-11.trans.txt:2: 84-11-0001 has no audio file",
        "84-11.trans.txt:7: 85-11-0000 has no audio file",
        "84-11-0003.flac: no audio header",
        "84-11-0004.flac: ",
    ]
    for part in expected:
        assert sum(part in problem for problem in problems) == 1, (part, problems)
    assert len(problems) == len(expected)
    assert not (tmp_path / "data").exists()


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the LibriSpeech subset")
def test_real_corpus(tmp_path: Path) -> None:
    main([str(REAL), str(tmp_path)])
    facts = json.loads((tmp_path / "corpus.json").read_text())
    assert facts["utterances"] == len(list(REAL.glob("*/*/*/*.flac")))
    assert len((tmp_path / "text").read_text().splitlines()) == facts["utterances"]
