from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable
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
    assert list(audio.utterances) == ["1-a", "1-b", "2-c"]
    assert list(audio.speakers) == ["1", "1", "2"]
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
    assert list(audio.utterances) == ["2-c", "1-a"] and list(audio.speakers) == ["2", "1"]
    np.testing.assert_array_equal(audio[0], C)
    copy = pickle.loads(pickle.dumps(audio))
    assert list(copy.utterances) == ["2-c", "1-a"] and list(copy.speakers) == ["2", "1"]
    np.testing.assert_array_equal(copy[1], A)


@pytest.fixture
def corpus(tmp_path: Path) -> dict[str, tuple[str, np.ndarray]]:
    """Speaker and samples of each utterance, packed in tmp_path; ids of 1 to 4 bytes a character, some prefixes."""
    rng = np.random.default_rng(0)
    letters = ["a", "b", "-", "é", "ß", "日", "\ufffd", "\U0001f600"]  # the last two: UTF-16 sorts them otherwise
    ids = {"".join(rng.choice(letters, rng.integers(1, 9))) for _ in range(300)}
    corpus, lines = {}, {name: b"" for name in ("audio.scp", "utt2num_samples", "utt2spk")}
    shards: dict[str, bytes] = {}
    for n, key in enumerate(sorted(ids, key=lambda key: key.encode())):
        speaker, samples = "Zoë Åsa bob".split()[n % 3], rng.integers(-9, 9, rng.integers(0, 20)).astype("<i2")
        shard = f"audio.{n // 70:03d}.i16"
        corpus[key] = speaker, samples
        lines["audio.scp"] += f"{key} {shard}:{len(shards.get(shard, b'')) // 2}\n".encode()
        lines["utt2num_samples"] += f"{key} {len(samples)}\n".encode()
        lines["utt2spk"] += f"{key} {speaker}\n".encode()
        shards[shard] = shards.get(shard, b"") + samples.tobytes()
    for name, data in (lines | shards).items():
        (tmp_path / name).write_bytes(data)
    return corpus


def test_any_choice_in_any_order_against_a_dict(tmp_path: Path, corpus: dict[str, tuple[str, np.ndarray]]) -> None:
    rng = np.random.default_rng(1)
    everything = list(corpus)
    shuffled = [str(key) for key in rng.permutation(everything)]
    for choice in (None, shuffled, shuffled[:5], shuffled[:3] * 2, shuffled[:1], []):
        audio, expected = PackedAudio(tmp_path, choice), everything if choice is None else choice
        assert len(audio) == len(audio.utterances) == len(audio.speakers) == len(expected)
        assert list(audio.utterances) == expected
        assert list(audio.speakers) == [corpus[key][0] for key in expected]
        assert audio.num_samples.tolist() == [len(corpus[key][1]) for key in expected]
        for i, key in enumerate(expected):
            np.testing.assert_array_equal(audio[i], corpus[key][1])
            assert key in audio.utterances and type(audio.utterances[i]) is str
        assert list(audio.utterances[1:4]) == expected[1:4] and list(audio.speakers[::-1]) == list(audio.speakers)[::-1]
        assert audio.speaker_names == sorted(set(audio.speakers))  # of the chosen alone
        assert [audio.speaker_names[j] for j in audio.speaker_index] == list(audio.speakers)
        assert audio.num_samples.dtype == np.int64 and audio.speaker_index.dtype == np.int32


