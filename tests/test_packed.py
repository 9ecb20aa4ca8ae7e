from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from cpc_speech.errors import UserError
from cpc_speech.packed import PackedAudio

# Written by hand, as the format is documented: three utterances in two shards.
A, B, C = (np.arange(start, start + length, dtype="<i2") for start, length in ((0, 5), (100, 3), (-200, 7)))


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    (tmp_path / "audio.000.i16").write_bytes(A.tobytes() + B.tobytes())
    (tmp_path / "audio.001.i16").write_bytes(C.tobytes())
    (tmp_path / "audio.scp").write_text("1-a audio.000.i16:0\n1-b audio.000.i16:5\n2-c audio.001.i16:0\n")
    (tmp_path / "utt2num_samples").write_text("1-a 5\n1-b 3\n2-c 7\n")
    (tmp_path / "utt2spk").write_text("1-a 1\n1-b 1\n2-c 2\n")
    return tmp_path


def test_whole_utterances(data_dir: Path) -> None:
    audio = PackedAudio(data_dir)
    assert len(audio) == 3
    assert audio.utterances == ["1-a", "1-b", "2-c"]
    assert audio.speakers == ["1", "1", "2"]
    assert audio.num_samples.dtype == np.int64 and audio.num_samples.tolist() == [5, 3, 7]
    for i, expected in enumerate((A, B, C)):
        np.testing.assert_array_equal(audio[i], expected)
        assert audio[i].dtype == np.int16 and not audio[i].flags.writeable


def test_every_slice_stays_in_its_utterance(data_dir: Path) -> None:
    audio = PackedAudio(data_dir)
    for i, whole in enumerate((A, B, C)):
        for start in range(-1, len(whole) + 2):
            for length in range(-1, len(whole) + 2):
                if start < 0 or length < 0 or start + length > len(whole):
                    with pytest.raises(IndexError, match=audio.utterances[i]):
                        audio.slice(i, start, length)
                else:
                    window = audio.slice(i, start, length)
                    np.testing.assert_array_equal(window, whole[start : start + length])


def test_a_choice_keeps_its_order_and_survives_pickling(data_dir: Path) -> None:
    audio = PackedAudio(data_dir, iter(["2-c", "1-a"]))
    assert audio.utterances == ["2-c", "1-a"] and audio.speakers == ["2", "1"]
    np.testing.assert_array_equal(audio[0], C)
    copy = pickle.loads(pickle.dumps(audio))
    np.testing.assert_array_equal(copy[1], A)


def test_shards_are_opened_when_they_are_read(data_dir: Path) -> None:
    (data_dir / "audio.001.i16").unlink()
    audio = PackedAudio(data_dir)
    np.testing.assert_array_equal(audio[0], A)
    with pytest.raises(UserError, match=r"audio.001.i16 is missing.*data_prep.pack"):
        audio[2]


def test_wrong_size(data_dir: Path) -> None:
    (data_dir / "audio.000.i16").write_bytes(A.tobytes())
    with pytest.raises(UserError, match=r"audio.000.i16 has 10 bytes; 16 are expected.*data_prep.pack"):
        PackedAudio(data_dir)[0]


def test_unknown_ids(data_dir: Path) -> None:
    with pytest.raises(UserError, match="2 utterance.*9-x, 9-y"):
        PackedAudio(data_dir, ["1-a", "9-x", "9-y"])


def test_not_packed(data_dir: Path) -> None:
    (data_dir / "audio.scp").unlink()
    with pytest.raises(UserError, match="not packed yet: run python -m data_prep.pack"):
        PackedAudio(data_dir)


@pytest.mark.parametrize("line", ["1-b audio.000.i16", "1-b audio.000.i16:x", "1-bb audio.000.i16:5"])
def test_contradicting_index(data_dir: Path, line: str) -> None:
    (data_dir / "audio.scp").write_text(f"1-a audio.000.i16:0\n{line}\n2-c audio.001.i16:0\n")
    with pytest.raises(UserError, match="do not go together for 1-b"):
        PackedAudio(data_dir)
