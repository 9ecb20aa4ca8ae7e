"""Baselines' features of a whole data directory as a Kaldi archive: MFCC, filterbank, or an untrained network's frames.
What a model gives, ``cpc_speech.extract`` writes.

    python -m cpc_speech.write_features --data data/mini --representation fbank --to data/mini_fbank
    python -m cpc_speech.write_features --data data/mini --representation random --config conf/cpc.yaml --to DIR

Writes feats.{ark,scp}: a float matrix (n // 160, D) for every utterance, one row each 10 ms.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from cpc_speech.errors import run
from cpc_speech.files import need_room
from cpc_speech.kaldi import write_float_matrices
from cpc_speech.loader import waveform
from cpc_speech.packed import PackedAudio
from cpc_speech.probe import make_representation
from cpc_speech.representations import Representation

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--representation", choices=("fbank", "mfcc", "mfcc39", "random"), required=True)
    parser.add_argument("--config", action="append", default=[], help="of the untrained network (random)")
    parser.add_argument("--to", required=True, type=Path, metavar="DIR")
    args = parser.parse_args(argv)

    audio = PackedAudio(args.data)
    representation, _ = make_representation(args.representation, Path(), args.config, "utterance")
    args.to.mkdir(parents=True, exist_ok=True)
    need_room(args.to, int((audio.num_samples // representation.hop).sum()) * representation.dim * 4)
    count = write_float_matrices(args.to / "feats.ark", args.to / "feats.scp", features(audio, representation))
    log.info("%s of %d utterances in %s", representation.name, count, args.to / "feats.scp")


def features(audio: PackedAudio, representation: Representation) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each utterance's id and frames (n // 160, D) float32, in the order of ``audio``."""
    for i, utterance in enumerate(tqdm(audio.utterances, unit="utt", desc=representation.name, dynamic_ncols=True)):
        [frames] = representation([waveform(torch.tensor(audio[i]), torch.device("cpu"))])
        yield utterance, frames.cpu().numpy()


if __name__ == "__main__":
    run(main)
