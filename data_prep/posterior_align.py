"""Forced alignment by a classifier's scores of frames, such as a probe's: the corpus labelled anew.

    python -m cpc_speech.posteriors --data DATA_DIR --exp exp/same_speaker --to DATA_DIR/posteriors
    python -m data_prep.posterior_align DATA_DIR LANG_DIR --posteriors DATA_DIR/posteriors [--engine k2|linear]

With k2, words are aligned: all variants of the lexicon, with silence or none around each word. Without it, the phones
that the utterance's present labels name are: they fix the variants, silence may come between any two phones, and an
utterance without labels stays without. Replaces what data_prep.align writes (phones.ctm, phones.{ark,scp},
align.dropped; oov.txt with k2) once all is aligned, and adds align.scores, an utterance's mean score a frame.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cpc_speech.datadir import read_table, write_table
from cpc_speech.errors import UserError, run
from cpc_speech.files import atomic_write
from cpc_speech.kaldi import PHONE_CLASSES, read_float_matrices, read_int_vectors
from data_prep import linear_align
from data_prep.align import AlignmentError
from data_prep.ctm import ctm_lines, label_ctm, read_ctm
from data_prep.dropped import report_dropped
from data_prep.label_writer import write_labels
from data_prep.lexicon import Pronunciations, build_lexicon, count_words, write_unknown
from data_prep.phone_names import UNLABELLED
from data_prep.phones import HOP, PHONE_ID, SAMPLE_RATE, SILENCE, SYMBOLS, Interval, labels_from_intervals

SILENCE_CLASS = PHONE_ID[SILENCE] - 1
# Not pip's: the wheel that it finds from any Python is for 3.9 and an old torch.
K2_HELP = "k2 needs a build for this Python and torch, see https://k2-fsa.github.io/k2/installation/"
WORK = "posterior_align"  # folder of the data directory for what is not yet whole

# From an utterance and its scores (T, 41) to (class, first frame) segments; raises AlignmentError.
Engine = Callable[[str, Tensor], list[tuple[int, int]]]

log = logging.getLogger(__name__)


class Aligned(NamedTuple):
    """An utterance's phones, without gaps from 0 to its audio's end, and the mean of their scores over its frames."""

    intervals: list[Interval]
    score: float


def align(
    posteriors: str | Path, num_samples: Mapping[str, int], engine: Engine
) -> Iterator[tuple[str, Aligned | AlignmentError]]:
    """Align these utterances by their scores.

    Args:
        posteriors: the index of cpc_speech.posteriors' matrices, (n // 160, 41).
        num_samples: utterance -> n, the samples of its audio.
        engine: ``words_by_k2`` or ``phones_by_torchaudio``.

    Yields:
        An utterance and its alignment, or why it has none.

    Raises:
        UserError: an utterance without scores, or with those of other audio.
    """
    for utterance, matrix in read_float_matrices(posteriors, num_samples):
        frames = num_samples[utterance] // HOP
        if matrix.shape != (frames, PHONE_CLASSES):
            raise UserError(
                f"{posteriors}: {utterance} has scores of shape {matrix.shape} for {frames} frames of {PHONE_CLASSES} "
                "classes; compute them anew: python -m cpc_speech.posteriors"
            )
        if not frames:
            yield utterance, AlignmentError("shorter than one frame")
            continue
        try:
            segments = engine(utterance, torch.from_numpy(matrix))
        except AlignmentError as error:
            yield utterance, error
            continue
        firsts = [first for _, first in segments]
        path = np.repeat([label for label, _ in segments], np.diff([*firsts, frames]))
        # Frame t is centred on sample 160 t + 79: samples 160 t ... 160 t + 159 are where that is the nearest centre.
        edges = [*(HOP * first for first in firsts), num_samples[utterance]]
        intervals = [
            Interval(start / SAMPLE_RATE, end / SAMPLE_RATE, SYMBOLS[label + 1])
            for start, end, (label, _) in zip(edges[:-1], edges[1:], segments)
        ]
        yield utterance, Aligned(intervals, float(matrix[np.arange(frames), path].mean()))


def words_by_k2(texts: Mapping[str, str], pronunciations: Pronunciations) -> Engine:
    """The engine that aligns an utterance's words, of whose variants and silences k2 finds the best."""
    from data_prep import k2_align

    classes = {
        word: [[PHONE_ID[phone] - 1 for phone in variant] for variant in variants]
        for word, variants in pronunciations.items()
    }

    def engine(utterance: str, scores: Tensor) -> list[tuple[int, int]]:
        words = texts.get(utterance, "").split()
        if not words:
            raise AlignmentError("no words in text")
        graph = k2_align.lexicon_graph([classes[word] for word in words], SILENCE_CLASS)
        return _roomy(k2_align.best_path(scores, graph), f"its {len(words)} words", scores)

    return engine


