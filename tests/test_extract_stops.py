"""Extraction that is killed, goes on, meets bad files and full disks, or is asked for what cannot be."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from contextlib import closing
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import soundfile
from extraction import (  # noqa: F401
    LENGTHS,
    assert_frames,
    data_of_files,
    expected,
    in_a_child,
    run,
    several_pools,
    small_exp,
    sound,
)

from cpc_speech import errors, feature_dir, pools
from cpc_speech import extract as module
from cpc_speech.datadir import read_table, write_table
from cpc_speech.errors import UserError
from cpc_speech.journal import Journal, lock
from cpc_speech.kaldi import read_float_matrices

kaldiio = pytest.importorskip("kaldiio")


@pytest.mark.parametrize("form", ["kaldi", "npy"])
@pytest.mark.parametrize("moment", range(1, 9))
def test_killed_it_goes_on_and_leaves_the_same(
    exp: Path, data: Path, tmp_path: Path, small_pools: None, form: str, moment: int
) -> None:
    """Killed within the Nth writing of rows: what was written is there in part, and not in the journal."""
    whole, out = run(exp, data, tmp_path / "whole", "--format", form), tmp_path / "out"
    writer, count = feature_dir.NumpyStore if form == "npy" else feature_dir.KaldiStore, 0
    real = writer.matrix

    def matrix(self, *arguments):  # type: ignore[no-untyped-def]
        manager = real(self, *arguments)

        class Dying:
            def __enter__(self):  # type: ignore[no-untyped-def]
                write = manager.__enter__()

                def write_and_die(rows: np.ndarray) -> None:
                    nonlocal count
                    count += 1
                    if count == moment:
                        write(rows[: len(rows) // 2])
                        os.sync()
                        os.kill(os.getpid(), signal.SIGKILL)
                    write(rows)

                return write_and_die

            def __exit__(self, *error):  # type: ignore[no-untyped-def]
                return manager.__exit__(*error)

        return Dying()

    def work() -> None:
        writer.matrix = matrix  # type: ignore[method-assign, assignment]
        run(exp, data, out, "--format", form)

    assert in_a_child(work) == -signal.SIGKILL
    index = "feats.scp" if form == "kaldi" else "npy.scp"
    assert not (out / index).exists()
    run(exp, data, out, "--format", form)
    if form == "kaldi":
        assert (out / "feats.ark").read_bytes() == (whole / "feats.ark").read_bytes()
    else:
        for name in LENGTHS:
            assert (out / f"npy/{name[:3]}/{name}.npy").read_bytes() == (
                whole / f"npy/{name[:3]}/{name}.npy"
            ).read_bytes()
    assert (out / index).read_text() == (whole / index).read_text().replace(str(whole), str(out))
    assert not list(out.rglob("*.tmp.*"))
    for name in ("utt2num_frames", "utt2dur", "wav.scp", "extract.jsonl"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.parametrize("bytes_kept", [0, 1, 200, -1, -200])
def test_a_journal_cut_short_repeats_a_pool(
    exp: Path, data: Path, tmp_path: Path, small_pools: None, bytes_kept: int
) -> None:
    """As a kill leaves it, or a power cut: whole steps, then some bytes of one; the archive may be ahead of it."""
    out = run(exp, data, tmp_path / "out")
    files = {name: (out / name).read_bytes() for name in ("feats.ark", "feats.scp", "extract.jsonl")}
    assert len(files["extract.jsonl"].splitlines()) > 2  # several pools
    (out / "extract.jsonl").write_bytes(files["extract.jsonl"][:bytes_kept])
    (out / "feats.ark").write_bytes(files["feats.ark"] + b"half of a matrix")
    run(exp, data, out)
    assert {name: (out / name).read_bytes() for name in files} == files


def test_what_is_done_is_not_done_again(exp: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = run(exp, data, tmp_path / "out")
    before = (out / "feats.ark").stat().st_mtime_ns
    monkeypatch.setattr(pools, "_decode", lambda *_: pytest.fail("decoded again"))
    run(exp, data, out, "--cmvn")  # what is joined may change
    assert (out / "feats.ark").stat().st_mtime_ns == before
    assert list(read_table(out / "cmvn.scp")) == ["ann", "bob", "eve"]


@pytest.fixture
def bad(data: Path) -> dict[str, str]:
    """Files that give nothing, in the middle of the others, and what is said of them; written into ``data``."""
    wav = data / "wav"
    nan = np.random.default_rng(0).uniform(-0.1, 0.1, 30000).astype(np.float32)
    nan[25000] = np.nan  # far in, where a streamed one has written some frames
    soundfile.write(wav / "bob-nan.wav", nan, 16000, subtype="FLOAT")
    soundfile.write(wav / "bob-tiny.wav", sound("", 10), 16000)
    (wav / "bob-junk.flac").write_bytes(b"fLaC" + bytes(200))
    soundfile.write(wav / "bob-cut.flac", sound("", 30000), 16000)
    (wav / "bob-cut.flac").write_bytes((wav / "bob-cut.flac").read_bytes()[:40000])
    names = {"bob-nan": "wav", "bob-tiny": "wav", "bob-junk": "flac", "bob-cut": "flac", "bob-gone": "wav"}
    added = {name: str(wav / f"{name}.{suffix}") for name, suffix in names.items()}
    write_table(data / "wav.scp", read_table(data / "wav.scp") | added)
    write_table(data / "utt2spk", {name: name[:3] for name in [*LENGTHS, *names]})
    reasons = ("NaN", "10 samples of 16 kHz are less than a frame", "no audio header", "cut short", "no such file")
    return dict(zip(names, reasons, strict=True))


@pytest.mark.parametrize("streamed", [False, True])
def test_bad_files_are_all_listed_and_the_others_written(
    exp: Path, data: Path, tmp_path: Path, bad: dict[str, str], monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    if streamed:
        monkeypatch.setattr(pools, "LONG", 20000)
        monkeypatch.setattr(module, "BLOCK", 7001)
    out = tmp_path / "out"
    with pytest.raises(
        UserError, match=r"(?s)^5 of 11 utterances gave no features.*bob-tiny.*--max-dropped 5"
    ) as error:
        run(exp, data, out)
    dropped = read_table(out / "feats.dropped")
    assert list(dropped) == sorted(bad)
    for name, reason in bad.items():
        assert reason in dropped[name] and f"{data}/wav/{name}." in dropped[name] and name in str(error.value)
    assert_frames(dict(read_float_matrices(out / "feats.scp")))
    assert_frames(dict(kaldiio.load_ark(str(out / "feats.ark"))))  # nothing is left between them
    for table in ("wav.scp", "utt2spk", "text", "utt2num_frames", "utt2dur"):
        assert list(read_table(out / table)) == sorted(LENGTHS)
    run(exp, data, out, "--max-dropped", "5")
    with pytest.raises(UserError, match="--max-dropped 5"):
        run(exp, data, out, "--max-dropped", "4")


def test_mended_files_are_added(exp: Path, data: Path, tmp_path: Path, bad: dict[str, str]) -> None:
    out = tmp_path / "out"
    run(exp, data, out, "--max-dropped", "5")
    good = sound("mended", 20000)
    soundfile.write(data / "wav" / "bob-junk.flac", good, 16000)
    run(exp, data, out, "--max-dropped", "4")
    found = dict(read_float_matrices(out / "feats.scp"))
    assert list(found) == sorted([*LENGTHS, "bob-junk"])
    np.testing.assert_allclose(found.pop("bob-junk"), expected(good), rtol=0, atol=1e-5)
    assert_frames(found)
    subprocess.run(["sort", "-c", out / "feats.scp"], env=os.environ | {"LC_ALL": "C"}, check=True)


def test_other_options_are_refused(exp: Path, data: Path, tmp_path: Path) -> None:
    out = run(exp, data, tmp_path / "out")
    with pytest.raises(UserError, match="layer was c, is z"):
        run(exp, data, out, "--layer", "z")
    with pytest.raises(UserError, match="nj was 1, is 2"):
        run(exp, data, out, "--nj", "2", "--job", "1")
    (data / "wav.scp").write_text("".join((data / "wav.scp").read_text().splitlines(True)[1:]))
    with pytest.raises(UserError, match="utt2spk: ann-1 is not in wav.scp"):
        run(exp, data, out)
    (data / "utt2spk").unlink()
    with pytest.raises(UserError, match=r"holds other features \(other utterances\); take another OUT"):
        run(exp, data, out)
    with pytest.raises(UserError, match="another folder"):
        run(exp, data, data)


def test_changed_audio_is_noticed(exp: Path, data: Path, tmp_path: Path) -> None:
    """By its size, or by its time alone; what is gone needs no reading any more."""
    out, wav = run(exp, data, tmp_path / "out"), data / "wav"
    (wav / "ann-1.flac").unlink()
    assert_frames(dict(read_float_matrices(run(exp, data, out) / "feats.scp")))
    soundfile.write(wav / "bob-2.flac", sound("other", LENGTHS["bob-2"]), 16000)
    with pytest.raises(UserError, match="audio of 1 utterances, first bob-2, was changed .*; take another OUT"):
        run(exp, data, out)
    (wav / "ann-2.flac").touch()
    with pytest.raises(UserError, match="audio of 2 utterances, first ann-2, was changed"):
        run(exp, data, out)


@pytest.mark.parametrize("form", ["npy", "lhotse"])
def test_a_lost_array_is_noticed(exp: Path, data: Path, tmp_path: Path, form: str) -> None:
    out = run(exp, data, tmp_path / "out", "--format", form)
    (out / "npy" / "bob" / "bob-2.npy").unlink()
    with pytest.raises(UserError, match=r"1 files .* are gone, first npy/bob/bob-2.npy; remove .*/out and begin anew"):
        run(exp, data, out, "--format", form)


def test_a_job_leaves_the_others_files_alone(exp: Path, data: Path, tmp_path: Path) -> None:
    """What is half written: its own, by a kill; another's, at this moment."""
    out = run(exp, data, tmp_path / "out", "--format", "npy", "--nj", "2", "--job", "1")
    before, others = (out / "npy" / name for name in ("ann/ann-2.npy.tmp.7", "bob/bob-2.npy.tmp.8"))
    for path in (before, others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    run(exp, data, out, "--format", "npy", "--nj", "2", "--job", "1")
    assert not before.exists() and others.exists()
    run(exp, data, out, "--format", "npy", "--nj", "2", "--job", "2")
    assert not others.exists() and list(read_table(out / "npy.scp")) == sorted(LENGTHS)


def test_jobs_join_in_turn(exp: Path, data: Path, tmp_path: Path) -> None:
    """One that waited for another to join tells what was written meanwhile, not what was before."""
    out, options = tmp_path / "out", ("--nj", "2", "--max-dropped", "1")
    for job in ("1", "2"):
        run(exp, data, out, *options, "--job", job)
    with open(out / "extract.json", "r+b") as turn:
        lock(turn)
        joining = Thread(target=run, args=(exp, data, out, *options, "--job", "1"), daemon=True)
        joining.start()
        joining.join(2)
        assert joining.is_alive()
        with closing(Journal(out / "extract.2.jsonl")) as journal:
            journal.add({"eve-2": {"dropped": "an example"}})
    joining.join(60)
    assert read_table(out / "feats.dropped") == {"eve-2": "an example"}
    assert list(read_table(out / "feats.scp")) == sorted(LENGTHS)[:-1]


def test_tables_of_before_go(exp: Path, data: Path, tmp_path: Path, bad: dict[str, str]) -> None:
    """Statistics that would not count what was mended; transcripts that the corpus no longer has."""
    out = run(exp, data, tmp_path / "out", "--max-dropped", "5", "--cmvn")
    assert (out / "cmvn.scp").exists() and (out / "text").exists()
    soundfile.write(data / "wav" / "bob-junk.flac", sound("mended", 20000), 16000)
    (data / "text").unlink()
    run(exp, data, out, "--max-dropped", "4")
    assert not [name for name in ("cmvn.scp", "cmvn.ark", "text") if (out / name).exists()]


def test_what_is_others_is_left_alone(exp: Path, data: Path, tmp_path: Path) -> None:
    """OUT forgotten, the last of what is to be read is taken for it."""
    own = tmp_path / "own"
    shutil.copytree(data, own)
    (own / "segments").write_text("a ann-1 0 1\n")
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"own: holds other files .*\(segments, text, utt2spk, ...\); name an OUT that"):
        run(exp, data, own)
    assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == before
    with pytest.raises(UserError, match="eve-1.flac: is a file; name the folder"):
        run(exp, data / "wav" / "ann-1.flac", data / "wav" / "eve-1.flac")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "extract.json.tmp.12").touch()  # another job's, which is just writing it
    assert_frames(dict(read_float_matrices(run(exp, data, empty) / "feats.scp")))


