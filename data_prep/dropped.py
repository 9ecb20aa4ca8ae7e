"""Utterances without labels: listed with their reasons, and an error when they are too many."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from cpc_speech.datadir import write_table
from cpc_speech.errors import UserError

DROPPED = "labels.dropped"
REFUSED = "labels.refused"

log = logging.getLogger(__name__)


def refuse_too_many(folder: str | Path, reasons: Mapping[str, str], max_dropped: int) -> None:
    """Raise UserError if more than ``max_dropped`` utterances would have no labels; ``folder/labels.refused`` lists
    them."""
    path = Path(folder) / REFUSED
    if len(reasons) <= max_dropped:
        path.unlink(missing_ok=True)
        return
    write_table(path, reasons)
    first = "; ".join(f"{utterance}: {reasons[utterance]}" for utterance in sorted(reasons)[:3])
    raise UserError(
        f"{len(reasons)} utterances got no labels ({first}). All are listed in {path}; mend them, "
        f"or accept that they are left out: --max-dropped {len(reasons)}"
    )


def write_dropped(folder: str | Path, reasons: Mapping[str, str]) -> None:
    """Write ``folder/labels.dropped``: ``utterance reason...``, also when empty."""
    path = Path(folder) / DROPPED
    write_table(path, reasons)
    if reasons:
        log.warning("%d utterances got no labels, listed in %s", len(reasons), path)
