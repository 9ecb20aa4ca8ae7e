from __future__ import annotations

import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from patience import HANG

from cpc_speech.errors import UserError
from cpc_speech.packed import PackedAudio
from data_prep.pack import main, pack
from data_prep.validate import validate

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "data_prep.pack"]


def write_tables(data: Path, wavs: dict[str, Path | str], seconds: float = 1.0) -> Path:
    data.mkdir(parents=True, exist_ok=True)
    keys = sorted(wavs)
    (data / "wav.scp").write_text("".join(f"{key} {wavs[key]}\n" for key in keys))
    (data / "utt2dur").write_text("".join(f"{key} {seconds}\n" for key in keys))
    for name in ("utt2spk", "spk2utt"):
        (data / name).write_text("".join(f"{key} {key}\n" for key in keys))
    return data


@pytest.fixture
def corpus(tmp_path: Path) -> dict[str, np.ndarray]:
    """Six utterances of 100 to 600 samples: FLAC files in ``tmp_path``, a data directory beside them."""
    random = np.random.default_rng(0)
    samples = {f"u{i}": random.integers(-32768, 32768, 100 * i).astype(np.int16) for i in range(1, 7)}
    for key, wave in samples.items():
        soundfile.write(tmp_path / f"{key}.flac", wave, 16_000)
    write_tables(tmp_path / "data", {key: tmp_path / f"{key}.flac" for key in samples}, 0.02)
    return samples


def assert_nothing_left(data: Path) -> None:
    """No audio, no index, no temporary file."""
    assert sorted(path.name for path in data.iterdir()) == ["spk2utt", "utt2dur", "utt2spk", "wav.scp"]


@pytest.mark.parametrize("nj", [1, 3])
@pytest.mark.parametrize(("shard_bytes", "shards"), [(1 << 20, 1), (2 * 1000, 3), (2 * 599, 5)])
def test_bit_exact_in_every_sharding(
    tmp_path: Path, corpus: dict[str, np.ndarray], nj: int, shard_bytes: int, shards: int
) -> None:
    data = tmp_path / "data"
    pack(data, nj, shard_bytes)
    files = sorted(data.glob("audio.*.i16"))
    assert len(files) == shards
    assert b"".join(map(Path.read_bytes, files)) == b"".join(wave.tobytes() for wave in corpus.values())
    assert all(file.stat().st_size <= max(shard_bytes, 1200) for file in files)  # 1200: the longest utterance
    audio = PackedAudio(data)
    assert list(audio.utterances) == list(corpus)
    for i, wave in enumerate(corpus.values()):
        np.testing.assert_array_equal(audio[i], wave)
    assert (data / "utt2dur").read_text().splitlines()[0] == "u1 0.00625"
    assert "6 utterances" in validate(data, "audio")


def test_fewer_shards_than_before(tmp_path: Path, corpus: dict[str, np.ndarray]) -> None:
    data = tmp_path / "data"
    pack(data, shard_bytes=1200)
    pack(data)
    assert [path.name for path in sorted(data.glob("audio.*"))] == ["audio.000.i16", "audio.scp"]


def test_conversions_are_counted(
    tmp_path: Path, corpus: dict[str, np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    soundfile.write(tmp_path / "u2.flac", np.zeros((44_100, 2), np.int16), 44_100)
    with caplog.at_level(logging.INFO):
        main([str(tmp_path / "data"), "--nj", "1"])
    assert "packed 6 utterances" in caplog.text
    assert "averaged to mono: 1; resampled: {'44100 Hz': 1}" in caplog.text
    assert PackedAudio(tmp_path / "data").num_samples.tolist() == [100, 16_000, 300, 400, 500, 600]


def test_all_bad_files_at_once(tmp_path: Path, corpus: dict[str, np.ndarray]) -> None:
    data, good = tmp_path / "data", tmp_path / "u6.flac"
    pack(data)
    (tmp_path / "u2.flac").write_bytes((tmp_path / "u2.flac").read_bytes()[:-50])
    (tmp_path / "u4.flac").unlink()
    soundfile.write(tmp_path / "u5.flac", np.zeros(0, np.int16), 16_000)
    wavs: dict[str, Path | str] = {key: tmp_path / f"{key}.flac" for key in corpus}
    write_tables(data, wavs | {"u3": f"sox {good} -t wav - |"}, 0.02)
    with pytest.raises(UserError) as caught:
        pack(data, 2, 500)
    problems = str(caught.value).splitlines()[1:]
    assert [problem.split(":")[0].strip() for problem in problems] == ["u2", "u3", "u4", "u5"]
    for problem, reason in zip(problems, ["cut short", "flac -c -d -s", "no such file", ""], strict=True):
        assert reason in problem
    (data / "utt2num_samples").unlink()  # of the packing before
    assert_nothing_left(data)


def test_too_little_space_is_said_before_the_start(
    tmp_path: Path, corpus: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(UserError, match="3,840 bytes are to be written, 1,000 are free"):  # 6 x 0.02 s x 16 kHz x 2
        pack(tmp_path / "data")
    assert_nothing_left(tmp_path / "data")


def test_disk_full_while_writing(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.ones(16_000, np.int16), 16_000)
    data = write_tables(tmp_path / "data", {f"u{i:02d}": tmp_path / "a.flac" for i in range(20)})
    done = subprocess.run(
        [*COMMAND, str(data)], cwd=ROOT, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )  # fmt: skip
    assert done.returncode == 1
    said = f"error: {data}/audio.000.i16: cannot be written (File too large); make room, and run the same command again"
    assert done.stderr.splitlines()[-1] == said and "Traceback" not in done.stderr
    assert_nothing_left(data)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_then_rerun(tmp_path: Path, how: signal.Signals) -> None:
    wave = np.random.default_rng(0).integers(-9999, 9999, 16_000 * 30).astype(np.int16)
    soundfile.write(tmp_path / "a.flac", wave, 16_000)
    data = write_tables(tmp_path / "data", {f"u{i:03d}": tmp_path / "a.flac" for i in range(60)}, 30.0)
    process = subprocess.Popen(
        [*COMMAND, str(data), "--nj", "2"], cwd=ROOT, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    while not any(path.stat().st_size > 0 for path in data.glob("audio.000.i16.tmp.*")):
        assert process.poll() is None, "was too fast to be interrupted"
        time.sleep(0.01)
    os.killpg(process.pid, how)  # as the terminal does: to every process of the command
    _, errors = process.communicate(timeout=HANG)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "interrupted; run the same command again" in errors and "Traceback" not in errors
        assert_nothing_left(data)
    with pytest.raises(UserError, match="not packed yet"):
        PackedAudio(data)

    subprocess.run([*COMMAND, str(data), "--nj", "2"], cwd=ROOT, check=True)
    assert sorted(path.name for path in data.glob("audio.*")) == ["audio.000.i16", "audio.scp"]
    assert (data / "audio.000.i16").read_bytes() == wave.tobytes() * 60


def test_bad_options(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--nj", "0"])
    with pytest.raises(UserError, match="wav.scp: no such file"):
        main([str(tmp_path)])
