"""Forced alignment of every utterance to 41 classes with pocketsphinx's US-English triphone model.

python -m data_prep.align DATA_DIR LANG_DIR [--nj N] [--oov espeak|spn] [--max-dropped N]

reads DATA_DIR/text and the packed audio; writes LANG_DIR/phones.txt and, in DATA_DIR, phones.ctm, phones.{ark,scp},
oov.txt (words outside cmudict) and align.dropped. Interrupted, it goes on from the chunks kept in align.parts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from cpc_speech.datadir import read_table
from cpc_speech.errors import UserError, require, run
from cpc_speech.files import atomic_write
from cpc_speech.packed import PackedAudio
from data_prep.ctm import ctm_lines, label_ctm
from data_prep.dropped import report_dropped
from data_prep.label_writer import write_labels
from data_prep.lexicon import Pronunciations, build_lexicon, count_words, write_unknown
from data_prep.phones import HOP, SAMPLE_RATE, SPOKEN_NOISE, Interval

CHUNK = 16  # utterances a task: small enough that ctrl-C loses little
VERSION = 1  # of what this module computes: another one makes kept chunks void
# pocketsphinx's frame j is the window of 410 samples from sample 160 j on, with its centre at 160 j + 205. Where one
# phone ends in frame j - 1 and the next begins in frame j, they meet half-way between the centres: at 160 j + 125.
FRAME_EDGE = 410 // 2 - HOP // 2
# The model's own beams first. Wider ones find a path through hard audio; hardly any pruning would also find one
# through a transcript of something else, so the second failure is final.
BEAMS: tuple[dict[str, float], ...] = ({}, {"beam": 1e-100, "pbeam": 1e-100, "wbeam": 1e-90})
FILLERS = {"+NSN+": SPOKEN_NOISE, "+SPN+": SPOKEN_NOISE}

log = logging.getLogger(__name__)


class AlignmentError(Exception):
    """Why an utterance has none."""


class Task(NamedTuple):
    """One utterance: its id, its place in the packed audio, its words."""

    utterance: str
    place: int
    words: list[str]


def align(audio: np.ndarray, words: list[str], pronunciations: Pronunciations) -> list[Interval]:
    """Align one utterance.

    Args:
        audio: (n,) int16 at 16 kHz.

    Returns:
        Phones, SIL and SPN without gaps from 0 to the end of the audio.

    Raises:
        AlignmentError: no path through the words fits the audio.
    """
    if len(audio) < HOP:
        raise AlignmentError("shorter than one frame")
    error = ""
    for beams in BEAMS:
        try:
            segments = _segments(audio, words, pronunciations, beams)
            break
        except RuntimeError as failure:
            error = str(failure).split(":")[0]
    else:
        seconds = len(audio) / SAMPLE_RATE
        raise AlignmentError(f"its {len(words)} words do not fit its {seconds:.2f} s of audio ({error})")
    edges = [0, *(HOP * start + FRAME_EDGE for start, _ in segments[1:]), len(audio)]
    return [
        Interval(start / SAMPLE_RATE, end / SAMPLE_RATE, phone)
        for start, end, (_, phone) in zip(edges[:-1], edges[1:], segments, strict=True)
        if end > start
    ]


def _segments(
    audio: np.ndarray, words: list[str], pronunciations: Pronunciations, beams: dict[str, float]
) -> list[tuple[int, str]]:
    """First frame and phone of every segment, in two passes: the path through the words, then their phones."""
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
    return [(phone.start, FILLERS.get(phone.name, phone.name)) for phone in decoder.get_alignment().phones()]


def _decode(decoder: Any, samples: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(samples, full_utt=True)
    decoder.end_utt()


class _Worker:
    """What a worker process keeps between chunks."""

    audio: PackedAudio
    pronunciations: Pronunciations


def _start_worker(data_dir: Path, pronunciations: Pronunciations) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ctrl-C ends it silently; the parent reports
    _Worker.audio, _Worker.pronunciations = PackedAudio(data_dir), pronunciations


def _align_chunk(tasks: list[Task]) -> dict[str, dict[str, str]]:
    """CTM lines and reasons for having none, by utterance."""
    lines, dropped = {}, {}
    for utterance, place, words in tasks:
        try:
            intervals = align(_Worker.audio[place], words, _Worker.pronunciations)
        except AlignmentError as error:
            dropped[utterance] = str(error)
            continue
        lines[utterance] = ctm_lines(utterance, intervals)
    return {"ctm": lines, "dropped": dropped}


def _digest(data_dir: Path, pronunciations: Pronunciations) -> str:
    """Of everything that decides the alignments; packed audio by name, size and time of change."""
    shards = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(data_dir.glob("audio.*"))]
    facts = [VERSION, CHUNK, BEAMS, version("pocketsphinx"), shards, sorted(pronunciations.items())]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for name in ("text", "utt2num_samples"):
        digest.update((data_dir / name).read_bytes())
    return digest.hexdigest()


def _kept_chunks(parts: Path, digest: str) -> set[int]:
    """Numbers of the chunks that an interrupted run left; the folder is emptied if its inputs were others."""
    mark = parts / "digest"
    if not mark.is_file() or mark.read_text() != digest:
        shutil.rmtree(parts, ignore_errors=True)
        with atomic_write(mark) as file:
            file.write(digest)
    return {int(path.stem) for path in parts.glob("*.json")}


def _align_all(chunks: list[list[Task]], parts: Path, data_dir: Path, pronunciations: Pronunciations, nj: int) -> None:
    kept = _kept_chunks(parts, _digest(data_dir, pronunciations))
    left = [number for number in range(len(chunks)) if number not in kept]
    done = sum(len(chunks[number]) for number in kept)
    if kept:
        log.info("%d utterances are aligned already, in %s", done, parts)
    pool = ProcessPoolExecutor(
        min(nj, max(1, len(left))), get_context("spawn"), initializer=_start_worker, initargs=(data_dir, pronunciations)
    )
    with tqdm(desc="align", unit="utt", total=sum(map(len, chunks)), initial=done) as progress:
        try:
            futures = {pool.submit(_align_chunk, chunks[number]): number for number in left}
            for future in as_completed(futures):
                with atomic_write(parts / f"{futures[future]:06d}.json") as file:
                    json.dump(future.result(), file)
                progress.update(len(chunks[futures[future]]))
        except BrokenProcessPool as error:
            raise UserError("an alignment process died (out of memory?); the same command goes on from here") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _merge(parts: Path, count: int, ctm: Path) -> dict[str, str]:
    """Write the chunks' lines in order as one CTM; returns utterance -> why it has none."""
    dropped: dict[str, str] = {}
    with atomic_write(ctm) as file:
        for number in range(count):
            part = json.loads((parts / f"{number:06d}.json").read_text(encoding="utf-8"))
            file.writelines(part["ctm"].values())
            dropped.update(part["dropped"])
    return dropped


