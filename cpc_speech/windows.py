"""Which windows make a minibatch: index arithmetic over packed audio, a function of (seed, update, minibatch).

A window is ``window_samples`` consecutive samples of one utterance, and every start counts: an utterance of n
samples holds n − window_samples + 1 windows and is drawn in proportion to them.

    mixed_speaker   independent draws over the corpus; speakers may recur
    same_speaker    a speaker, drawn in proportion to its windows, then windows of that speaker

The windows of one minibatch never overlap: an overlapping draw is drawn again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cpc_speech.errors import UserError
from cpc_speech.packed import PackedAudio

log = logging.getLogger(__name__)
_REDRAWS = 200  # of one window; then, as often, of the whole minibatch


class Window(NamedTuple):
    """Samples start … start + window_samples of the utterance with this index in the packed audio."""

    utterance: int
    start: int


class WindowSampler:
    """Draws the windows of any minibatch of any update, in any order and on any process.

    Args:
        num_samples: length of every utterance, in samples.
        speakers: speaker of every utterance, by name or number.
        window_samples: length of a window, in samples.
        windows: windows in a minibatch.
        same_speaker: whether a minibatch's windows share their speaker.
        seed: of the whole run.

    Raises:
        UserError: no utterance, or with ``same_speaker`` no speaker, is long enough.
    """

    def __init__(
        self,
        num_samples: np.ndarray,
        speakers: Sequence[str] | np.ndarray,
        window_samples: int,
        windows: int,
        same_speaker: bool,
        seed: int,
    ) -> None:
        self.window_samples, self.windows, self.same_speaker, self.seed = window_samples, windows, same_speaker, seed
        starts = np.maximum(np.asarray(num_samples, dtype=np.int64) - window_samples + 1, 0)
        names, speaker_of = np.unique(np.asarray(speakers), return_inverse=True)
        self.too_short = int(np.count_nonzero(starts == 0))
        fit = windows_that_fit(num_samples, window_samples)
        room = np.bincount(speaker_of, weights=fit, minlength=len(names)).astype(np.int64)
        self.left_out: list = []  # speakers with too little audio for a minibatch, as they were given
        if same_speaker:
            small = room < windows
            self.left_out = names[small].tolist()
            starts = np.where(small[speaker_of], 0, starts)
        if not starts.any() or room.sum() < windows:
            raise UserError(
                f"no {'speaker' if same_speaker else 'corpus'} with {windows} windows of {window_samples} samples "
                f"here: the longest utterance has {int(np.max(num_samples, initial=0))} samples; give more audio, or "
                "smaller 'windows' or 'window_samples'"
            )
        # Utterances ordered by speaker, so that a speaker's windows are one range of the running count.
        self._order = np.argsort(speaker_of, kind="stable")
        self._ends = np.cumsum(starts[self._order])
        last = np.searchsorted(speaker_of[self._order], np.arange(len(names)), side="right") - 1
        self._speaker_ends = self._ends[last]

    def minibatch(self, update: int, minibatch: int) -> list[Window]:
        """The windows of one minibatch of one update.

        Raises:
            UserError: so many windows without overlap hardly fit.
        """
        rng = np.random.default_rng([self.seed, update, minibatch])
        low, high = 0, int(self._ends[-1])
        if self.same_speaker:
            speaker = np.searchsorted(self._speaker_ends, rng.integers(high), side="right")
            low, high = int(self._speaker_ends[speaker - 1]) if speaker else 0, int(self._speaker_ends[speaker])
        for _ in range(_REDRAWS):
            chosen: list[Window] = []
            for _ in range(self.windows + _REDRAWS):
                window = self._window(int(rng.integers(low, high)))
                if not any(self._overlap(window, other) for other in chosen):
                    chosen.append(window)
                if len(chosen) == self.windows:
                    return chosen
        raise UserError(
            f"{self.windows} windows of {self.window_samples} samples without overlap hardly fit into "
            f"the audio at hand{' of one speaker' if self.same_speaker else ''}; give more audio or fewer 'windows'"
        )

    def _window(self, index: int) -> Window:
        position = int(np.searchsorted(self._ends, index, side="right"))
        before = int(self._ends[position - 1]) if position else 0
        return Window(int(self._order[position]), index - before)

    def _overlap(self, a: Window, b: Window) -> bool:
        return a.utterance == b.utterance and abs(a.start - b.start) < self.window_samples


def windows_that_fit(num_samples: np.ndarray, window_samples: int) -> np.ndarray:
    """The least number of windows without overlap that fit an utterance, however unluckily they are drawn: (N,) int64.

    A window bars 2·window_samples − 1 of the starts.
    """
    starts = np.maximum(np.asarray(num_samples, dtype=np.int64) - window_samples + 1, 0)
    return -(-starts // (2 * window_samples - 1))


def load_windows(audio: PackedAudio, windows: Sequence[Window], window_samples: int) -> np.ndarray:
    """The windows' samples: (windows, window_samples) int16."""
    return np.stack([audio.slice(window.utterance, window.start, window_samples) for window in windows])


def dev_seed(seed: int) -> int:
    """A seed for the fixed dev windows that no training minibatch shares."""
    return int.from_bytes(hashlib.sha256(f"dev {seed}".encode()).digest()[:6], "big")
