from __future__ import annotations

import errno
import math
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cpc_speech.audio import AudioError, AudioReader, decode, seconds, wav_path

NOISE = np.random.default_rng(0).integers(-32768, 32768, 16_000).astype(np.int16)


def sine(frequency: float, rate: int, length: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(int(length * rate)) / rate)


@pytest.mark.parametrize("suffix", ["flac", "wav"])
def test_16_bit_mono_is_bit_exact(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, NOISE, 16_000, subtype="PCM_16")
    samples, info = decode(path)
    np.testing.assert_array_equal(samples, NOISE)
    assert samples.dtype == np.int16 and info == (16_000, 1)
    assert seconds(path) == 1.0


@pytest.mark.parametrize("subtype", ["PCM_24", "FLOAT"])
def test_other_sample_formats_give_the_same_int16(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE / 32768, 16_000, subtype=subtype)
    np.testing.assert_array_equal(decode(tmp_path / "a.wav")[0], NOISE)


def test_stereo_is_averaged(tmp_path: Path) -> None:
    left, right = np.array([100, -32768, 32767, 0]), np.array([200, -32768, 32767, -2])
    soundfile.write(tmp_path / "a.flac", np.stack([left, right], axis=1).astype(np.int16), 16_000)
    samples, info = decode(tmp_path / "a.flac")
    assert samples.tolist() == [150, -32768, 32767, -1] and info.channels == 2


def test_stereo_44100_hz_becomes_the_same_tone_at_16_khz(tmp_path: Path) -> None:
    tone = 0.5 * sine(440, 44_100)
    soundfile.write(tmp_path / "a.flac", np.stack([tone, tone], axis=1), 44_100)
    samples, info = decode(tmp_path / "a.flac")
    assert info == (44_100, 2) and len(samples) == 16_000
    expected = 0.5 * sine(440, 16_000) * 32768
    middle = slice(1000, 15_000)  # away from the filter's edges
    assert np.abs(samples[middle] - expected[middle]).max() < 4  # of 16,384


def test_resampling_removes_what_16_khz_cannot_hold(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 0.5 * sine(10_000, 44_100), 44_100)
    assert np.abs(decode(tmp_path / "a.wav")[0][1000:15_000]).max() < 4


def test_loud_floats_saturate(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([1.5, -1.5, 1.0, -1.0, 0.5]), 16_000, subtype="FLOAT")
    assert decode(tmp_path / "a.wav")[0].tolist() == [32767, -32768, 32767, -32768, 16384]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_number(tmp_path: Path, value: float) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0.0, value]), 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match="a.wav: .*NaN"):
        decode(tmp_path / "a.wav")


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("suffix", ["flac", "wav"])
def test_cut_short(tmp_path: Path, suffix: str, keep: float) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, NOISE, 16_000)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(AudioError, match=rf"a\.{suffix}: .*cut short"):
        decode(path)


def test_damaged_inside(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", NOISE, 16_000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[len(content) // 2] ^= 16
    (tmp_path / "a.flac").write_bytes(content)
    with pytest.raises(AudioError, match="a.flac: damaged or cut short"):
        decode(tmp_path / "a.flac")


def test_streamed_wav_of_undeclared_length_is_whole(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE, 16_000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[4:8] = content[40:44] = struct.pack("<I", 0xFFFFFFFF)
    (tmp_path / "a.wav").write_bytes(content)
    np.testing.assert_array_equal(decode(tmp_path / "a.wav")[0], NOISE)


def test_streamed_flac_of_undeclared_length(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", NOISE, 16_000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0  # STREAMINFO: the last 36 bits before the MD5 are the number of samples
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    for read in (decode, seconds):
        with pytest.raises(AudioError, match="does not say how long"):
            read(tmp_path / "a.flac")


@pytest.mark.parametrize("content", [b"", b"not audio at all"])
def test_not_audio(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.flac").write_bytes(content)
    for read in (decode, seconds):
        with pytest.raises(AudioError, match="a.flac: no audio header"):
            read(tmp_path / "a.flac")


def test_empty_utterance(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0, np.int16), 16_000)
    for read in (decode, seconds):
        with pytest.raises(AudioError, match="a.wav: holds no samples"):
            read(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="no such file"):
        decode(tmp_path / "b.wav")


def test_a_path_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than a name may be; or on a share that has gone."""
    with pytest.raises(AudioError, match=r"x.wav: cannot be reached \(File name too long\)"):
        decode(tmp_path / ("x" * 300 + ".wav"))

    def stale(self: Path, **options: bool) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(self))

    monkeypatch.setattr(Path, "stat", stale)
    with pytest.raises(AudioError, match=r"x.wav: cannot be reached \(Stale file handle\)"):
        decode(tmp_path / "x.wav")


def test_wav_scp_entries() -> None:
    assert wav_path("/a b/c.flac") == "/a b/c.flac"
    assert wav_path("flac -c -d -s /x/y.flac |") == "/x/y.flac"
    assert wav_path("/usr/bin/flac -cds y.flac|") == "y.flac"
    for pipe in ("sox a.wav -t wav - |", "flac -c -s a.flac |", "flac -c -d a.flac; rm b |", "| cat", ""):
        with pytest.raises(AudioError, match="neither a file nor"):
            wav_path(pipe)


@pytest.mark.parametrize("rate, channels", [(16_000, 1), (16_000, 2), (44_100, 1), (8_000, 2)])
@pytest.mark.parametrize("size", [997, 16_000, 1 << 20])
def test_blocks_are_the_whole(tmp_path: Path, rate: int, channels: int, size: int) -> None:
    """The resampler's state is carried from block to block: not a sample differs."""
    noise = np.random.default_rng(1).uniform(-0.3, 0.3, (30_011, channels))
    soundfile.write(tmp_path / "a.wav", noise, rate)
    with AudioReader(tmp_path / "a.wav") as reader:
        blocks = list(reader.blocks(size))
        assert reader.num_samples == sum(map(len, blocks)) == math.ceil(30_011 * 16_000 / rate)
        assert reader.seconds == 30_011 / rate and reader.length == 30_011
    np.testing.assert_array_equal(np.concatenate(blocks), decode(tmp_path / "a.wav")[0])


@pytest.mark.parametrize(
    "start, end, first, last",
    [(0, -1, 0, 16_000), (0.25, 0.5, 4000, 8000), (0.9, 1.4, 14_400, 16_000), (0.29, -1, 4640, 16_000)],
)
def test_a_stretch(tmp_path: Path, start: float, end: float, first: int, last: int) -> None:
    soundfile.write(tmp_path / "a.flac", NOISE, 16_000)
    with AudioReader(tmp_path / "a.flac", start, end) as reader:
        np.testing.assert_array_equal(np.concatenate(list(reader.blocks(1000))), NOISE[first:last])


@pytest.mark.parametrize("start, end", [(1.0, -1), (0.5, 1.51), (2, 3), (0.5, 0.5)])
def test_a_stretch_that_is_not_there(tmp_path: Path, start: float, end: float) -> None:
    """extract-segments, too, takes an end that is up to half a second too late."""
    soundfile.write(tmp_path / "a.flac", NOISE, 16_000)
    with pytest.raises(AudioError, match="a.flac: lasts 1.000 s, so it has no stretch from"):
        AudioReader(tmp_path / "a.flac", start, end)
