"""Utterances without labels: listed with their reasons, and an error when they are too many."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from cpc_speech.datadir import write_table
from cpc_speech.errors import UserError

DROPPED = "labels.dropped"

log = logging.getLogger(__name__)


def report_dropped(folder: str | Path, reasons: Mapping[str, str], max_dropped: int) -> None:
    """Write ``folder/labels.dropped`` (``utterance reason...``; also when empty) and refuse too many.

    Raises:
        UserError: more than ``max_dropped``; quotes the first ones.
    """
    path = Path(folder) / DROPPED
    write_table(path, reasons)
    if len(reasons) > max_dropped:
        first = "; ".join(f"{utterance}: {reasons[utterance]}" for utterance in sorted(reasons)[:3])
        raise UserError(
            f"{len(reasons)} utterances got no labels ({first}). All are listed in {path}; mend them, "
            f"or accept that they are left out: --max-dropped {len(reasons)}"
        )
    if reasons:
        log.warning("%d utterances got no labels, listed in %s", len(reasons), path)
