"""Features and the phones said in them: what a recogniser is trained and scored on."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpc_speech.datadir import SPLITS, read_split, read_table
from cpc_speech.errors import UserError
from cpc_speech.features import Moments
from cpc_speech.kaldi import read_float_matrices
from cpc_speech.progress import Progress

_POOL = 32  # minibatches whose utterances are sorted by length together

log = logging.getLogger(__name__)


@dataclass
class Transcripts:
    """What was said in the utterances of a data directory's splits.

    Attributes:
        phones: of every utterance below.
        splits: utterances of train, dev and test whose phones are known.
        left_out: how many of each split are not.
        symbols: the phones of train, sorted; number i + 1 stands for symbols[i], as 0 is the blank.
    """

    phones: dict[str, list[str]]
    splits: dict[str, list[str]]
    left_out: dict[str, int]
    symbols: list[str]

    def numbers(self, utterance: str) -> np.ndarray:
        """The phones of a training utterance by number: (n,) int64."""
        return np.array([self.symbols.index(phone) + 1 for phone in self.phones[utterance]], np.int64)

    def digest(self) -> str:
        """SHA-256 of all that was said, and of the splits."""
        said = {split: [(name, self.phones[name]) for name in names] for split, names in self.splits.items()}
        return hashlib.sha256(repr(said).encode()).hexdigest()


def load_transcripts(data: Path) -> Transcripts:
    """phones.text of a data directory, by its splits; what phones.text.dropped lists is left out, and counted.

    Raises:
        UserError: a file is missing, an utterance is in neither file, or a split is empty.
    """
    text, dropped = (read_table(data / name) for name in ("phones.text", "phones.text.dropped"))
    phones: dict[str, list[str]] = {}
    splits: dict[str, list[str]] = {}
    left_out: dict[str, int] = {}
    for split in SPLITS:
        listed = read_split(data, split)
        if unknown := [utterance for utterance in listed if utterance not in text and utterance not in dropped]:
            raise UserError(
                f"{data}/phones.text: {len(unknown)} utterances of {split}.list are not in it, first {unknown[0]}; "
                f"run python -m data_prep.phone_text {data}"
            )
        splits[split] = [utterance for utterance in listed if utterance in text]
        left_out[split] = len(listed) - len(splits[split])
        if not splits[split]:
            raise UserError(f"{data}/splits/{split}.list: no utterance whose phones are known; see phones.text.dropped")
        phones.update({utterance: text[utterance].split() for utterance in splits[split]})
    if any(left_out.values()):
        log.info("left out, as their phones are not known: %s", left_out)
    symbols = sorted({phone for utterance in splits["train"] for phone in phones[utterance]})
    return Transcripts(phones, splits, left_out, symbols)


class Features:
    """Features (T, D) of utterances, read from Kaldi archives as they are asked for.

    Args:
        scp: their index.
        splits: utterances of train, dev and test; mean and standard deviation are train's.

    Attributes:
        frames: T of every utterance.
        mean, std: (D,) float32.

    Raises:
        UserError: an utterance without features or frames, of another dimension than the first, or not finite.
    """

    def __init__(self, scp: Path, splits: dict[str, list[str]]) -> None:
        self.scp = scp
        self.frames: dict[str, int] = {}
        train = set(splits["train"])
        everything = sorted(sum(splits.values(), []))
        moments: Moments | None = None
        dim = -1
        progress = Progress(total=len(everything), unit="utt", desc="features")
        with progress:
            for utterance, matrix in read_float_matrices(scp, everything):
                if moments is None:
                    dim = matrix.shape[1]
                    moments = Moments(dim)
                if not matrix.size or matrix.shape[1] != dim or not np.isfinite(matrix).all():
                    raise UserError(
                        f"{scp}: {utterance} has {len(matrix)} frames of {matrix.shape[1]} values, where finite ones "
                        f"of {dim} are due; extract it again"
                    )
                self.frames[utterance] = len(matrix)
                if utterance in train:
                    moments.add(matrix)
                progress.update()
        assert moments  # no split is empty
        self.mean, self.std = moments.mean_and_std()

    def read(self, minibatches: Sequence[Sequence[str]]) -> Iterator[tuple[list[str], list[np.ndarray]]]:
        """Yield the utterances and features of one minibatch after the other."""
        matrices = read_float_matrices(self.scp, [utterance for minibatch in minibatches for utterance in minibatch])
        for minibatch in minibatches:
            yield list(minibatch), [next(matrices)[1] for _ in minibatch]


def by_length(utterances: Sequence[str], frames: dict[str, int], size: int) -> list[list[str]]:
    """Minibatches of neighbours in length."""
    order = sorted(utterances, key=lambda utterance: frames[utterance])
    return [order[first : first + size] for first in range(0, len(order), size)]


def shuffled(utterances: Sequence[str], frames: dict[str, int], size: int, seed: int, epoch: int) -> list[list[str]]:
    """The minibatches of one pass over ``utterances``: random, but of like lengths, so that little is padded."""
    rng = np.random.default_rng((seed, epoch))
    order = [utterances[i] for i in rng.permutation(len(utterances))]
    pools = (order[first : first + _POOL * size] for first in range(0, len(order), _POOL * size))
    minibatches = [minibatch for pool in pools for minibatch in by_length(pool, frames, size)]
    return [minibatches[i] for i in rng.permutation(len(minibatches))]
