"""Forced alignment of every utterance to 41 classes.

python -m data_prep.align DATA_DIR LANG_DIR --aligner gmm|pocketsphinx|posterior --work DIR [--lexicon FILE]
    [--oov espeak|spn] [--posteriors DIR] [--nj N] [--max-dropped N] [--to DIR]

    gmm           a monophone GMM-HMM trained on these very utterances, by Kaldi's own code; for any voice, microphone
                  or language whose lexicon has these phones
    pocketsphinx  an American English triphone model that comes with its package
    posterior     scores of frames by a probe or the supervised network, --posteriors DIR of cpc_speech.posteriors: with
                  k2 of the words, without it of the phones that DATA_DIR's present labels have

reads DATA_DIR/text and the packed audio; writes, in DATA_DIR or the folder given by --to,

    phones.ctm phones.ark phones.scp
    phones.txt      their table, which goes to LANG_DIR too, but for --to
    labels.json     what made them, how many, how long it took
    labels.dropped  utterances that got no labels, and why; more than --max-dropped are refused (labels.refused)
    oov.txt         words outside the lexicon, how often they are said, and how they were taken
    align.scores    of each utterance: mean over frames of the log-likelihood, less that of the frame's best state
    align.outliers  scores so low that text and audio may not belong together; these keep their labels

--work DIR, such as exp/align, keeps what is done: the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cpc_speech.datadir import read_table, write_table
from cpc_speech.errors import UserError, run
from cpc_speech.files import atomic_write, remove_strays
from cpc_speech.packed import PackedAudio
from cpc_speech.pronunciations import CMUDICT
from data_prep.alignment import Job, add_seconds
from data_prep.ctm import ctm_lines, label_ctm
from data_prep.label_writer import write_labels
from data_prep.lexicon import build_lexicon, count_words, write_unknown

ALIGNERS = ("gmm", "pocketsphinx", "posterior")  # data_prep/<name>_align.py; only the one in use is imported
# An outlier's score lies this many standard deviations below the median; the deviation is 1.4826 times the median
# absolute deviation, which is what it is for normal scores and which outliers hardly move.
OUTLIER_DEVIATIONS = 5.0

log = logging.getLogger(__name__)


def outliers(scores: Mapping[str, float]) -> dict[str, str]:
    """Utterance -> its score and why it is one."""
    values = np.array(list(scores.values()))
    if not len(values):
        return {}
    median = float(np.median(values))
    deviation = 1.4826 * float(np.median(np.abs(values - median)))
    return {
        utterance: f"{score:.3f}: {(median - score) / deviation:.1f} deviations below the median {median:.3f}"
        for utterance, score in scores.items()
        if deviation > 0 and score < median - OUTLIER_DEVIATIONS * deviation
    }


def words_of(text: str) -> list[str]:
    """Its words, each of them one object however often it is said: every process is given all that is said."""
    return [sys.intern(word) for word in text.split()]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="data_prep.align", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("lang_dir", type=Path)
    parser.add_argument("--aligner", choices=ALIGNERS, required=True)
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="keeps what is done")
    parser.add_argument("--to", type=Path, metavar="DIR", help="where the labels go (default: DATA_DIR)")
    parser.add_argument("--lexicon", default=CMUDICT, metavar="FILE", help="word phone phone ... (default: cmudict)")
    parser.add_argument("--posteriors", type=Path, metavar="DIR", help="posterior: scores of frames")
    parser.add_argument("--nj", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: CPUs)")
    parser.add_argument("--oov", choices=("espeak", "spn"), default="espeak", help="words outside the lexicon")
    parser.add_argument("--max-dropped", type=int, default=0, metavar="N", help="utterances that may stay unaligned")
    options = parser.parse_args(argv)
    if options.nj < 1:
        raise UserError(f"--nj {options.nj}: at least one process is needed")
    if (options.aligner == "posterior") != bool(options.posteriors):
        raise UserError("--aligner posterior needs --posteriors, and no other aligner takes it")
    aligner = importlib.import_module(f"data_prep.{options.aligner}_align")
    by = aligner.made_by(options.posteriors) if options.posteriors else options.aligner
    data_dir, to = options.data_dir, options.to or options.data_dir
    audio = PackedAudio(data_dir)
    texts = read_table(data_dir / "text")
    transcripts = {place: words_of(texts.get(utterance, "")) for place, utterance in enumerate(audio.utterances)}
    words = count_words(transcripts.values())
    lexicon = build_lexicon(words, options.lexicon, options.oov)
    spoken = {place: words for place, words in transcripts.items() if words}
    job = Job(data_dir, audio, spoken, lexicon.pronunciations, options.work, options.nj, options.posteriors)
    dropped = {audio.utterances[place]: "no words in text" for place in transcripts if place not in spoken}
    scores: dict[str, float] = {}
    ctm, start = to / "phones.ctm.new", time.monotonic()
    remove_strays(ctm)
    try:
        try:
            with atomic_write(ctm) as file:
                for place, intervals, score, reason in aligner.align_corpus(job):
                    utterance = audio.utterances[place]
                    if reason:
                        dropped[utterance] = reason
                    else:
                        scores[utterance] = score
                        file.write(ctm_lines(utterance, intervals))
        finally:
            seconds = add_seconds(options.work, time.monotonic() - start)
        # The time that scores took is not known here.
        facts = {} if options.posteriors else {"seconds": round(seconds), "processes": options.nj}
        write_labels(
            by, ctm, label_ctm(ctm), data_dir, options.lang_dir, to=to,
            dropped=dropped, max_dropped=options.max_dropped, facts=facts,
        )  # fmt: skip
        os.replace(ctm, to / "phones.ctm")
    finally:
        ctm.unlink(missing_ok=True)
    write_unknown(to / "oov.txt", lexicon, words)
    write_table(to / "align.scores", {utterance: f"{score:.3f}" for utterance, score in scores.items()})
    write_table(to / "align.outliers", found := outliers(scores))
    if found:
        log.warning("%d utterances fit their text badly, listed in %s", len(found), to / "align.outliers")


if __name__ == "__main__":
    run(main)