def test_a_full_disk_is_no_end(
    exp: Path, data: Path, tmp_path: Path, small_pools: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """A limit on the size of files stands in for it; the same command goes on once there is room."""
    whole, out = run(exp, data, tmp_path / "whole"), tmp_path / "out"

    def command() -> None:
        run(exp, data, out)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
        errors.run(command)

    assert in_a_child(work) == 1
    said = f"error: {out}: cannot be written (File too large); make room, and run the same command again"
    assert capfd.readouterr().err.splitlines()[-1] == said
    assert not (out / "feats.scp").exists() and 0 < len((out / "extract.jsonl").read_text().splitlines()) < 3
    run(exp, data, out)
    assert (out / "feats.ark").read_bytes() == (whole / "feats.ark").read_bytes()


def test_a_damaged_archive_or_model_is_no_start(exp: Path, data: Path, tmp_path: Path) -> None:
    out = run(exp, data, tmp_path / "out")
    os.truncate(out / "feats.ark", 1000)
    with pytest.raises(UserError, match=rf"feats.ark: has 1,000 bytes of the .* remove {out} and begin"):
        run(exp, data, out)
    broken = tmp_path / "exp"
    (broken / "checkpoints").mkdir(parents=True)
    (broken / "config.yaml").write_bytes((exp / "config.yaml").read_bytes())
    (broken / "checkpoints" / "update-00000001.pt").write_bytes(b"PK\3\4" + bytes(1000))
    with pytest.raises(UserError, match="none of 1 checkpoints can be read"):
        run(broken, data, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_input_that_is_wrong_is_listed_at_once(exp: Path, data: Path, tmp_path: Path) -> None:
    write_table(data / "wav.scp", {"a": "sox in.wav -t wav - |", "b": str(data / "b.wav")})
    write_table(data / "segments", {"a-1": "a 0 1", "b-1": "b 2 1", "b-2": "c 0 1"})
    write_table(data / "utt2spk", {"a-1": "a", "b-1": "b", "b-2": "b", "b-3": "b"})
    with pytest.raises(UserError, match=r"(?s)4 problems.*sox in.wav.*b-3.*b-1: 'b 2 1'.*b-2: c is not in wav.scp"):
        run(exp, data, tmp_path / "out")
    with pytest.raises(UserError, match="no such file or folder"):
        run(exp, tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no audio here"):
        run(exp, tmp_path / "empty", tmp_path / "out")


def test_ids_that_cannot_name_a_file(exp: Path, tmp_path: Path) -> None:
    """The longest that can does; of folders within folders, an id may be longer than any name in them."""
    longest = "x" * 239
    folder = tmp_path / "in" / longest[:120]
    folder.mkdir(parents=True)
    soundfile.write(folder / f"{longest[121:]}.wav", sound("", 1600), 16000)  # with the hyphen between them, 239
    out = run(exp, tmp_path / "in", tmp_path / "out", "--format", "npy")
    assert [len(utterance) for utterance in read_table(out / "npy.scp")] == [239]
    soundfile.write(folder / f"{longest[120:]}.wav", sound("", 1600), 16000)
    with pytest.raises(UserError, match="1 ids have a slash or more than 239 bytes .* take --format kaldi"):
        run(exp, tmp_path / "in", tmp_path / "other", "--format", "npy")
    assert len(read_table(run(exp, tmp_path / "in", tmp_path / "other") / "feats.scp")) == 2


def test_two_at_the_same_part(exp: Path, data: Path, tmp_path: Path) -> None:
    out = run(exp, data, tmp_path / "out")
    journal = Journal(out / "extract.jsonl")
    with pytest.raises(UserError, match="another process"):
        run(exp, data, out)
    journal.close()
    run(exp, data, out)
