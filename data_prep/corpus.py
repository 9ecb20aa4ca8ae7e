"""What every scanner does with the utterances it found: write a data directory."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cpc_speech.datadir import write_table
from cpc_speech.files import atomic_write

log = logging.getLogger(__name__)


class Utterance(NamedTuple):
    path: str  # absolute
    speaker: str
    seconds: float
    text: str | None = None


def first_of_each(speakers: Mapping[str, str], few: Sequence[int] | None) -> list[str]:
    """The utterances of ``speakers``, sorted; with ``few`` = (S, U), those first U of each of the first S speakers."""
    if few is None:
        return sorted(speakers)
    own: dict[str, list[str]] = {}
    for utterance in sorted(speakers):
        own.setdefault(speakers[utterance], []).append(utterance)
    return sorted(utterance for name in sorted(own)[: few[0]] for utterance in own[name][: few[1]])


def write_data_dir(data_dir: str | Path, utterances: Mapping[str, Utterance], facts: Mapping[str, object]) -> None:
    """Write wav.scp, utt2spk, spk2utt, utt2dur, text (where there are transcripts) and corpus.json.

    Audio packed before is of another scan: its index goes first, so that it is never taken for this one's.
    """
    data_dir = Path(data_dir)
    for stale in ("audio.scp", "utt2num_samples", "text"):
        (data_dir / stale).unlink(missing_ok=True)
    speakers: dict[str, list[str]] = {}
    for utterance in sorted(utterances):
        speakers.setdefault(utterances[utterance].speaker, []).append(utterance)
    hours = sum(entry.seconds for entry in utterances.values()) / 3600
    texts = {key: entry.text for key, entry in utterances.items() if entry.text is not None}

    write_table(data_dir / "wav.scp", {key: entry.path for key, entry in utterances.items()})
    write_table(data_dir / "utt2spk", {key: entry.speaker for key, entry in utterances.items()})
    write_table(data_dir / "spk2utt", {speaker: " ".join(members) for speaker, members in speakers.items()})
    write_table(data_dir / "utt2dur", {key: round(entry.seconds, 4) for key, entry in utterances.items()})
    if texts:
        write_table(data_dir / "text", texts)
    counts = {"utterances": len(utterances), "speakers": len(speakers), "hours": round(hours, 4)}
    with atomic_write(data_dir / "corpus.json") as file:
        json.dump({**facts, **counts}, file, indent=2)
        file.write("\n")
    log.info("%s: %d utterances, %d speakers, %.2f h", data_dir, len(utterances), len(speakers), hours)
