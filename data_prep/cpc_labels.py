"""The CPC authors' own labels of LibriSpeech train-clean-100: ``converted_aligned_phones.txt``, also inside its zip.

Each line is ``utterance int int ...``, ids 0..40, one for each of Kaldi's snip-edges frames of 10 ms. Which phone an
id means was never published. A file that maps them (match_ids.py makes one) has 41 lines ``id PHONE``; what follows on
a line is for people to read, except a last word ``doubtful``.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np

from cpc_speech.errors import UserError
from cpc_speech.phones import PHONE_CLASSES, PHONE_ID
from data_prep.frame_labels import IdMap

DOUBTFUL = "doubtful"

log = logging.getLogger(__name__)


def _explain(unknown: int) -> str:
    return f"the authors' ids are 0 to {PHONE_CLASSES - 1}"


NUMBERED_IDS = IdMap(np.arange(1, PHONE_CLASSES + 1, dtype=np.int32), _explain)  # id i is Pii of phones.NUMBERED


def read_id_map(path: str | Path) -> IdMap:
    """What a map file makes of the authors' ids; doubtful ones are named in the log.

    Raises:
        UserError: a missing file; an id that is unknown, twice or not there; an unknown phone or one that two ids have.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; python -m data_prep.match_ids makes it")
    phones: dict[int, str] = {}
    doubtful: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        where, fields = f"{path}:{number}", line.split()
        if len(fields) < 2 or not re.fullmatch(r"[0-9]{1,6}", fields[0]):
            raise UserError(f"{where}: {line[:80]!r} is not 'id PHONE'")
        index, phone = int(fields[0]), fields[1]
        if index >= PHONE_CLASSES:
            raise UserError(f"{where}: the id {index}: {_explain(index)}")
        if phone not in PHONE_ID:
            raise UserError(f"{where}: {phone} is none of {' '.join(PHONE_ID)}")
        if index in phones:
            raise UserError(f"{where}: the id {index} a second time; keep one of the two lines")
        if phone in phones.values():
            raise UserError(f"{where}: {phone} a second time; each id has a phone of its own")
        phones[index] = phone
        if fields[-1] == DOUBTFUL:
            doubtful.append(f"{index} {phone}")
    if missing := [str(index) for index in range(PHONE_CLASSES) if index not in phones]:
        raise UserError(f"{path}: no line for {', '.join(missing)}; each id from 0 to {PHONE_CLASSES - 1} needs one")
    if doubtful:
        log.warning("%s: doubtful are %s", path, ", ".join(doubtful))
    return IdMap(np.array([PHONE_ID[phones[index]] for index in range(PHONE_CLASSES)], dtype=np.int32), _explain)
