"""Export a data directory's phone labels: as a CTM, TextGrids, Kaldi's phones by frame, or the CPC authors' file.

python -m data_prep.export_labels FORMAT DATA_DIR TO

    FORMAT      TO
    ctm         a file of `utterance channel start duration phone` lines; unlabelled frames are left out
    textgrid    a folder, one <utterance>.TextGrid each for Praat, tier `phones`, unlabelled stretches marked <eps>
    kaldi       a text archive, one id of lang/phones.txt a frame of 10 ms, 0 where unlabelled
    cpc         the authors' converted_aligned_phones.txt, one id a frame of Kaldi's snip-edges: 0..40 = label - 1

DATA_DIR has phones.scp, which is what is exported, and utt2num_samples. A boundary is put half-way between the centres
of its two frames. data_prep.import_labels with the same FORMAT gives back identical labels (kaldi: with
`--symbols lang/phones.txt --no-snip-edges`), but for what a format cannot hold: a CTM has no line of an utterance
without any label, and Kaldi's snip-edges has no frame nearest to our first, nor to our last if less than half a frame
of audio follows it: these come back unlabelled from cpc.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

from cpc_speech.datadir import read_num_samples
from cpc_speech.errors import UserError, run
from cpc_speech.files import atomic_write
from cpc_speech.phones import SAMPLE_RATE, UNLABELLED, Interval, intervals_from_labels, read_symbols
from cpc_speech.progress import Progress
from data_prep.ctm import ctm_lines
from data_prep.frame_labels import num_kaldi_frames
from data_prep.label_sets import Labels, read_label_set
from data_prep.textgrid import write_textgrid

Utterance = tuple[str, int, Labels]  # id, number of samples, labels

log = logging.getLogger(__name__)


def ctm(utterances: Iterator[Utterance], to: Path) -> None:
    empty = 0
    with atomic_write(to) as file:
        for utterance, _, labels in utterances:
            empty += not labels.phones
            file.write(ctm_lines(utterance, labels.phones))
    if empty:
        log.warning("%s: %d utterances have no label at all and so no line", to, empty)


def textgrid(utterances: Iterator[Utterance], to: Path) -> None:
    for utterance, num_samples, labels in utterances:
        if "/" in utterance:
            raise UserError(f"{utterance} cannot name a file in {to}, as it has a /; export a CTM")
        seconds = num_samples / SAMPLE_RATE
        # <eps> is written out, as what a TextGrid leaves blank is silence.
        intervals = intervals_from_labels(labels.frames, num_samples) or [Interval(0.0, seconds, UNLABELLED)]
        write_textgrid(to / f"{utterance}.TextGrid", intervals, seconds)


def kaldi(utterances: Iterator[Utterance], to: Path) -> None:
    with atomic_write(to) as file:
        for utterance, _, labels in utterances:
            file.write(" ".join([utterance, *map(str, labels.frames.tolist())]) + "\n")


def cpc(utterances: Iterator[Utterance], to: Path) -> None:
    with atomic_write(to) as file:
        for utterance, num_samples, labels in utterances:
            # Frame j of snip-edges is nearest to our frame j + 1 (data_prep/frame_labels.py).
            ids = (labels.frames[1 : 1 + num_kaldi_frames(num_samples)] - 1).tolist()
            if -1 in ids:
                raise UserError(
                    f"{utterance} is unlabelled at {(ids.index(-1) + 1) / 100:.2f} s, and cpc has no id for that; "
                    "export another format, or a data directory without such utterances"
                )
            file.write(" ".join([utterance, *map(str, ids)]) + "\n")


FORMATS = {"ctm": ctm, "textgrid": textgrid, "kaldi": kaldi, "cpc": cpc}


def labelled(data_dir: Path, numbered: bool) -> Iterator[Utterance]:
    """The utterances of ``data_dir/phones.scp``; one's labels are in memory at a time.

    Args:
        numbered: whether labels may be the authors' numbers.

    Raises:
        UserError: one that utt2num_samples lacks, or has with another length.
    """
    num_samples = read_num_samples(data_dir)
    count = 0
    label_set = read_label_set(data_dir / "phones.scp", numbered)
    for utterance, load in Progress(label_set, desc="export", unit="utt"):
        if utterance not in num_samples:
            raise UserError(f"{data_dir}/phones.scp: {utterance} is not in utt2num_samples; run stages 1 and 2 again")
        yield utterance, num_samples[utterance], load(num_samples[utterance])
        count += 1
    if count < len(num_samples):
        log.warning("%s: %d utterances have no labels and were left out", data_dir, len(num_samples) - count)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="data_prep.export_labels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("format", choices=FORMATS)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("to", type=Path)
    options = parser.parse_args(argv)
    read_symbols(options.data_dir)  # refuses a table that is missing or wrong
    FORMATS[options.format](labelled(options.data_dir, options.format == "cpc"), options.to)


if __name__ == "__main__":
    run(main)