def test_bytes_an_utterance(tmp_path: Path) -> None:
    """One record each: 8 + 8 + 4 + 4 bytes and the id, 14 + 1, make 40; a str alone would take 63, a dict's entry
    104 more. 100 thus holds only without Python objects; 150 while it is read, as the array grows by half."""
    n, shard = 20_000, "audio.000.i16"
    ids = [f"{i % 50:04d}-{i:09d}" for i in sorted(range(n), key=lambda i: (i % 50, i))]
    (tmp_path / "audio.scp").write_text("".join(f"{key} {shard}:{160 * i}\n" for i, key in enumerate(ids)))
    (tmp_path / "utt2num_samples").write_text("".join(f"{key} 160\n" for key in ids))
    (tmp_path / "utt2spk").write_text("".join(f"{key} {key[:4]}\n" for key in ids))
    with open(tmp_path / shard, "wb") as file:
        file.truncate(n * 320)  # sparse
    del ids
    tracemalloc.start()
    try:
        audio = PackedAudio(tmp_path)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 100 * n and peak < 150 * n, (kept / n, peak / n)
    assert len(audio) == n and len(audio[n - 1]) == 160
    assert len(pickle.dumps(audio)) < 100 * n


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
    for unknown in ("1-", "1-aa", "1-aaaaaaa", "0", "", "1-é", "1-b "):  # shorter, longer, before all, ...
        with pytest.raises(UserError, match=f"1 utterance.*such as {unknown}: use lists"):
            PackedAudio(data_dir, ["2-c", unknown, "1-a"])
    with pytest.raises(UserError, match="5000 utterance.*such as 0, 1, 2: use lists"):
        PackedAudio(data_dir, map(str, range(5000)))


def test_not_packed(data_dir: Path) -> None:
    (data_dir / "audio.scp").unlink()
    with pytest.raises(UserError, match="not packed yet: run python -m data_prep.pack"):
        PackedAudio(data_dir)


@pytest.mark.parametrize("line", ["1-b audio.000.i16", "1-b audio.000.i16:x", "1-b", "1-bb audio.000.i16:5"])
def test_contradicting_index(data_dir: Path, line: str) -> None:
    (data_dir / "audio.scp").write_text(f"1-a audio.000.i16:0\n{line}\n2-c audio.001.i16:0\n")
    with pytest.raises(UserError, match="audio.scp .* do not go together for 1-b: run python -m data_prep.pack"):
        PackedAudio(data_dir)


@pytest.mark.parametrize("name", ["audio.scp", "utt2num_samples", "utt2spk"])
@pytest.mark.parametrize(
    ("change", "named"),
    [(lambda lines: lines[1:], "1-a"), (lambda lines: [lines[0], lines[2]], "1-b"), (lambda lines: lines[:2], "2-c"),
     (lambda lines: [*lines[:2], "2-bb x:3\n", lines[2]], "2-bb"), (lambda lines: [*lines, "3 x:3\n"], "3"),
     (lambda lines: [], "1-a")],
)  # fmt: skip
def test_an_utterance_that_one_file_lacks_or_has_alone(
    data_dir: Path, name: str, change: Callable[[list[str]], list[str]], named: str
) -> None:
    lines = (data_dir / name).read_text().splitlines(keepends=True)
    (data_dir / name).write_text("".join(change(lines)))
    with pytest.raises(UserError, match=rf"do not go together for {named}: run python -m data_prep.pack") as caught:
        PackedAudio(data_dir)
    lacks = len(change(lines)) < len(lines)
    assert str(caught.value).count("(no line)") == (1 if lacks else 2)
    assert (f"{name} (no line)" in str(caught.value)) == lacks


@pytest.mark.parametrize("name", ["audio.scp", "utt2num_samples", "utt2spk"])
@pytest.mark.parametrize(
    ("order", "message"),
    [((0, 1, 1, 2), "3: 1-b stands here a second time"), ((0, 2, 1), "3: 1-b comes after 2-c; sort it"),
     ((0, 1, 2, 3), "4: the line has no key")],
)  # fmt: skip
def test_each_file_is_sorted_without_repetition(data_dir: Path, name: str, order: list[int], message: str) -> None:
    lines = [*(data_dir / name).read_text().splitlines(), " 5"]
    (data_dir / name).write_text("".join(lines[i] + "\n" for i in order))
    with pytest.raises(UserError, match=f"{name}:{message}"):
        PackedAudio(data_dir)


@pytest.mark.parametrize("name", ["utt2num_samples", "utt2spk"])
def test_missing_file(data_dir: Path, name: str) -> None:
    (data_dir / name).unlink()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        PackedAudio(data_dir)
