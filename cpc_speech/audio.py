"""One audio file, or a stretch of one, to mono int16 samples at 16 kHz; all that soundfile reads (FLAC, WAV, MP3)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from cpc_speech.errors import UserError, require
from cpc_speech.packed import SAMPLE_RATE

# A program that streams a file cannot know its length when it writes the header.
UNKNOWN_LENGTH = 1 << 40  # samples; of such a FLAC libsndfile says 2^63 - 1
STREAMED_WAV = 0x7FFF0000  # bytes; such a WAV declares this many or more
_OVERSHOOT = 0.5  # s; extract-segments' --max-overshoot


class AudioError(UserError):
    """A file that cannot be used, and why: ``<path>: <reason>``."""

    def __init__(self, path: str | Path, reason: object) -> None:
        super().__init__(f"{path}: {reason}")


class AudioInfo(NamedTuple):
    """What the file held before it was converted."""

    sample_rate: int  # Hz
    channels: int


def wav_path(entry: str) -> str:
    """The file that a wav.scp entry means: a plain path, or the FILE of ``flac -c -d -s FILE |``.

    Raises:
        AudioError: any other pipe, as reading a table must not run commands.
    """
    flac = re.fullmatch(r"(?:\S*/)?flac((?:\s+-[cds]+)+)\s+(\S+)\s*\|", entry)
    if flac and set("cd") <= set(flac[1]):
        return flac[2]
    if not entry or entry.startswith("|") or entry.endswith("|"):
        raise AudioError(
            repr(entry), "neither a file nor `flac -c -d -s FILE |`; write the audio to a file and name that"
        )
    return entry


def seconds(path: str | Path) -> float:
    """Duration by the header alone. Raises AudioError where it cannot be read, or says zero or nothing."""
    with _open(path) as file:
        return file.frames / file.samplerate


def decode(path: str | Path) -> tuple[np.ndarray, AudioInfo]:
    """Decode a whole file: (samples,) int16, mono, 16 kHz, and what it was; see ``AudioReader``."""
    with AudioReader(path) as reader:
        blocks = list(reader.blocks(UNKNOWN_LENGTH))
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks), reader.info


class AudioReader:
    """A file, or a stretch of one, block by block: mono int16 at 16 kHz, in memory that does not grow with its length.

    16-bit mono PCM at 16 kHz comes through bit for bit. Channels are averaged, other rates resampled
    (soxr, high quality), and what then lies outside the int16 range saturates.

    Args:
        start, end: of the stretch, in seconds; by default all of it. As in Kaldi's extract-segments, an ``end`` of −1
            is the file's, and so is one that lies up to half a second behind it.

    Raises:
        AudioError: not audio, empty, or nothing of it in this stretch; by ``blocks`` also: cut short, or with samples
            that are no numbers.
    """

    def __init__(self, path: str | Path, start: float = 0.0, end: float = -1.0) -> None:
        self.path = path
        self._file = _open(path)
        rate, frames = self._file.samplerate, self._file.frames
        self.info = AudioInfo(rate, self._file.channels)
        self._first, last = round(start * rate), frames if end == -1 else round(end * rate)
        if not 0 <= self._first < min(last, frames) or last > frames + rate * _OVERSHOOT:
            self._file.close()
            stretch = f"{start:g} s to " + ("its end" if end == -1 else f"{end:g} s")
            raise AudioError(path, f"lasts {frames / rate:.3f} s, so it has no stretch from {stretch}")
        self.length = frames  # of the file, at its own rate
        self._frames = min(last, frames) - self._first  # of the stretch
        self.seconds = self._frames / rate
        self.num_samples = math.ceil(self._frames * SAMPLE_RATE / rate)  # of the stretch, at 16 kHz

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """Yield all ``num_samples`` samples, (n,) int16 at a time, from ``size`` samples of the file each."""
        if self.info == (SAMPLE_RATE, 1) and self._file.subtype == "PCM_16":
            yield from self._read(size, "int16")
            return
        mono = self._mono(size)
        for samples in mono if self.info.sample_rate == SAMPLE_RATE else self._resampled(mono):
            # 32768 is libsndfile's own scale: a float that came from an int16 goes back to the same one.
            yield np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)

    def _resampled(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        soxr = require("soxr", "analysis")
        resampler = soxr.ResampleStream(self.info.sample_rate, SAMPLE_RATE, 1, quality="HQ")
        due = self.num_samples  # soxr may round the last one off: it is then silence, as in librosa
        for block in blocks:
            resampled = resampler.resample_chunk(block)[:due]
            due -= len(resampled)
            yield resampled
        rest = resampler.resample_chunk(np.empty(0, np.float32), last=True)[:due]
        yield np.pad(rest, (0, due - len(rest)))

    def _mono(self, size: int) -> Iterator[np.ndarray]:
        for samples in self._read(size, "float32"):
            if self.info.channels > 1:
                samples = samples.mean(axis=1)
            if not np.isfinite(samples).all():
                raise AudioError(self.path, "holds samples that are NaN or infinite; write it again from its source")
            yield samples

    def _read(self, size: int, dtype: str) -> Iterator[np.ndarray]:
        """The stretch as it is in the file, in blocks (n,) or (n, channels)."""
        if self._first:
            self._file.seek(self._first)
        left = self._frames
        while left:
            try:
                samples = self._file.read(min(size, left), dtype=dtype)
            except (soundfile.SoundFileError, RuntimeError) as error:
                raise AudioError(self.path, f"damaged or cut short ({_reason(error)}); fetch it again") from error
            if not len(samples):
                held = f"{self._first + self._frames - left:,} samples of the {self._file.frames:,} in its header"
                raise AudioError(self.path, f"cut short: {held}; fetch it again")
            left -= len(samples)
            yield samples


def _open(path: str | Path) -> soundfile.SoundFile:
    """The opened file, after the checks that need only the header."""
    try:
        if not Path(path).is_file():
            raise AudioError(path, "no such file")
        file = soundfile.SoundFile(path)
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        raise AudioError(path, f"no audio header ({_reason(error)}); fetch it again or remove it") from error
    except OSError as error:
        raise AudioError(path, f"cannot be reached ({error.strerror})") from error
    fault = None
    # libsndfile takes a WAV that was cut short for a shorter one, and says so in its log only.
    declared = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if declared and int(declared[2]) < int(declared[1]) < STREAMED_WAV:
        fault = f"cut short: {declared[2]} bytes of the {declared[1]} in its header; fetch it again"
    elif file.frames == 0:
        fault = "holds no samples; remove it, or fetch it again"
    elif file.frames > UNKNOWN_LENGTH:
        fault = "its header does not say how long it is; write it again (flac or sox, to a file)"
    if fault:
        file.close()
        raise AudioError(path, fault)
    return file


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).rstrip(". ")
