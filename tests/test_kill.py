"""kill -9 at random moments of training, of writing checkpoints and of packing; and a disk that is full.

The moments are drawn from a seeded generator as a place in the work (an update, a byte) and a delay after it, so
that they fall within the work on a fast machine and on a slow one. How many kills hit is printed (pytest -s).
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import write_data
from patience import HANG
from runs import ROOT, Trainers, arguments, assert_equal_runs, assert_equal_states, checkpoints, latest

from cpc_speech import train as module
from cpc_speech.checkpoint import load_latest
from cpc_speech.errors import UserError
from cpc_speech.packed import PackedAudio

pytestmark = pytest.mark.slow
TRAINING_KILLS, PACKING_KILLS = 12, 8
UPDATES = 120
SETTINGS = {
    "updates": UPDATES,
    "channels": 32,
    "checkpoint_every": 1,
    "keep_checkpoints": 2,
    "log_every": 1,
    "dev_every": 5,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    speakers = [("ann", "bob", "eve")[i // 8] for i in range(24)]
    return write_data(tmp_path_factory.mktemp("corpus") / "data", [16000 + 160 * i for i in range(24)], speakers)


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    exp = tmp_path_factory.mktemp("undisturbed") / "exp"
    module.main(arguments(data, exp, **SETTINGS))
    return exp


def reached(exp: Path) -> int:
    """The update of the newest checkpoint, by its name; 0 before the first."""
    folder = exp / "checkpoints"
    names = os.listdir(folder) if folder.is_dir() else []
    return max((int(name[7:15]) for name in names if name.startswith("update-") and name.endswith(".pt")), default=0)


def half_written(folder: Path, process: subprocess.Popen) -> bool:
    """Whether there is a file that this process has not given its own name yet."""
    suffix = f".tmp.{process.pid}"
    return any(name.endswith(suffix) for _, _, names in os.walk(folder) for name in names)


@pytest.mark.parametrize("workers, kills", [(1, TRAINING_KILLS // 2), (0, TRAINING_KILLS // 2)])
def test_training_killed_at_random_moments(
    data: Path, tmp_path: Path, undisturbed: Path, caplog: pytest.LogCaptureFixture, workers: int, kills: int
) -> None:
    exp, random = tmp_path / "exp", np.random.default_rng(workers)
    argv = arguments(data, exp, "--workers", str(workers), **SETTINGS)
    hit = within_writing = 0
    for kill, update in enumerate(sorted(random.choice(np.arange(1, UPDATES), kills, replace=False))):
        before = reached(exp)
        trainer = Trainers(tmp_path, argv)
        (process,) = trainer.processes
        end = time.monotonic() + HANG
        while process.poll() is None and reached(exp) < max(update, before + 1) and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.05))  # an update and its checkpoint take about so long
        if kill % 2:  # which is less than the update: every other waits for it
            while process.poll() is None and not half_written(exp, process) and time.monotonic() < end:
                pass
            time.sleep(random.uniform(0, 0.002))
        seen = reached(exp)
        trainer.kill()
        hit += process.returncode == -signal.SIGKILL
        within_writing += half_written(exp, process)
        # What was there stays there, whole, and what is half written is not taken for a checkpoint.
        caplog.clear()
        assert seen <= latest(exp)["update"] <= UPDATES and not caplog.records, caplog.text
    print(f"training, {workers} worker(s): {hit} of {kills} kills hit, {within_writing} of them within a write")
    assert hit >= kills / 2  # on a busy machine one or two come after its end
    module.main(argv)
    assert_equal_runs(exp, undisturbed)


def test_packing_killed_at_random_moments(tmp_path: Path) -> None:
    """Begun again each time; until it is done the audio is not packed, and then it is what it was without a kill."""
    random = np.random.default_rng(5)
    data = write_corpus(tmp_path, random)
    command = [sys.executable, "-m", "data_prep.pack", str(data), "--nj", "1", "--shard-gib", "0.01"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=HANG)
    whole = {path.name: path.read_bytes() for path in data.iterdir() if path.is_file()}
    shards = [name for name in whole if name.endswith(".i16")]
    assert len(shards) >= 4
    total = sum(len(whole[name]) for name in shards)

    hit = within_writing = 0
    for place in random.uniform(0, total, PACKING_KILLS):
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        begun, end = False, time.monotonic() + HANG
        while process.poll() is None and not (begun and packed_bytes(data) >= place) and time.monotonic() < end:
            begun = begun or half_written(data, process)  # what there was before is removed then
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.01))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        hit += process.wait() == -signal.SIGKILL
        within_writing += half_written(data, process)
        if (data / "audio.scp").exists():  # at the very end: it must be true
            assert {name: (data / name).read_bytes() for name in whole} == whole
        else:
            with pytest.raises(UserError, match="not packed yet"):
                PackedAudio(data)
    print(f"packing: {hit} of {PACKING_KILLS} kills hit, {within_writing} of them with a shard half written")
    assert hit >= PACKING_KILLS / 2
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=HANG)
    assert {path.name: path.read_bytes() for path in data.iterdir() if path.is_file()} == whole


def write_corpus(tmp_path: Path, random: np.random.Generator) -> Path:
    """Four files of 30 s, of two formats and rates, each standing for 20 utterances."""
    data = tmp_path / "data"
    data.mkdir()
    wavs: dict[str, Path] = {}
    for number, (suffix, rate) in enumerate((("flac", 16000), ("wav", 16000), ("wav", 48000), ("flac", 32000))):
        path = tmp_path / f"{number}.{suffix}"
        soundfile.write(path, random.integers(-9999, 9999, 30 * rate).astype(np.int16), rate)
        wavs |= {f"u{number + 4 * i:03d}": path for i in range(20)}
    (data / "wav.scp").write_text("".join(f"{key} {wavs[key]}\n" for key in sorted(wavs)))
    (data / "utt2dur").write_text("".join(f"{key} 30.0\n" for key in sorted(wavs)))
    (data / "utt2spk").write_text("".join(f"{key} {key}\n" for key in sorted(wavs)))
    return data


def packed_bytes(data: Path) -> int:
    total = 0
    for name in os.listdir(data):
        if ".i16" in name:
            try:
                total += (data / name).stat().st_size
            except FileNotFoundError:  # it has just got its own name
                pass
    return total


def test_full_disk_leaves_the_old_checkpoint(data: Path, tmp_path: Path) -> None:
    """No file may grow beyond half a checkpoint: the kernel refuses the write, as it does where the disk is full."""
    exp = tmp_path / "exp"
    settings = {"updates": 10, "checkpoint_every": 5, "dev_every": 20}
    argv = arguments(data, exp, **settings)
    Trainers(tmp_path, argv, hook="if update == 7: stand_still()").kill_when_still()
    (name,) = checkpoints(exp)
    path = exp / "checkpoints" / name
    before, limit = path.read_bytes(), path.stat().st_size // 2
    done = subprocess.run(
        [sys.executable, "-m", "cpc_speech.train", *argv], cwd=ROOT, capture_output=True, text=True, timeout=HANG,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "error: " in done.stderr and "cannot be written" in done.stderr and "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert checkpoints(exp) == [name] and path.read_bytes() == before  # and no temporary file
    assert latest(exp)["update"] == 5
    module.main(argv)  # there is room again
    module.main(arguments(data, tmp_path / "whole", **settings))
    assert_equal_states(load_latest(exp), load_latest(tmp_path / "whole"))