def phones_by_torchaudio(phones: Mapping[str, Sequence[int]]) -> Engine:
    """The engine that aligns an utterance's phones (classes, without silence), with silence or none around each."""

    def engine(utterance: str, scores: Tensor) -> list[tuple[int, int]]:
        if not phones.get(utterance):
            raise AlignmentError("no labels that name its phones, which k2 would do without")
        path = linear_align.best_path(scores, phones[utterance], SILENCE_CLASS)
        return _roomy(path, f"its {len(phones[utterance])} phones", scores)

    return engine


def _roomy(path: list[tuple[int, int]] | None, what: str, scores: Tensor) -> list[tuple[int, int]]:
    if path is None:
        raise AlignmentError(f"{what} do not fit its {len(scores) * HOP / SAMPLE_RATE:.2f} s of audio")
    return path


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
        intervals = [interval for interval in timed if interval.phone != UNLABELLED]
        vector = labels.get(utterance)
        if vector is not None and np.array_equal(labels_from_intervals(intervals, len(vector) * HOP), vector):
            phones[utterance] = [PHONE_ID[phone] - 1 for _, _, phone in intervals if phone != SILENCE]
    return phones


def choose_engine(name: str, data_dir: Path, labels: Mapping[str, np.ndarray], oov: str) -> Engine:
    """``k2``, ``linear``, or for ``auto`` the first of them that this environment has; the log says which.

    Raises:
        UserError: k2 is asked for and cannot be imported, or what the engine starts from is not there.
    """
    missing = None if name == "linear" else _why_no_k2()
    if name == "k2" and missing:
        raise UserError(missing)
    if name == "linear" or missing:
        if not labels:
            raise UserError(
                f"{data_dir}/phones.scp: no labels yet, whose phones could be aligned; {missing or K2_HELP}"
            )
        log.info("%saligning the phones of the labels there are, by torchaudio", f"{missing}; " if missing else "")
        return phones_by_torchaudio(phones_of_labels(labels, data_dir / "phones.ctm"))
    log.info("aligning words by k2: all variants of the lexicon, silence or none around each word")
    texts = read_table(data_dir / "text")
    words = count_words(texts)
    lexicon = build_lexicon(words, oov)
    write_unknown(data_dir / "oov.txt", lexicon, words)
    return words_by_k2(texts, lexicon.pronunciations)


def _why_no_k2() -> str | None:
    try:
        from data_prep import k2_align  # noqa: F401  # the one module that imports k2
    except ImportError as error:
        return f"k2 cannot be imported ({error}): {K2_HELP}"
    return None


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("lang_dir", type=Path)
    parser.add_argument("--posteriors", type=Path, required=True, metavar="DIR", help="of cpc_speech.posteriors")
    parser.add_argument("--engine", choices=("auto", "k2", "linear"), default="auto", help="auto: k2 if it is there")
    parser.add_argument("--oov", choices=("espeak", "spn"), default="espeak", help="k2: words outside cmudict")
    parser.add_argument("--max-dropped", type=int, default=0, metavar="N", help="utterances that may stay unaligned")
    options = parser.parse_args(argv)
    data_dir, work = options.data_dir, options.data_dir / WORK
    num_samples = {utterance: int(n) for utterance, n in read_table(data_dir / "utt2num_samples").items()}
    labels = dict(read_int_vectors(data_dir / "phones.scp")) if (data_dir / "phones.scp").is_file() else {}
    engine = choose_engine(options.engine, data_dir, labels, options.oov)

    dropped: dict[str, str] = {}
    scores: dict[str, str] = {}
    kept = frames = 0
    alignments = align(options.posteriors / "posteriors.scp", num_samples, engine)
    with atomic_write(work / "phones.ctm") as file:
        for utterance, aligned in tqdm(alignments, desc="align", unit="utt", total=len(num_samples)):
            if isinstance(aligned, AlignmentError):
                dropped[utterance] = str(aligned)
                continue
            file.write(ctm_lines(utterance, aligned.intervals))
            scores[utterance] = f"{aligned.score:.4f}"
            before = labels.get(utterance, np.zeros(0, np.int32))
            after = labels_from_intervals(aligned.intervals, len(before) * HOP)
            kept += int((after == before)[before > 0].sum())
            frames += int((before > 0).sum())
    write_table(work / "align.scores", scores)
    report_dropped(work, "align", dropped, options.max_dropped)  # until here the labels are as they were
    ctm = work / "phones.ctm"
    write_labels(ctm, label_ctm(ctm), data_dir, options.lang_dir)
    for name in ("phones.ctm", "align.dropped", "align.scores"):
        os.replace(work / name, data_dir / name)
    shutil.rmtree(work)
    if frames:
        log.info("%.2f %% of %d frames keep their label", 100 * kept / frames, frames)


if __name__ == "__main__":
    run(main)
