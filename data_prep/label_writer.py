"""What all imports of phone labels share: any source's utterances become data/<set>/phones.{ark,scp} and phones.txt."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from cpc_speech.datadir import read_num_samples
from cpc_speech.errors import UserError
from cpc_speech.files import atomic_write
from cpc_speech.kaldi import write_int_vectors
from cpc_speech.phones import HOP, SAMPLE_RATE, SYMBOLS, UNLABELLED, Interval, labels_from_intervals, write_symbols
from cpc_speech.progress import Progress
from data_prep.dropped import refuse_too_many, write_dropped

MAX_FRAMES_OFF = 2  # what framing conventions differ by, and no more
KALDI_PREFIX = "lbi-"  # of the utterance ids in Kaldi's LibriSpeech data preparation

# An utterance as its source names it, and what turns its number of samples into (samples // 160,) int32 labels.
Labelled = tuple[str, Callable[[int], np.ndarray]]

# What an alignment leaves beside its labels.
ALIGNERS_OWN = ("phones.ctm", "oov.txt", "align.scores", "align.outliers")

log = logging.getLogger(__name__)


def write_labels(
    by: str,
    source: str | Path,
    utterances: Iterable[Labelled],
    data_dir: str | Path,
    lang_dir: str | Path,
    symbols: Sequence[str] = SYMBOLS,
    to: str | Path | None = None,
    dropped: Mapping[str, str] | None = None,
    max_dropped: int = 0,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write one label a frame for every utterance that source and data directory share, and all that comes with it.

    That is phones.{ark,scp}, their table phones.txt, labels.json (what they are) and labels.dropped.

    Args:
        by: what made the labels, as results will name it; ``facts``: what else labels.json is to say.
        lang_dir: gets the table too, if these are the labels of the data directory.
        to: where they go, if not into the data directory.
        dropped: utterances known to have no labels, and why; those that the source lacks are added.

    Raises:
        UserError: that of ``shared_labels``, or more than ``max_dropped`` without labels; then nothing has changed.
    """
    data_dir = Path(data_dir)
    to = Path(to or data_dir)
    to.mkdir(parents=True, exist_ok=True)
    num_samples = read_num_samples(data_dir)
    places: dict[str, int] = {}
    share = np.zeros(len(symbols), dtype=np.int64)
    # An archive is in the order of ids, a source in any: labels wait on disk, so that memory holds one utterance's.
    with TemporaryFile(dir=to) as waiting:
        for utterance, vector in shared_labels(source, utterances, num_samples, data_dir):
            np.add(share, np.bincount(vector, minlength=len(share)), out=share)
            places[utterance] = waiting.tell()
            waiting.write(vector.tobytes())

        without = dict.fromkeys(num_samples.keys() - places.keys(), f"not in {Path(source).name}")
        without.update(dropped or {})
        refuse_too_many(to, without, max_dropped)

        def in_order() -> Iterator[tuple[str, np.ndarray]]:
            for utterance in sorted(places):
                waiting.seek(places[utterance])
                yield utterance, np.frombuffer(waiting.read(4 * (num_samples[utterance] // HOP)), np.int32)

        count = write_int_vectors(to / "phones.ark", to / "phones.scp", in_order())
    for folder in {to, Path(lang_dir)} if to == data_dir else {to}:
        write_symbols(folder, symbols)
    write_dropped(to, without)
    known = {"by": by, "utterances": count, "frames": int(share.sum()), "unlabelled": int(share[0])}
    with atomic_write(to / "labels.json") as file:
        json.dump({**known, **(facts or {})}, file, indent=1)
    _log_shares(count, share, symbols)


def shared_labels(
    source: str | Path, utterances: Iterable[Labelled], num_samples: Mapping[str, int], data_dir: str | Path
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (utterance, labels) of what source and data directory share, in the source's order.

    An utterance that the data directory lacks is looked up again without the prefix ``lbi-``; those that it lacks even
    so are counted in the log.

    Args:
        num_samples: of each utterance of the data directory, which ``data_dir`` names in messages.

    Raises:
        UserError: the source has an utterance twice, or whatever its labels raise.
    """
    seen: set[str] = set()
    foreign: list[str] = []
    for name, label in Progress(utterances, desc="labels", unit="utt", total=len(num_samples)):
        utterance = name if name in num_samples else name.removeprefix(KALDI_PREFIX)
        if utterance not in num_samples:
            foreign.append(name)
            continue
        if utterance in seen:
            raise UserError(f"{source}: {utterance} is labelled twice; keep one of the two")
        seen.add(utterance)
        yield utterance, label(num_samples[utterance])
    if foreign:
        log.warning(
            "%s: %d utterances, such as %s, are not in %s and were left out", source, len(foreign), foreign[0], data_dir
        )


def _log_shares(utterances: int, share: np.ndarray, symbols: Sequence[str]) -> None:
    frames = max(1, int(share.sum()))
    named = (f"{100 * share[i] / frames:.2f} % {symbols[i]}" for i in (1, 2) if symbols[i] in SYMBOLS)
    log.info(
        "labels for %d utterances, %.2f h: %s, %d of %d classes occur",
        utterances, frames * HOP / SAMPLE_RATE / 3600,
        ", ".join([*named, f"{100 * share[0] / frames:.2f} % unlabelled"]),
        np.count_nonzero(share[1:]), len(share) - 1,
    )  # fmt: skip


def timed_labels(where: str, intervals: Iterable[Interval], num_samples: int, shift: float = 0.0) -> np.ndarray:
    """Labels of an utterance whose phones have times.

    Args:
        where: file and utterance, for messages.
        intervals: phones of phones.phone_of; what ``<eps>`` covers stays unlabelled.
        shift: seconds to add to every time.

    Raises:
        UserError: the phones outlast the audio by over two frames.
    """
    shifted = [Interval(max(0.0, start + shift), max(0.0, end + shift), phone) for start, end, phone in intervals]
    end = max((interval.end for interval in shifted), default=0.0)
    if end * SAMPLE_RATE > num_samples + MAX_FRAMES_OFF * HOP + 0.5:  # decimals can be half a sample off
        raise UserError(
            f"{where} ends at {end:.3f} s, its audio at {num_samples / SAMPLE_RATE:.3f} s; "
            "these labels belong to other audio"
        )
    return labels_from_intervals((interval for interval in shifted if interval.phone != UNLABELLED), num_samples)
