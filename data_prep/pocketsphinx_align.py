"""Forced alignment with pocketsphinx's US-English triphone model.

Every utterance is aligned by itself; chunks of them are kept as WORK/NNNNNN.json.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cpc_speech.errors import require
from cpc_speech.files import atomic_write
from cpc_speech.packed import PackedAudio
from cpc_speech.phones import HOP, SAMPLE_RATE, SPOKEN_NOISE, Interval
from cpc_speech.progress import Progress
from cpc_speech.pronunciations import Pronunciations
from data_prep.alignment import Aligned, Job, chunked, digest, take_up, why_not
from data_prep.workers import start_workers

CHUNK = 16  # utterances a task: small enough that ctrl-C loses little
VERSION = 2  # of what this module computes; chunks kept by another version are void
# pocketsphinx's frame j is the window of 410 samples from sample 160 j on, with its centre at 160 j + 205. Where one
# phone ends in frame j - 1 and the next begins in frame j, they meet half-way between the centres: at 160 j + 125.
FRAME_EDGE = 410 // 2 - HOP // 2
# The model's own beams first. Wider ones find a path through hard audio; hardly any pruning would also find one
# through a transcript of something else, so the second failure is final.
BEAMS: tuple[dict[str, float], ...] = ({}, {"beam": 1e-100, "pbeam": 1e-100, "wbeam": 1e-90})
SCORE_SHIFT = 10  # bits that senone scores, which are relative to the frame's best one, have lost
FILLERS = {"+NSN+": SPOKEN_NOISE, "+SPN+": SPOKEN_NOISE}

log = logging.getLogger(__name__)


def align(audio: np.ndarray, words: list[str], pronunciations: Pronunciations, place: int = 0) -> Aligned:
    """Align one utterance, (n,) int16 at 16 kHz."""
    if len(audio) < HOP:
        return Aligned(place, [], float("nan"), why_not(len(audio), words, ""))
    error = ""
    for beams in BEAMS:
        try:
            segments, score = _segments(audio, words, pronunciations, beams)
            break
        except RuntimeError as failure:
            error = str(failure).split(":")[0]
    else:
        return Aligned(place, [], float("nan"), why_not(len(audio), words, error))
    edges = [0, *(HOP * start + FRAME_EDGE for start, _ in segments[1:]), len(audio)]
    intervals = [
        Interval(start / SAMPLE_RATE, end / SAMPLE_RATE, phone)
        for start, end, (_, phone) in zip(edges[:-1], edges[1:], segments, strict=True)
        if end > start
    ]
    return Aligned(place, intervals, score, "")


def _segments(
    audio: np.ndarray, words: list[str], pronunciations: Pronunciations, beams: dict[str, float]
) -> tuple[list[tuple[int, str]], float]:
    """First frame and phone of every segment, and the mean score of a frame (see Aligned).

    Two passes: the path through the words, then their phones.
    """
    pocketsphinx = require("pocketsphinx", "align")
    # A decoder keeps state from one utterance to the next, which would let results depend on their order and thus on
    # the number of processes. A fresh one with just these words takes 8 ms. Its best-path search can leave words too
    # short for their phones, which makes the second pass fail.
    decoder = pocketsphinx.Decoder(lm=None, dict=None, bestpath=False, logfn=os.devnull, loglevel="FATAL", **beams)
    names: dict[str, str] = {}  # w0, w1, ...: no word can mean something to the dictionary's own syntax
    for word in dict.fromkeys(words):
        names[word] = f"w{len(names)}"
        for variant, phones in enumerate(pronunciations[word], 1):
            name = names[word] if variant == 1 else f"{names[word]}({variant})"
            decoder.add_word(name, " ".join(phones).replace(SPOKEN_NOISE, "+SPN+"), False)
    samples = audio.tobytes()
    decoder.set_align_text(" ".join(names[word] for word in words))
    _decode(decoder, samples)
    if decoder.hyp() is None:  # not to be asked after the second pass, which has no hypothesis and crashes
        raise RuntimeError("no path found")
    decoder.set_alignment()
    _decode(decoder, samples)
    aligned = list(decoder.get_alignment().phones())
    # The method takes 32 bits: it converts a million units, and the sum is scaled by that here.
    total = sum(phone.score for phone in aligned) * 2**SCORE_SHIFT * decoder.get_logmath().log_to_ln(10**6) / 10**6
    frames = sum(phone.duration for phone in aligned)
    return [(phone.start, FILLERS.get(phone.name, phone.name)) for phone in aligned], total / frames


def _decode(decoder: Any, samples: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(samples, full_utt=True)
    decoder.end_utt()


class _Worker:
    """What a worker process keeps between chunks."""

    audio: PackedAudio
    pronunciations: Pronunciations


def _start_worker(data_dir: Path, pronunciations: Pronunciations) -> None:
    _Worker.audio, _Worker.pronunciations = PackedAudio(data_dir), pronunciations


def _align_chunk(tasks: list[tuple[int, list[str]]]) -> list[Aligned]:
    return [align(_Worker.audio[place], words, _Worker.pronunciations, place) for place, words in tasks]


def align_corpus(job: Job) -> Iterator[Aligned]:
    """Align all utterances that have words, in order. Interrupted, it goes on from the chunks kept in ``job.work``."""
    require("pocketsphinx", "align")
    chunks = chunked(job.transcripts, CHUNK)
    take_up(job.work, digest(job, VERSION, CHUNK, BEAMS, version("pocketsphinx")), ["[0-9]*.json"])
    parts = [job.work / f"{number:06d}.json" for number in range(len(chunks))]
    left = [number for number in range(len(chunks)) if not parts[number].is_file()]
    if len(left) < len(chunks):
        log.info("%d of %d chunks are aligned already, in %s", len(chunks) - len(left), len(chunks), job.work)
    if left:
        tasks = [([(place, job.transcripts[place]) for place in chunks[number]],) for number in left]
        count = min(job.nj, len(left))
        with (
            start_workers(count, _start_worker, job.data_dir, job.pronunciations) as workers,
            Progress(desc="align", unit="utt", total=sum(len(chunks[number]) for number in left)) as progress,
        ):
            for number, aligned in zip(left, workers.map(_align_chunk, tasks)):
                with atomic_write(parts[number]) as file:
                    json.dump(aligned, file)
                progress.update(len(aligned))
    for part in parts:
        for place, intervals, score, reason in json.loads(part.read_text(encoding="utf-8")):
            yield Aligned(place, [Interval(*interval) for interval in intervals], score, reason)
