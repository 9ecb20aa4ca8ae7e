"""Import phone labels from a CTM file: ``utterance channel start duration phone [confidence]``, seconds.

python -m data_prep.ctm CTM DATA_DIR LANG_DIR [--max-dropped N]

writes LANG_DIR/phones.txt, DATA_DIR/phones.{ark,scp} and DATA_DIR/ctm.dropped (utterances that the CTM lacks).
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np

from cpc_speech.datadir import read_table
from cpc_speech.errors import UserError, run
from cpc_speech.kaldi import write_int_vectors
from data_prep.dropped import report_dropped
from data_prep.phones import HOP, PHONE_ID, SAMPLE_RATE, Interval, labels_from_intervals, strip_stress, write_symbols

MAX_EXCESS_FRAMES = 2  # by which labels may outlast the audio: what framing conventions differ by, and no more

log = logging.getLogger(__name__)


def read_ctm(path: str | Path) -> Iterator[tuple[str, list[Interval]]]:
    """Yield each utterance's intervals; stress digits are stripped.

    Raises:
        UserError: the first line that is no CTM line, names an unknown phone or is out of order (names the line).
    """
    for utterance, lines in groupby(_read_lines(Path(path)), key=lambda line: line[0]):
        yield utterance, [interval for _, interval in lines]


def _read_lines(path: Path) -> Iterator[tuple[str, Interval]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    last, last_start = "", 0.0
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            fields = line.split()
            if not fields or line.startswith(";;"):  # CTM's comments
                continue
            utterance, phone = fields[0], strip_stress(fields[4]) if len(fields) in (5, 6) else ""
            try:
                start, duration = float(fields[2]), float(fields[3])
            except (IndexError, ValueError):
                start, duration = -1.0, -1.0
            if not phone or not 0 <= start < np.inf or not 0 <= duration < np.inf:
                raise UserError(f"{path}:{number}: {line.strip()!r} is not 'utterance channel start duration phone'")
            if phone not in PHONE_ID:
                raise UserError(f"{path}:{number}: {phone} is none of {' '.join(PHONE_ID)}; map it to one of them")
            if (utterance, start) < (last, last_start):
                raise UserError(f"{path}:{number}: out of order; LC_ALL=C sort -s -k1,1 -k3,3n -o {path} {path}")
            last, last_start = utterance, start
            yield utterance, Interval(start, start + duration, phone)


def import_ctm(ctm: str | Path, data_dir: str | Path, lang_dir: str | Path) -> list[str]:
    """Write the phone table and one label a frame for every utterance that the CTM and the data directory share.

    Returns the utterances of the data directory that the CTM lacks; those that only the CTM has are counted in the log.

    Raises:
        UserError: an unreadable line, or labels that outlast an utterance's audio by over two frames.
    """
    data_dir = Path(data_dir)
    num_samples = {name: int(n) for name, n in read_table(data_dir / "utt2num_samples").items()}
    missing = dict.fromkeys(num_samples)
    foreign = 0
    share = np.zeros(len(PHONE_ID) + 1, dtype=np.int64)

    def labels() -> Iterator[tuple[str, np.ndarray]]:
        nonlocal foreign
        for utterance, intervals in read_ctm(ctm):
            if utterance not in num_samples:
                foreign += 1
                continue
            samples = num_samples[utterance]
            end = max(interval.end for interval in intervals)
            if round(end * SAMPLE_RATE) > samples + MAX_EXCESS_FRAMES * HOP:
                raise UserError(
                    f"{ctm}: {utterance} ends at {end:.3f} s, its audio at {samples / SAMPLE_RATE:.3f} s; "
                    "these labels belong to other audio"
                )
            vector = labels_from_intervals(intervals, samples)
            np.add(share, np.bincount(vector, minlength=len(share)), out=share)
            del missing[utterance]
            yield utterance, vector

    count = write_int_vectors(data_dir / "phones.ark", data_dir / "phones.scp", labels())
    write_symbols(lang_dir)
    if foreign:
        log.warning("%s: %d utterances are not in %s and were left out", ctm, foreign, data_dir)
    frames = max(1, int(share.sum()))
    log.info(
        "labels for %d utterances, %.2f h: %.1f %% SIL, %.2f %% SPN, %.2f %% unlabelled, %d of %d classes occur",
        count, frames / 360_000, *(100 * share[[1, 2, 0]] / frames), np.count_nonzero(share[1:]), len(PHONE_ID),
    )  # fmt: skip
    return list(missing)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="data_prep.ctm", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("ctm", type=Path)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("lang_dir", type=Path)
    parser.add_argument("--max-dropped", type=int, default=0, metavar="N", help="utterances that may lack labels")
    options = parser.parse_args(argv)
    missing = import_ctm(options.ctm, options.data_dir, options.lang_dir)
    reasons = dict.fromkeys(missing, f"not in {options.ctm.name}")
    report_dropped(options.data_dir, "ctm", reasons, options.max_dropped)


if __name__ == "__main__":
    run(main)
