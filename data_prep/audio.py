"""One audio file to mono int16 samples at 16 kHz; whatever soundfile reads (FLAC, WAV, OGG, MP3, ...)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from cpc_speech.errors import UserError, require
from cpc_speech.packed import SAMPLE_RATE

# Programs that stream a file cannot know its length when they write its header.
UNKNOWN_LENGTH = 1 << 40  # samples; for FLAC libsndfile then gives 2^63 - 1
STREAMED_WAV = 0x7FFF0000  # bytes; in WAV they declare this much or more


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
        AudioError: any other pipe; running a stranger's command is not reading a file.
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
    """Decode a whole file: (samples,) int16, mono, 16 kHz, and what it was.

    16-bit mono PCM at 16 kHz comes through bit for bit. Channels are averaged, other rates resampled
    (soxr, high quality), and what then lies outside the int16 range saturates.

    Raises:
        AudioError: not audio, cut short, empty, or with samples that are no numbers.
    """
    with _open(path) as file:
        info = AudioInfo(file.samplerate, file.channels)
        exact = info == (SAMPLE_RATE, 1) and file.subtype == "PCM_16"
        try:
            samples = file.read(dtype="int16" if exact else "float32")
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise AudioError(path, f"damaged or cut short ({_reason(error)}); fetch it again") from error
        if len(samples) != file.frames:
            held = f"{len(samples):,} samples of the {file.frames:,} in its header"
            raise AudioError(path, f"cut short: {held}; fetch it again")
    if exact:
        return samples, info
    if info.channels > 1:
        samples = samples.mean(axis=1)
    if not np.isfinite(samples).all():
        raise AudioError(path, "holds samples that are NaN or infinite; write it again from its source")
    if info.sample_rate != SAMPLE_RATE:
        librosa = require("librosa", "analysis")
        rates = {"orig_sr": info.sample_rate, "target_sr": SAMPLE_RATE}
        samples = librosa.resample(samples, **rates, res_type="soxr_hq")
        if not len(samples):
            raise AudioError(path, "too short to resample to 16 kHz; remove it")
    # 32768 is libsndfile's own scale: a float that came from an int16 goes back to the same one.
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16), info


def _open(path: str | Path) -> soundfile.SoundFile:
    """The opened file, after the checks that need only the header."""
    if not Path(path).is_file():
        raise AudioError(path, "no such file")
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        raise AudioError(path, f"no audio header ({_reason(error)}); fetch it again or remove it") from error
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