def _chunks(audio: PackedAudio, texts: dict[str, str]) -> Iterator[list[Task]]:
    tasks = [
        Task(utterance, place, texts[utterance].split())
        for place, utterance in enumerate(audio.utterances)
        if texts.get(utterance)
    ]
    for start in range(0, len(tasks), CHUNK):
        yield tasks[start : start + CHUNK]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="data_prep.align", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("lang_dir", type=Path)
    parser.add_argument("--nj", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: CPUs)")
    parser.add_argument("--oov", choices=("espeak", "spn"), default="espeak", help="words outside cmudict")
    parser.add_argument("--max-dropped", type=int, default=0, metavar="N", help="utterances that may stay unaligned")
    options = parser.parse_args(argv)
    if options.nj < 1:
        raise UserError(f"--nj {options.nj}: at least one process is needed")
    data_dir, parts = options.data_dir, options.data_dir / "align.parts"
    require("pocketsphinx", "align")
    audio = PackedAudio(data_dir)
    texts = read_table(data_dir / "text")
    words = count_words({utterance: texts.get(utterance, "") for utterance in audio.utterances})
    lexicon = build_lexicon(words, options.oov)
    write_unknown(data_dir / "oov.txt", lexicon, words)

    start = time.monotonic()
    chunks = list(_chunks(audio, texts))
    _align_all(chunks, parts, data_dir, lexicon.pronunciations, options.nj)
    dropped = {utterance: "no words in text" for utterance in audio.utterances if not texts.get(utterance)}
    dropped |= _merge(parts, len(chunks), data_dir / "phones.ctm")
    log.info("%.2f h of audio took %.0f s", audio.num_samples.sum() / SAMPLE_RATE / 3600, time.monotonic() - start)
    report_dropped(data_dir, "align", dropped, options.max_dropped)  # the chunks stay for a run that accepts more
    ctm = data_dir / "phones.ctm"
    write_labels(ctm, label_ctm(ctm), data_dir, options.lang_dir)
    shutil.rmtree(parts)


if __name__ == "__main__":
    run(main)
