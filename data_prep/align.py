"""Forced alignment of every utterance to 41 classes with pocketsphinx's US-English triphone model.

python -m data_prep.align DATA_DIR LANG_DIR [--nj N] [--oov espeak|spn] [--max-dropped N]

reads DATA_DIR/text and the packed audio; writes LANG_DIR/phones.txt and, in DATA_DIR, phones.ctm, phones.{ark,scp},
oov.txt (words outside cmudict) and align.dropped. Interrupted, it goes on from the chunks kept in align.parts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from cpc_speech.datadir import read_table
from cpc_speech.errors import UserError, require, run
from cpc_speech.files import atomic_write
from cpc_speech.packed import PackedAudio
from data_prep.ctm import import_ctm
from data_prep.dropped import report_dropped
from data_prep.lexicon import Pronunciations, build_lexicon, count_words, write_unknown
from data_prep.phones import HOP, PHONE_ID, SAMPLE_RATE, SILENCE, SPOKEN_NOISE, Interval

CHUNK = 16  # utterances a task: small enough that little is lost by ctrl-C
VERSION = 1  # of what this module computes; another one makes kept chunks void
# pocketsphinx's frame j is a window of 410 samples from sample 160 j on. Its centre is at 160 j + 205, so two
# neighbouring frames meet, half-way between their centres, at 160 j + 125.
FRAME_EDGE = 410 // 2 - HOP // 2
# From the model's own beams to hardly any pruning; the next is tried where no path through the text survives.
BEAMS = ({}, {"beam": 1e-100, "pbeam": 1e-100, "wbeam": 1e-90}, {"beam": 1e-300, "pbeam": 1e-300, "wbeam": 1e-300})
FILLERS = {"+NSN+": SPOKEN_NOISE, "+SPN+": SPOKEN_NOISE, "SIL": SILENCE}

log = logging.getLogger(__name__)


class NoAlignment(Exception):
    """Why an utterance has none."""


class Task(NamedTuple):
    """One utterance: its id, its place in the packed audio, its words."""

    utterance: str
    index: int
    words: list[str]


class Aligner:
    """pocketsphinx with a dictionary that holds these words only; two passes, words first, then phones."""

    def __init__(self, pronunciations: Pronunciations) -> None:
        self._pocketsphinx = require("pocketsphinx", "align")
        # Words are renamed w0, w1, ... so that none of them can mean something to pocketsphinx's dictionary reader.
        self._names = {word: f"w{number}" for number, word in enumerate(sorted(pronunciations))}
        self._pronunciations = pronunciations
        self._decoders: dict[int, Any] = {}

    def _decoder(self, attempt: int) -> Any:
        if attempt not in self._decoders:
            config = self._pocketsphinx.Config(lm=None, dict=None, logfn=os.devnull, loglevel="FATAL", **BEAMS[attempt])
            config["dict"] = None
            self._decoders[attempt] = self._pocketsphinx.Decoder(config)
        return self._decoders[attempt]
