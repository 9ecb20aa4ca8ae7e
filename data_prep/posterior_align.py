"""Forced alignment by a classifier's scores of frames, such as a probe's: the corpus labelled anew.

With k2, words are aligned: all variants of the lexicon, with silence or none around each word. Without it, the phones
that the utterance's present labels name are: they fix the variants, silence may come between any two phones, and an
utterance without labels stays without. The log and labels.json say which of the two was done.
"""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from cpc_speech.errors import UserError
from cpc_speech.kaldi import read_float_matrices, read_int_vectors
from cpc_speech.phones import (
    HOP,
    PHONE_CLASSES,
    PHONE_ID,
    SAMPLE_RATE,
    SILENCE,
    SYMBOLS,
    UNLABELLED,
    Interval,
    labels_from_intervals,
    refuse_numbered,
)
from cpc_speech.progress import Progress
from cpc_speech.pronunciations import Pronunciations
from data_prep import linear_align
from data_prep.alignment import Aligned, Job, why_not
from data_prep.ctm import read_ctm
from data_prep.linear_align import Segments

K2 = "https://k2-fsa.github.io/k2/installation/"
SILENCE_CLASS = PHONE_ID[SILENCE] - 1

# From the place of an utterance in the packed audio and its scores (T, 41) to its segments, or why it has none.
Engine = Callable[[int, Tensor], Segments | str]

log = logging.getLogger(__name__)


def align_corpus(job: Job) -> Iterator[Aligned]:
    """Align all utterances that have words, in order.

    Raises:
        UserError: an utterance without scores, or with those of other audio; neither k2 nor earlier labels.
    """
    assert job.posteriors
    refuse_numbered(job.data_dir)
    k2_align = load_k2()
    if k2_align:
        log.info("aligning words by k2: all variants of the lexicon, silence or none around each word")
        engine = words_by_k2(job, k2_align)
    else:
        log.info("no k2: aligning the phones of the labels there are. With k2, words and their variants: %s", K2)
        engine = phones_by_torchaudio(job)
    scp = job.posteriors / "posteriors.scp"
    places = Progress(job.transcripts, desc="align", unit="utt")
    matrices = read_float_matrices(scp, [job.audio.utterances[place] for place in job.transcripts])
    for place, (utterance, matrix) in zip(places, matrices):
        samples = int(job.audio.num_samples[place])
        if matrix.shape != (samples // HOP, PHONE_CLASSES):
            raise UserError(
                f"{scp}: {utterance} has scores of shape {matrix.shape} for {samples // HOP} frames of {PHONE_CLASSES} "
                "classes; compute them anew: python -m cpc_speech.posteriors"
            )
        yield aligned(place, engine, matrix, samples, job.transcripts[place])


def aligned(place: int, engine: Engine, scores: np.ndarray, samples: int, words: Sequence[str]) -> Aligned:
    """Align one utterance of so many samples, with scores (samples // 160, 41) float32."""
    if samples < HOP:
        return Aligned(place, [], float("nan"), why_not(samples, words, ""))
    segments = engine(place, torch.from_numpy(scores))
    if isinstance(segments, str):
        return Aligned(place, [], float("nan"), segments)
    firsts = [first for _, first in segments]
    path = np.repeat([label for label, _ in segments], np.diff([*firsts, len(scores)]))
    # Frame t is centred on sample 160 t + 79: samples 160 t ... 160 t + 159 are where that is the nearest centre.
    edges = [*(HOP * first for first in firsts), samples]
    intervals = [
        Interval(start / SAMPLE_RATE, end / SAMPLE_RATE, SYMBOLS[label + 1])
        for start, end, (label, _) in zip(edges[:-1], edges[1:], segments)
    ]
    relative = scores[np.arange(len(scores)), path] - scores.max(axis=1)
    return Aligned(place, intervals, float(relative.mean()), "")


def load_k2() -> ModuleType | None:
    """The module of k2's graphs, or None where there is no k2.

    Raises:
        UserError: there is one that does not load.
    """
    try:
        return importlib.import_module("data_prep.k2_align")
    except ModuleNotFoundError as error:
        if error.name == "k2":
            return None
        raise
    except ImportError as error:
        raise UserError(f"k2 does not load ({error}): install the build for this Python and torch, {K2}") from error


def made_by(posteriors: Path) -> str:
    """What labels that these scores make here are called beside results."""
    path = posteriors / "posteriors.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run python -m cpc_speech.posteriors --to {posteriors} first")
    facts = json.loads(path.read_text(encoding="utf-8"))
    return f"posterior of {facts['exp']}, {facts['representation']}, by {'k2' if load_k2() else 'torchaudio'}"


def words_by_k2(job: Job, k2_align: ModuleType) -> Engine:
    """The engine that aligns an utterance's words, of whose variants and silences k2 finds the best."""
    classes = classes_of(job.pronunciations)

    def engine(place: int, scores: Tensor) -> Segments | str:
        words = job.transcripts[place]
        graph = k2_align.lexicon_graph([classes[word] for word in words], SILENCE_CLASS)
        return k2_align.best_path(scores, graph) or why_not(HOP * len(scores), words, "too few frames")

    return engine


def classes_of(pronunciations: Pronunciations) -> dict[str, list[list[int]]]:
    """Word -> variants as classes."""
    return {
        word: [[PHONE_ID[phone] - 1 for phone in variant] for variant in variants]
        for word, variants in pronunciations.items()
    }


def phones_by_torchaudio(job: Job) -> Engine:
    """The engine that aligns the phones of an utterance's present labels, with silence or none around each."""
    if not (job.data_dir / "phones.scp").is_file():
        raise UserError(
            f"{job.data_dir / 'phones.scp'}: no labels yet, which only k2 could do without; align by gmm first"
        )
    phones = phones_of_labels(dict(read_int_vectors(job.data_dir / "phones.scp")), job.data_dir / "phones.ctm")

    def engine(place: int, scores: Tensor) -> Segments | str:
        sequence = phones.get(job.audio.utterances[place])
        if not sequence:
            return "no labels that name its phones, which only k2 could do without"
        path = linear_align.best_path(scores, sequence, SILENCE_CLASS)
        return path or why_not(HOP * len(scores), job.transcripts[place], f"{len(sequence)} phones")

    return engine


def phones_of_labels(labels: Mapping[str, np.ndarray], ctm: Path) -> dict[str, list[int]]:
    """The phones that labels name, as classes in order, silence and what is unlabelled left out.

    A CTM that these labels were made from also tells two equal phones in a row, and those that no frame's centre
    falls into; for other utterances its lines are passed over.
    """
    phones = {
        utterance: [int(label) - 1 for label, _ in groupby(vector) if label not in (0, PHONE_ID[SILENCE])]
        for utterance, vector in labels.items()
    }
    for utterance, timed in read_ctm(ctm) if ctm.is_file() else ():
        intervals = [interval for interval, _ in timed if interval.phone != UNLABELLED]
        vector = labels.get(utterance)
        if vector is not None and np.array_equal(labels_from_intervals(intervals, len(vector) * HOP), vector):
            phones[utterance] = [PHONE_ID[phone] - 1 for _, _, phone in intervals if phone != SILENCE]
    return phones
