"""Phone labels: the 41 classes and their names, and the geometry that turns timed phones into one label a frame."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cpc_speech.datadir import read_num_samples
from cpc_speech.errors import UserError
from cpc_speech.files import atomic_write
from cpc_speech.kaldi import read_int_vectors
from cpc_speech.packed import SAMPLE_RATE

HOP = 160  # samples between frames: 10 ms
CENTRE = 79  # offset of a frame's centre: the encoder's frame t sees samples 160 t - 153 ... 160 t + 311

ARPABET = (
    "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
).split()
UNLABELLED, SILENCE, SPOKEN_NOISE = "<eps>", "SIL", "SPN"
# The 41 classes of the paper (section 3.1), after id 0, which Kaldi and k2 reserve: here it means "unlabelled".
SYMBOLS = [UNLABELLED, SILENCE, SPOKEN_NOISE, *ARPABET]
PHONE_ID = {phone: index for index, phone in enumerate(SYMBOLS) if index > 0}
PHONE_CLASSES = len(PHONE_ID)
# Other names that aligners give them: silent intervals are blank in MFA 2 and later, sil and sp in MFA 1 and Kaldi.
OTHER_NAMES = {"": SILENCE, "SP": SILENCE, "NSN": SPOKEN_NOISE, "<EPS>": UNLABELLED}
# Manners of articulation, which is how figures group the phones.
BROAD_CLASSES = {
    "vowels": "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split(),
    "approximants": "L R W Y".split(),
    "nasals": "M N NG".split(),
    "fricatives, affricates": "CH DH F HH JH S SH TH V Z ZH".split(),
    "stops": "B D G K P T".split(),
    "silence, spoken noise": [SILENCE, SPOKEN_NOISE],
}
# The same number of classes for labels that are integers of unknown phones (data_prep/cpc_labels.py).
NUMBERED = [UNLABELLED, *(f"P{number:02d}" for number in range(PHONE_CLASSES))]


class Interval(NamedTuple):
    """A phone between two times in seconds, the end not included."""

    start: float
    end: float
    phone: str


def broad_class(phone: str) -> str | None:
    """The manner of articulation of one of the 41 phones, a key of BROAD_CLASSES; None of anything else."""
    return next((name for name, phones in BROAD_CLASSES.items() if phone in phones), None)


def strip_stress(phone: str) -> str:
    """``AH0`` -> ``AH``."""
    return phone.rstrip("012")


def phone_of(name: str) -> str | None:
    """The phone that an aligner calls ``name``: one of SYMBOLS, ``<eps>`` for no label, or None for an unknown name.

    Case does not matter; stress digits and Kaldi's word positions (_B _E _I _S) are dropped: ``ah0_B`` -> ``AH``.
    """
    bare = re.sub(r"(?<=.)_[BEIS]$", "", name.strip().upper())
    phone = OTHER_NAMES.get(bare, strip_stress(bare))
    return phone if phone in PHONE_ID or phone == UNLABELLED else None


def labels_from_intervals(intervals: Iterable[Interval], num_samples: int) -> np.ndarray:
    """Label every 10 ms frame of an utterance with the phone at the frame's centre: the one geometry function.

    Frame t is centred on sample 160 t + 79 of the 16 kHz audio, and an interval covers the samples from
    round(16000 start) up to but not including round(16000 end). A frame whose centre nothing covers is 0
    (unlabelled); where two intervals overlap the later in the list has it.

    Returns:
        (num_samples // 160,) int32, ids of SYMBOLS.

    Raises:
        UserError: a phone outside SYMBOLS, or an interval that ends before it starts or starts before 0.
    """
    labels = np.zeros(num_samples // HOP, dtype=np.int32)
    for start, end, phone in intervals:
        if phone not in PHONE_ID:
            raise UserError(f"{phone!r} is not a phone of this suite; map it to one of {' '.join(SYMBOLS[1:])}")
        if not 0 <= start <= end:
            raise UserError(f"{phone} from {start} s to {end} s: times must be positive and in order")
        labels[_first_frame(start) : _first_frame(end)] = PHONE_ID[phone]
    return labels


def intervals_from_labels(labels: np.ndarray, num_samples: int) -> list[Interval]:
    """The runs of equal labels as intervals, those of ``<eps>`` too: what ``labels_from_intervals`` undoes.

    A boundary lies half-way between the centres of its two frames, at sample 160 t - 1. The intervals cover the
    utterance: the first starts at 0, the last ends with the audio. No frames, no intervals.
    """
    if not len(labels):
        return []
    firsts = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist()]
    limits = [0.0, *((HOP * frame - 1) / SAMPLE_RATE for frame in firsts[1:]), num_samples / SAMPLE_RATE]
    return [Interval(start, end, SYMBOLS[labels[frame]]) for start, end, frame in zip(limits, limits[1:], firsts)]


def _first_frame(seconds: float) -> int:
    """The first frame whose centre is at or after this time."""
    return max(0, -((CENTRE - round(seconds * SAMPLE_RATE)) // HOP))


def write_symbols(lang_dir: str | Path, symbols: Sequence[str] = SYMBOLS) -> None:
    """Write ``lang_dir/phones.txt``: lines ``phone id``, as Kaldi and k2 read them."""
    with atomic_write(Path(lang_dir) / "phones.txt") as file:
        file.writelines(f"{phone} {index}\n" for index, phone in enumerate(symbols))


def read_symbols(labels_dir: str | Path) -> list[str]:
    """The table of a folder's labels, SYMBOLS or NUMBERED, by its phones.txt, or else ``lang/phones.txt`` beside it.

    Raises:
        UserError: it is missing, or neither of the two (names the line).
    """
    path = _symbols_file(labels_dir)
    if not path.is_file():
        raise UserError(f"{path}: no such file; run stage 2 (phone labels) first")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    symbols = NUMBERED if lines[1:2] == [f"{NUMBERED[1]} 1"] else SYMBOLS
    for number, expected in enumerate((f"{phone} {index}" for index, phone in enumerate(symbols)), 1):
        if lines[number - 1 : number] != [expected]:
            raise UserError(f"{path}:{number}: {expected!r} should stand here; run stage 2 (phone labels) again")
    if len(lines) > len(symbols):
        raise UserError(f"{path}:{len(symbols) + 1}: a phone too many; run stage 2 (phone labels) again")
    return symbols


def _symbols_file(labels_dir: str | Path) -> Path:
    beside = Path(labels_dir) / "phones.txt"
    return beside if beside.is_file() else Path(labels_dir).absolute().parent / "lang/phones.txt"


def refuse_numbered(labels_dir: str | Path) -> None:
    """Raise if a folder's labels are the CPC authors' numbers; one without a table is taken to have phones."""
    if _symbols_file(labels_dir).is_file() and read_symbols(labels_dir) == NUMBERED:
        raise UserError(
            f"{labels_dir}: its labels are the CPC authors' ids, whose phones are unknown; find them by "
            "python -m data_prep.match_ids, and import them again with --id-map"
        )


def read_phones(
    data_dir: str | Path, utterances: Iterable[str], scp: str | Path | None = None
) -> dict[str, np.ndarray]:
    """The phone labels of these utterances, checked against the audio's length.

    Args:
        scp: the index of the labels; default: the data directory's phones.scp.

    Returns:
        utterance -> (num_samples // 160,) int32; 0 = unlabelled, class = label - 1.

    Raises:
        UserError: an utterance without labels, of another length, or with a label outside 0..41.
    """
    data_dir = Path(data_dir)
    scp = scp or data_dir / "phones.scp"
    num_samples = read_num_samples(data_dir)
    phones = {}
    for utterance, labels in read_int_vectors(scp, utterances):
        frames = num_samples.get(utterance, -1) // HOP
        if len(labels) != frames:
            raise UserError(
                f"{scp}: {utterance} has {len(labels)} labels for {frames} frames of audio; "
                "run stage 2 (phone labels) again"
            )
        if labels.size and not 0 <= labels.min() <= labels.max() <= PHONE_CLASSES:
            raise UserError(
                f"{scp}: {utterance} has a label outside 0..{PHONE_CLASSES}; run stage 2 (phone labels) again"
            )
        phones[utterance] = labels
    return phones
