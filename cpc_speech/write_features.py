"""Baselines' features of a whole data directory as a Kaldi archive: MFCC, filterbank, or an untrained network's frames.
A trained model's are written by ``cpc_speech.extract``.

    python -m cpc_speech.write_features --data data/mini --representation fbank --to data/mini_fbank
    python -m cpc_speech.write_features --data data/mini --representation random --config conf/cpc.yaml --to DIR

Writes feats.{ark,scp}: a float matrix (n // 160, D) for every utterance, one row each 10 ms.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from cpc_speech.errors import run
from cpc_speech.features import in_order
from cpc_speech.files import need_room
from cpc_speech.kaldi import write_float_matrices
from cpc_speech.packed import PackedAudio
from cpc_speech.representations import make_representation

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
    matrices = ((utterance, frames.cpu().numpy()) for utterance, frames in in_order(audio, representation))
    count = write_float_matrices(args.to / "feats.ark", args.to / "feats.scp", matrices)
    log.info("%s of %d utterances in %s", representation.name, count, args.to / "feats.scp")


if __name__ == "__main__":
    run(main)
