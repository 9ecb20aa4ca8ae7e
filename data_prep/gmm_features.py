"""Features of the GMM-HMM aligner: 13 MFCCs normalised per speaker, with their first and second differences.

T = n // 160 frames of an utterance of n samples, as everywhere in this suite. With Kaldi's snip_edges=false frame t is
the window of 400 samples from 160 t - 120 on (Kaldi, feature-window.cc), its centre 160 t + 79.5: our frame t's, which
is 160 t + 79 (cpc_speech.phones). So alignments need no shift: one state a frame is one label a frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cpc_speech.errors import require
from cpc_speech.files import atomic_write, remove_strays
from cpc_speech.packed import PackedAudio
from cpc_speech.phones import HOP, SAMPLE_RATE

CEPSTRA = 13
DIM = 3 * CEPSTRA  # with deltas and delta-deltas
# Kaldi adds noise of this standard deviation (one int16 step), without which digital silence has a logarithm far
# below everything else and rules the speaker's variance. Ours is the same noise in every run.
DITHER = 1.0
MFCC_FILE, NORMS_FILE = "mfcc.f32", "cmvn.npy"


def mfcc(audio: np.ndarray) -> np.ndarray:
    """(n,) int16 at 16 kHz -> (n // 160, 13) float32: Kaldi's MFCC, with C0, as its recipes' mfcc.conf says."""
    knf = require("kaldi_native_fbank", "align")
    frames = len(audio) // HOP
    options = knf.MfccOptions()
    options.frame_opts.samp_freq = SAMPLE_RATE
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False
    options.num_ceps = CEPSTRA
    options.use_energy = False
    extractor = knf.OnlineMfcc(options)
    # Cropped to whole frames: Kaldi would make one more of a remainder of half a frame.
    noise = DITHER * np.random.default_rng(0).standard_normal(frames * HOP, dtype=np.float32)
    extractor.accept_waveform(SAMPLE_RATE, (audio[: frames * HOP] + noise).tolist())
    extractor.input_finished()
    found = np.empty((extractor.num_frames_ready, CEPSTRA), np.float32)
    for frame in range(len(found)):
        found[frame] = extractor.get_frame(frame)
    return found


def write_features(work: Path, audio: PackedAudio, mfccs: Iterable[np.ndarray]) -> None:
    """Stream every utterance's MFCCs, in the packed audio's order, to WORK/mfcc.f32, then WORK/cmvn.npy."""
    sums = np.zeros((len(audio.speaker_names), 3, CEPSTRA))  # frames, sum, sum of squares
    remove_strays(work / MFCC_FILE)
    with atomic_write(work / MFCC_FILE, "wb") as file:
        for speaker, cepstra in zip(audio.speaker_index, mfccs, strict=True):
            file.write(cepstra.tobytes())
            wide = cepstra.astype(np.float64)
            sums[speaker] += [np.full(CEPSTRA, len(wide)), wide.sum(axis=0), np.square(wide).sum(axis=0)]
    count, mean = np.maximum(sums[:, 0], 1), sums[:, 1] / np.maximum(sums[:, 0], 1)
    variance = np.maximum(sums[:, 2] / count - mean**2, 1e-10)  # for a speaker without a frame any will do
    with atomic_write(work / NORMS_FILE, "wb") as file:
        np.save(file, np.stack([mean, np.sqrt(variance)], axis=1).astype(np.float32), allow_pickle=False)


class Features:
    """The features of every utterance of the packed audio, by its place; nothing is held in memory.

    Args:
        work: where ``write_features`` wrote.
    """

    def __init__(self, work: Path, audio: PackedAudio) -> None:
        self._knf = require("kaldi_native_fbank", "align")
        self._starts = np.concatenate([[0], np.cumsum(audio.num_samples // HOP)])
        self._norms = np.load(work / NORMS_FILE)  # (speakers, 2, 13): mean and standard deviation
        self._speakers = audio.speaker_index
        path = work / MFCC_FILE
        self._mfcc = np.memmap(path, np.float32, "r").reshape(-1, CEPSTRA) if path.stat().st_size else np.empty((0, 13))
        self._options = self._knf.DeltaOptions()
        self._options.order, self._options.window = 2, 2

    def __getitem__(self, place: int) -> np.ndarray:
        """(T, 39) float32."""
        mean, deviation = self._norms[self._speakers[place]]
        normalised = (self._mfcc[self._starts[place] : self._starts[place + 1]] - mean) / deviation
        if not len(normalised):
            return np.empty((0, DIM), np.float32)
        return self._knf.compute_deltas(self._options, np.ascontiguousarray(normalised, np.float32))
