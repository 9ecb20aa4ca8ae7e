"""Find out which phones the CPC authors' integers mean, by labels of one's own for some of the same utterances.

    python -m data_prep.match_ids SOURCE DATA_DIR --to id_map.txt [--labels phones.scp]

SOURCE is the authors' converted_aligned_phones.txt or the zip file with it; the labels are DATA_DIR/phones.scp, as
data_prep.align makes them, or --labels. Of all ways to give each of the 41 ids a phone of its own, the one by which
most frames agree is taken. The file gets lines `id PHONE agreement frames`: agreement is the percentage of the id's
frames that have this phone in our labels. `doubtful` follows where that is no majority, also where the id never occurs
beside a label of ours.

Then: python -m data_prep.import_labels cpc SOURCE DATA_DIR LANG_DIR --id-map id_map.txt
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cpc_speech.datadir import read_num_samples, read_table
from cpc_speech.errors import UserError, require, run
from cpc_speech.files import atomic_write
from cpc_speech.phones import HOP, PHONE_CLASSES, SAMPLE_RATE, SYMBOLS, read_phones, refuse_numbered
from data_prep.cpc_labels import DOUBTFUL, NUMBERED_IDS
from data_prep.frame_labels import label_frames
from data_prep.int_vectors import read_vectors
from data_prep.label_writer import shared_labels

log = logging.getLogger(__name__)


class Match(NamedTuple):
    """What an id seems to mean."""

    phone: str
    frames: int  # of the id, where we have a label too
    agreeing: int  # of these, frames that are this phone by our labels
    runner_up: str  # the phone that most of the others are
    rival: int  # how many those are

    @property
    def doubtful(self) -> bool:
        return 2 * self.agreeing <= self.frames

    def share(self, frames: int) -> str:
        return f"{100 * frames / max(1, self.frames):.1f}"


def count_pairs(source: str | Path, data_dir: str | Path, labels: str | Path | None = None) -> np.ndarray:
    """Count how often each of the authors' ids falls together with each phone of our labels.

    Args:
        source: the authors' file.
        data_dir: tells the audio's lengths.
        labels: our labels; default: the data directory's phones.scp.

    Returns:
        (41 ids, 41 phones) int64, in frames of 10 ms that both have a label for.

    Raises:
        UserError: no utterance in common, labels that are themselves such integers, or a damaged file.
    """
    data_dir = Path(data_dir)
    scp = Path(labels or data_dir / "phones.scp")
    refuse_numbered(scp.parent)
    num_samples = read_num_samples(data_dir)
    ours = read_phones(data_dir, [utterance for utterance in read_table(scp) if utterance in num_samples], scp)
    pairs = np.zeros((PHONE_CLASSES + 1) ** 2, dtype=np.int64)
    used = 0
    theirs = shared_labels(source, label_frames(read_vectors(source), NUMBERED_IDS), num_samples, data_dir)
    for utterance, ids in theirs:
        if utterance in ours:
            pairs += np.bincount(ids * (PHONE_CLASSES + 1) + ours[utterance], minlength=len(pairs))
            used += 1
    both = pairs.reshape(PHONE_CLASSES + 1, PHONE_CLASSES + 1)[1:, 1:]  # 0 is unlabelled
    if not both.any():
        raise UserError(f"{source}: {scp} labels none of its utterances; name labels of some of the same utterances")
    log.info("%d utterances that both label, %.2f h", used, both.sum() * HOP / SAMPLE_RATE / 3600)
    return both


def match(pairs: np.ndarray) -> list[Match]:
    """The one-to-one assignment of phones to ids by which most frames agree.

    Args:
        pairs: (41 ids, 41 phones), from ``count_pairs``.

    Returns:
        For each id what it means; one that never occurs beside a label of ours gets a phone that is left over.
    """
    _, assigned = require("scipy.optimize", "analysis").linear_sum_assignment(pairs, maximize=True)
    matches = []
    for counts, phone in zip(pairs, assigned):
        others = counts.copy()
        others[phone] = -1
        rival = int(others.argmax())
        names = SYMBOLS[1 + phone], SYMBOLS[1 + rival]
        matches.append(Match(names[0], int(counts.sum()), int(counts[phone]), names[1], int(counts[rival])))
    return matches


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="data_prep.match_ids", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--to", type=Path, required=True, metavar="id_map.txt", help="where the map is written")
    parser.add_argument("--labels", type=Path, metavar="phones.scp", help="our labels (default: DATA_DIR/phones.scp)")
    options = parser.parse_args(argv)
    matches = match(count_pairs(options.source, options.data_dir, options.labels))
    print(f"{'id':>2} {'phone':5} {'frames':>9} {'agree %':>7} {'runner-up':>9} {'%':>5}")
    with atomic_write(options.to) as file:
        for index, row in enumerate(matches):
            mark = f" {DOUBTFUL}" if row.doubtful else ""
            rival = f"{row.runner_up:>9} {row.share(row.rival):>5}" if row.rival else f"{'-':>9} {'-':>5}"
            print(f"{index:2} {row.phone:5} {row.frames:9} {row.share(row.agreeing):>7} {rival}{mark}")
            file.write(f"{index} {row.phone} {row.share(row.agreeing)} {row.frames}{mark}\n")
    agreeing, frames = sum(row.agreeing for row in matches), sum(row.frames for row in matches)
    print(f"{100 * agreeing / frames:.2f} % of {frames} frames agree")
    for index, row in enumerate(matches):
        if not row.frames:
            log.warning("%d never occurs beside a label of ours: it is given %s, which was left over", index, row.phone)
        elif row.doubtful:
            log.warning("%d: only %s %% of its frames are %s", index, row.share(row.agreeing), row.phone)


if __name__ == "__main__":
    run(main)
