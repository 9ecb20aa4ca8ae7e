"""Features of files against the network's own on the decoded samples, read back by the toolkits they are for."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from cpc_speech import extract as module
from cpc_speech import feature_dir, pools
from cpc_speech.checkpoint import build_model, save
from cpc_speech.config import Config
from cpc_speech.datadir import read_table, write_table
from cpc_speech.errors import UserError
from cpc_speech.extract import main
from cpc_speech.journal import Journal
from cpc_speech.kaldi import read_float_matrices
from cpc_speech.model import CPC

kaldiio = pytest.importorskip("kaldiio")
SMALL = Config(channels=16, context_dim=8, steps=2, context_layers=2, seed=3)
# Samples: with no whole frame behind the last, a whole one but for a sample, just one frame; others are longer.
LENGTHS = {
    "ann-1": 16000,
    "ann-2": 8000 + 159,
    "bob-1": 160,
    "bob-2": 24000 + 80,
    "eve-1": 5000,
    "eve-2": 3 * 16000 + 1,
}


def sound(name: str, n: int) -> np.ndarray:
    return (3000 * np.random.default_rng(len(name) + n).standard_normal(n)).astype(np.int16)


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    exp = tmp_path_factory.mktemp("exp")
    (exp / "config.yaml").write_text(SMALL.dump())
    save(exp, {"update": 1, "model": build_model(SMALL).state_dict()}, keep=1)
    return exp


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A Kaldi data directory of FLAC files, one of them behind Kaldi's usual pipe."""
    data = tmp_path / "data"
    for name, n in LENGTHS.items():
        (data / "wav").mkdir(parents=True, exist_ok=True)
        soundfile.write(data / "wav" / f"{name}.flac", sound(name, n), 16000)
    wavs = {name: str(data / "wav" / f"{name}.flac") for name in LENGTHS}
    write_table(data / "wav.scp", wavs | {"eve-1": f"flac -c -d -s {wavs['eve-1']} |"})
    write_table(data / "utt2spk", {name: name[:3] for name in LENGTHS})
    write_table(data / "text", {name: f"WORDS OF {name}" for name in LENGTHS})
    return data


