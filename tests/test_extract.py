"""Features of files against the network's own on the decoded samples, read back by the toolkits they are for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from extraction import (  # noqa: F401
    LENGTHS,
    SMALL,
    assert_frames,
    data_of_files,
    expected,
    run,
    several_pools,
    small_exp,
    sound,
)

from cpc_speech.checkpoint import build_model
from cpc_speech.datadir import read_table, write_table
from cpc_speech.errors import UserError
from cpc_speech.extract import own_device
from cpc_speech.kaldi import read_float_matrices

kaldiio = pytest.importorskip("kaldiio")


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


def test_tables_may_have_tabs(exp: Path, data: Path, tmp_path: Path) -> None:
    for name in ("wav.scp", "utt2spk", "text"):
        (data / name).write_text("".join(f"{key}\t{rest}\n" for key, rest in read_table(data / name).items()))
    out = run(exp, data, tmp_path / "out")
    assert read_table(out / "text") == {name: f"WORDS OF {name}" for name in LENGTHS}
    assert (out / "spk2utt").read_text() == "ann ann-1 ann-2\nbob bob-1 bob-2\neve eve-1 eve-2\n"
    assert_frames(dict(read_float_matrices(out / "feats.scp")))


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


@pytest.mark.parametrize("gpus, devices", [(0, ["cpu"] * 3), (1, ["cuda:0"] * 3), (2, ["cuda:0", "cuda:1", "cuda:0"])])
def test_torchruns_processes_share_out_the_gpus(gpus: int, devices: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert str(own_device()) == devices[0]  # alone
    for rank, device in enumerate(devices):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        assert str(own_device()) == device


def test_a_rank_alone_is_no_torchruns(exp: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some clusters set it for every job."""
    monkeypatch.setenv("RANK", "1")
    assert_frames(dict(read_float_matrices(run(exp, data, tmp_path / "out") / "feats.scp")))


def test_silence_and_other_rates(exp: Path, tmp_path: Path) -> None:
    """Silence is sound like any other; 8 kHz gives as many frames as it lasts."""
    for name, rate in (("silence", 16000), ("slow", 8000)):
        (tmp_path / "in").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "in" / f"{name}.wav", np.zeros(rate, np.int16), rate)
    found = dict(read_float_matrices(run(exp, tmp_path / "in", tmp_path / "out") / "feats.scp"))
    for frames in found.values():
        np.testing.assert_allclose(frames, expected(np.zeros(16000, np.int16)), rtol=0, atol=1e-5)
