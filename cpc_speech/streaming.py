"""Frames of audio that is still being recorded: samples go in as they come, frames come out.

    stream = cpc_speech.load("exp/same_speaker").stream()
    for samples in microphone:           # any number of them, 16 kHz, in [-1, 1]
        frames = stream.push(samples)    # (m, D): those that are now decided; often none
    frames = stream.flush()              # the last one, as at a file's end

They are the frames of the whole recording at once, up to the rounding of fp32, whatever the pieces: frame t sees the
samples 160·t − 153 … 160·t + 311 (see ``Encoder.long``) and, in c, the recurrent state that is carried along.

Latency: frame t comes out with sample 160·t + 319, the last of frame t + 1: 20 ms after the frame's start, 15 ms after
its centre, 0.5 ms after the last sample that it sees. Cost: a push that completes m frames encodes m + 2, one more at
either side whose edges are padding: three times the encoder's work for 10 ms at a time, 1.5 times for 40 ms, 1.02 times
for a second. The recurrence is never repeated. No more than 20 ms of audio are kept.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cpc_speech.machine import autocast
from cpc_speech.model import HOP, State
from cpc_speech.representations import CPCFrames


class Stream:
    """One recording, or one after another: after ``flush`` it begins anew.

    Args:
        representation: which layer of which model, and in which precision; its context must be carried
            (``window_samples=None``). The model's weights must not change while the stream lasts.
    """

    def __init__(self, representation: CPCFrames) -> None:
        if representation.window_samples is not None:
            raise ValueError("a stream carries its context; window_samples must be None")
        self.representation, self.dim = representation, representation.dim
        self.device = next(representation.model.parameters()).device
        with autocast(representation.precision, self.device), torch.no_grad():
            self._matrices = representation.model.encoder.matrices()
        self._begin()

    def _begin(self) -> None:
        self._waiting = torch.empty(0, device=self.device)  # samples that a frame to come still sees
        self._known = 0  # frames at the start of these that have come out already: 0 at first, then 1
        self._state: State | None = None

    def push(self, samples: Tensor | np.ndarray) -> Tensor:
        """Samples (n,) in [−1, 1], n ≥ 0 → the frames (m, D) float32 that are complete with them.

        Raises:
            ValueError: they have another shape, or are integers, whose scale is not known.
        """
        samples = torch.as_tensor(samples, device=self.device)
        if samples.ndim != 1 or not samples.is_floating_point():
            raise ValueError(
                f"samples are (n,) of one channel in floats, not {tuple(samples.shape)} in {samples.dtype}"
            )
        self._waiting = torch.cat((self._waiting, samples.float()))
        return self._frames(len(self._waiting) // HOP - 1)

    def flush(self) -> Tensor:
        """The frame, if any, that waited for the one after it: (1, D) or (0, D). Samples after it that make no whole
        frame give none."""
        frames = self._frames(len(self._waiting) // HOP)
        self._begin()
        return frames

    @torch.no_grad()
    def _frames(self, end: int) -> Tensor:
        """The waiting samples' frames before frame ``end`` that have not come out yet."""
        if end <= self._known:
            return torch.empty(0, self.dim, device=self.device)
        model = self.representation.model
        with autocast(self.representation.precision, self.device):
            z = model.encoder.long(self._waiting, self._matrices)[None, self._known : end]
            frames, self._state = self.representation.of_encoded(z, self._state)
        self._waiting = self._waiting[(end - 1) * HOP :].clone()
        self._known = 1
        return frames[0]