@pytest.fixture
def small_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pools, one streamed utterance in each of several blocks."""
    monkeypatch.setattr(pools, "LONG", 20000)
    monkeypatch.setattr(pools, "_POOL", 10000)
    monkeypatch.setattr(pools, "BLOCK", 7001)
    monkeypatch.setattr(module, "BLOCK", 7001)


@torch.no_grad()
def expected(samples: np.ndarray, layer: str = "c", model: CPC | None = None) -> np.ndarray:
    """By the network, all at once, in fp32."""
    z, c = (model or build_model(SMALL)).eval()(torch.from_numpy(samples.astype(np.float32) / 32768)[None])
    return {"c": c, "z": z, "both": torch.cat((z, c), -1)}[layer][0].numpy()


def run(exp: Path, data: Path, out: Path, *options: str) -> Path:
    main([str(exp), str(data), str(out), "--precision", "fp32", *options])
    return out


def assert_frames(found: dict[str, np.ndarray], layer: str = "c", model: CPC | None = None) -> None:
    assert list(found) == sorted(LENGTHS)
    for name, n in LENGTHS.items():
        assert found[name].shape[0] == n // 160 and found[name].dtype == np.float32
        # fp32 of values about 1, products of other heights
        np.testing.assert_allclose(found[name], expected(sound(name, n), layer, model), rtol=0, atol=1e-5)


@pytest.mark.parametrize("layer", ["c", "z", "both"])
def test_kaldis_readers_read_the_networks_frames(
    exp: Path, data: Path, tmp_path: Path, small_pools: None, layer: str
) -> None:
    out = run(exp, data, tmp_path / "out", "--layer", layer)
    assert_frames(dict(read_float_matrices(out / "feats.scp")), layer)
    assert_frames(dict(kaldiio.load_ark(str(out / "feats.ark"))), layer)
    assert_frames({name: kaldiio.load_scp(str(out / "feats.scp"))[name] for name in sorted(LENGTHS)}, layer)
    native = pytest.importorskip("kaldi_native_io")
    with native.SequentialFloatMatrixReader(f"scp:{out / 'feats.scp'}") as reader:
        assert_frames({key: np.array(value) for key, value in reader}, layer)
    with native.RandomAccessFloatMatrixReader(f"scp:{out / 'feats.scp'}") as reader:
        for name in ("eve-2", "ann-1"):
            np.testing.assert_allclose(reader[name], expected(sound(name, LENGTHS[name]), layer), rtol=0, atol=1e-5)


def test_what_comes_out_is_a_kaldi_data_directory(exp: Path, data: Path, tmp_path: Path) -> None:
    out = run(exp, data, tmp_path / "out")
    for name in ("wav.scp", "utt2spk", "text"):
        assert (out / name).read_bytes() == (data / name).read_bytes()
    assert (out / "spk2utt").read_text() == "ann ann-1 ann-2\nbob bob-1 bob-2\neve eve-1 eve-2\n"
    assert read_table(out / "utt2num_frames") == {name: str(n // 160) for name, n in LENGTHS.items()}
    assert {name: float(x) for name, x in read_table(out / "utt2dur").items()} == {
        name: n / 16000 for name, n in LENGTHS.items()
    }
    assert [(out / name).read_text() for name in ("frame_shift", "feat_dim", "feats.dropped")] == ["0.01\n", "8\n", ""]
    for table in ("feats.scp", "wav.scp", "utt2spk", "spk2utt", "utt2num_frames", "utt2dur", "text"):
        subprocess.run(["sort", "-c", "-u", "-k1,1", out / table], env=os.environ | {"LC_ALL": "C"}, check=True)
    assert not [path for path in out.rglob("*") if ".tmp." in path.name]


def test_segments_are_stretches_of_recordings(exp: Path, data: Path, tmp_path: Path, small_pools: None) -> None:
    """Also one of a long recording that is streamed, and one to the end."""
    (data / "text").unlink()
    (data / "segments").write_text("ann-a ann-1 0.1 0.5\nbob-a bob-2 0 -1\nbob-b bob-2 1.25 1.9\neve-a eve-2 0.5 2.5\n")
    write_table(data / "utt2spk", {name: name[:3] for name in ("ann-a", "bob-a", "bob-b", "eve-a")})
    out = run(exp, data, tmp_path / "out")
    found = dict(read_float_matrices(out / "feats.scp"))
    stretches = {"ann-a": ("ann-1", 1600, 8000), "bob-a": ("bob-2", 0, None), "bob-b": ("bob-2", 20000, None)}
    stretches["eve-a"] = ("eve-2", 8000, 40000)
    assert list(found) == sorted(stretches)
    for name, (recording, start, end) in stretches.items():
        frames = expected(sound(recording, LENGTHS[recording])[start:end])
        np.testing.assert_allclose(found[name], frames, rtol=0, atol=1e-5)
    assert (out / "segments").read_bytes() == (data / "segments").read_bytes()
    assert list(read_table(out / "wav.scp")) == ["ann-1", "bob-2", "eve-2"]


def test_c1_is_the_contexts_first_layer(exp: Path, data: Path, tmp_path: Path) -> None:
    found = dict(read_float_matrices(run(exp, data, tmp_path / "out", "--layer", "c1") / "feats.scp"))
    model = build_model(SMALL)
    z = model.encoder(torch.from_numpy(sound("ann-1", 16000).astype(np.float32) / 32768)[None])
    single = torch.nn.GRU(16, 8, batch_first=True)
    state = model.context.state_dict()
    single.load_state_dict({name: state[f"rnn.{name}"] for name in single.state_dict()})
    np.testing.assert_allclose(found["ann-1"], single(z)[0][0].detach().numpy(), rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="layer 'c3': the network has z, c, both, c1, c2"):
        run(exp, data, tmp_path / "other", "--layer", "c3")
    assert not (tmp_path / "other").exists()


def test_folders_and_files_as_arrays(exp: Path, data: Path, tmp_path: Path, small_pools: None) -> None:
    (data / "wav.scp").unlink()
    out = run(exp, data / "wav", tmp_path / "out", "--format", "npy")
    paths = read_table(out / "npy.scp")
    assert_frames({name: np.load(path) for name, path in paths.items()})
    assert paths["ann-1"] == f"{out}/npy/ann-1/ann-1.npy"  # a file directly in the folder is a speaker
    one = data / "wav" / "eve-1.flac"
    out = run(exp, one, tmp_path / "one", "--format", "npy")
    np.testing.assert_allclose(np.load(out / "npy/eve-1/eve-1.npy"), np.load(paths["eve-1"]), rtol=0, atol=1e-6)


def test_lhotse_finds_nothing_wrong(exp: Path, data: Path, tmp_path: Path) -> None:
    """Frames, durations and audio agree, also of a recording at another rate and of segments."""
    lhotse = pytest.importorskip("lhotse")
    soundfile.write(data / "wav" / "zoe.wav", np.random.default_rng(0).uniform(-0.1, 0.1, (33_333, 2)), 22_050)
    write_table(data / "wav.scp", read_table(data / "wav.scp") | {"zoe": str(data / "wav" / "zoe.wav")})
    stretches = {name: f"{name} 0 -1" for name in LENGTHS} | {"zoe-a": "zoe 0.1 0.755", "zoe-b": "zoe 0.7 -1"}
    write_table(data / "segments", stretches)
    write_table(data / "utt2spk", {name: name[:3] for name in stretches})
    out = run(exp, data, tmp_path / "out", "--format", "lhotse")
    kinds = {"recordings": "RecordingSet", "supervisions": "SupervisionSet", "features": "FeatureSet", "cuts": "CutSet"}
    sets = {name: getattr(lhotse, kind).from_file(out / f"{name}.jsonl.gz") for name, kind in kinds.items()}
    for name in kinds:
        lhotse.validate(sets[name], read_data=True)
    cuts = {cut.id: cut for cut in sets["cuts"]}
    assert sorted(cuts) == sorted(stretches)
    for name, n in LENGTHS.items():
        frames, own = cuts[name].load_features(), expected(sound(name, n))
        assert len(frames) == lhotse.utils.compute_num_frames(n / 16000, 0.01, 16000)
        np.testing.assert_allclose(frames[: len(own)], own, rtol=0, atol=1e-5)
        assert len(frames) == len(own) or (len(frames) == len(own) + 1 and np.array_equal(frames[-1], frames[-2]))
        assert cuts[name].supervisions[0].text == f"WORDS OF {name}"
    assert cuts["zoe-a"].load_features().shape == (66, 8)  # 65.5 frames, rounded up
    assert cuts["zoe-a"].load_audio().shape[1] == round(0.655 * 16000)


def test_lhotse_finds_audio_from_anywhere(
    exp: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kaldi's paths are read from where one stands; a manifest is read from elsewhere."""
    lhotse = pytest.importorskip("lhotse")
    monkeypatch.chdir(data)
    write_table(data / "wav.scp", {name: f"wav/{name}.flac" for name in LENGTHS})
    out = run(exp, data, tmp_path / "out", "--format", "lhotse")
    monkeypatch.chdir(tmp_path)
    for cut in lhotse.CutSet.from_file(out / "cuts.jsonl.gz"):
        assert cut.load_audio().shape == (1, LENGTHS[cut.id])


