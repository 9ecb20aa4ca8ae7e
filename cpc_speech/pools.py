"""Utterances decoded ahead of the network, in pools large enough for full batches.

Which utterances share a pool depends on the utterances alone, so that work interrupted between two pools goes on with
the batches, and so the sums, that it would have had.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np

from cpc_speech.audio import AudioError, AudioReader
from cpc_speech.lhotse_manifests import padded_frames
from cpc_speech.model import HOP
from cpc_speech.packed import SAMPLE_RATE
from cpc_speech.segments import Segment

LONG = 120 * SAMPLE_RATE  # samples; an utterance of more is never held
BLOCK = 40 * SAMPLE_RATE  # samples of it at a time
_POOL = 600 * SAMPLE_RATE  # samples of shorter ones together
_DECODERS = 2  # threads: libsndfile and soxr do their work outside Python's lock
_END = object()

Item = TypeVar("Item")


class Heard(NamedTuple):
    """An utterance as it was decoded."""

    segment: Segment
    record: dict[str, Any]  # its length, in seconds and in frames to be written, and its file; or why it is dropped
    frames: int = 0  # that the network will give
    samples: np.ndarray | None = None  # (n,) int16; None where it is dropped, or too long to be held


def pools(segments: Iterable[Segment], pad: bool) -> Iterator[list[Heard]]:
    """Yield all utterances, in order; a long one comes alone. ``pad``: count frames to be written as lhotse does."""
    pool: list[Heard] = []
    held = 0
    for heard in _decoded(segments, pad):
        alone = heard.samples is None and "dropped" not in heard.record
        if pool and (alone or held >= _POOL):
            yield pool
            pool, held = [], 0
        pool.append(heard)
        held += len(heard.samples) if heard.samples is not None else 0
        if alone:
            yield pool
            pool = []
    if pool:
        yield pool


def stamp(path: str) -> list[int] | None:
    """What tells whether a file has changed: bytes, and nanoseconds of its last change; None where it is gone."""
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return [facts.st_size, facts.st_mtime_ns]


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the items, each made by a thread while the caller works on the one before."""
    with ThreadPoolExecutor(1) as thread:
        coming: Future[Any] = thread.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = thread.submit(next, items, _END)
            yield item


def _decoded(segments: Iterable[Segment], pad: bool) -> Iterator[Heard]:
    """In order, a few ahead of the caller."""
    with ThreadPoolExecutor(_DECODERS) as threads:
        coming: deque[Future[Heard]] = deque()
        for segment in segments:
            coming.append(threads.submit(_decode, segment, pad))
            if len(coming) > 2 * _DECODERS:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def _decode(segment: Segment, pad: bool) -> Heard:
    try:
        with AudioReader(segment.path, segment.start, segment.end) as reader:
            frames = reader.num_samples // HOP
            if not frames:
                raise AudioError(segment.path, f"{reader.num_samples} samples of 16 kHz are less than a frame of {HOP}")
            record = {
                "frames": padded_frames(reader.seconds) if pad else frames, "seconds": reader.seconds,
                "rate": reader.info.sample_rate, "channels": reader.info.channels, "length": reader.length,
                "file": stamp(segment.path),
            }  # fmt: skip
            long = reader.num_samples > LONG
            return Heard(segment, record, frames, None if long else np.concatenate(list(reader.blocks(BLOCK))))
    except AudioError as error:
        return Heard(segment, {"dropped": str(error)})