def test_statistics_are_kaldis(exp: Path, data: Path, tmp_path: Path) -> None:
    out = run(exp, data, tmp_path / "out", "--cmvn")
    frames = dict(read_float_matrices(out / "feats.scp"))
    stats = dict(kaldiio.load_scp(str(out / "cmvn.scp")).items())
    assert list(stats) == ["ann", "bob", "eve"]
    for speaker, matrix in stats.items():
        x = np.concatenate([frames[name] for name in sorted(LENGTHS) if name.startswith(speaker)]).astype(np.float64)
        assert matrix.shape == (2, 9) and matrix.dtype == np.float64
        np.testing.assert_allclose(matrix[0], [*x.sum(0), len(x)], rtol=1e-12)
        np.testing.assert_allclose(matrix[1], [*(x**2).sum(0), 0], rtol=1e-12)


def test_parts_in_any_order_make_one_index(exp: Path, data: Path, tmp_path: Path) -> None:
    whole = dict(read_float_matrices(run(exp, data, tmp_path / "whole") / "feats.scp"))
    out = tmp_path / "parts"
    for job in (3, 1, 4, 2):
        assert not (out / "feats.scp").exists()
        run(exp, data, out, "--nj", "4", "--job", str(job))
    parts = dict(read_float_matrices(out / "feats.scp"))
    assert list(parts) == list(whole)
    for name in whole:  # other batches
        np.testing.assert_allclose(parts[name], whole[name], rtol=0, atol=1e-6)
    before = {path: path.read_bytes() for path in out.iterdir()}
    run(exp, data, out, "--nj", "4", "--job", "2")  # once more does no harm
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_torchruns_processes_are_the_parts(
    exp: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        assert not (out / "feats.scp").exists()
        monkeypatch.setenv("RANK", rank)
        run(exp, data, out)
    assert {path.name for path in out.glob("*.ark")} == {"feats.1.ark", "feats.2.ark"}
    assert_frames(dict(read_float_matrices(out / "feats.scp")))


def in_a_child(work: Callable[[], object]) -> int:
    """Run it in a fork of this process; its exit status, minus the signal that ended it."""

    def child() -> None:
        torch.set_num_threads(1)
        work()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


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


def test_silence_and_other_rates(exp: Path, tmp_path: Path) -> None:
    """Silence is sound like any other; 8 kHz gives as many frames as it lasts."""
    for name, rate in (("silence", 16000), ("slow", 8000)):
        (tmp_path / "in").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "in" / f"{name}.wav", np.zeros(rate, np.int16), rate)
    found = dict(read_float_matrices(run(exp, tmp_path / "in", tmp_path / "out") / "feats.scp"))
    for frames in found.values():
        np.testing.assert_allclose(frames, expected(np.zeros(16000, np.int16)), rtol=0, atol=1e-5)


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


def test_a_full_disk_is_no_end(exp: Path, data: Path, tmp_path: Path, small_pools: None) -> None:
    """A limit on the size of files stands in for it; the same command goes on once there is room."""
    whole, out = run(exp, data, tmp_path / "whole"), tmp_path / "out"
    said = tmp_path / "said"

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
        try:
            run(exp, data, out)
        except UserError as error:
            said.write_text(str(error))

    assert in_a_child(work) == 0
    assert said.read_text() == f"{out}: the disk is full; make room, and run the same command again to go on"
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


def test_two_at_the_same_part(exp: Path, data: Path, tmp_path: Path) -> None:
    out = run(exp, data, tmp_path / "out")
    journal = Journal(out / "extract.jsonl")
    with pytest.raises(UserError, match="another process"):
        run(exp, data, out)
    journal.close()
    run(exp, data, out)
