"""Scores of every frame for every phone, by a trained probe or the supervised network: what an alignment is made from.

    python -m cpc_speech.posteriors --data data/mini --exp exp/mixed_speaker --to data/mini/posteriors
    python -m cpc_speech.posteriors --data data/mini --exp exp/baselines --representation mfcc39 --to DIR
    python -m cpc_speech.posteriors --data data/mini --exp exp/supervised_phone --to DIR

Writes the scaled log-likelihoods log p(phone | frame) − log p(phone) of every utterance of the data directory, whether
in a split or not, as a float matrix (n // 160, 41) to DIR/posteriors.{ark,scp}, and what made them to posteriors.json;
class = id of phones.txt − 1, so 0 is SIL. The classifier is the one whose accuracy stands in --exp/probes; the priors
are its training labels' shares.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from cpc_speech.checkpoint import load_latest
from cpc_speech.classifier import LinearClassifier, load_classifier
from cpc_speech.config import load_config
from cpc_speech.errors import UserError, run
from cpc_speech.features import in_order
from cpc_speech.files import atomic_write, need_room
from cpc_speech.kaldi import write_float_matrices
from cpc_speech.machine import set_up
from cpc_speech.packed import PackedAudio
from cpc_speech.processes import alone
from cpc_speech.representations import CPCFrames, Representation, make_representation
from cpc_speech.supervised import Classifier

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--exp", required=True, type=Path)
    parser.add_argument("--representation", choices=("c", "z", "mfcc", "mfcc39", "supervised"),
                        help="what the probe is of; default: supervised where --exp is that, else c")  # fmt: skip
    parser.add_argument("--to", required=True, type=Path, metavar="DIR")
    args = parser.parse_args(argv)

    name = args.representation or ("supervised" if _supervised(args.exp).exists() else "c")
    audio = PackedAudio(args.data)
    representation, classifier = load(name, args.exp)
    args.to.mkdir(parents=True, exist_ok=True)
    need_room(args.to, int((audio.num_samples // representation.hop).sum()) * len(classifier.bias) * 4)
    scores = score_utterances(audio, representation, classifier)
    count = write_float_matrices(args.to / "posteriors.ark", args.to / "posteriors.scp", scores)
    with atomic_write(args.to / "posteriors.json") as file:
        json.dump({"exp": args.exp.name, "representation": name}, file)
    log.info("%d utterances scored by %s of %s, in %s", count, name, args.exp, args.to / "posteriors.scp")


def load(name: str, exp: Path) -> tuple[Representation, LinearClassifier]:
    """The representation of this name and its phone classifier, the supervised network's two parts for ``supervised``.

    Raises:
        UserError: the experiment has no such classifier, or its network was trained on after its classifier was saved.
    """
    if name != "supervised":
        classifier = load_classifier(exp / "probes" / f"{name}.phone.linear.pt")
        return make_representation(name, exp, [], "utterance")[0], classifier
    classifier = load_classifier(_supervised(exp))
    config, state = load_config([exp / "config.yaml"]), load_latest(exp)
    if state is None:
        raise UserError(f"{exp}: holds no checkpoint; train it first (stage 5)")
    if not torch.equal(state["best"]["output.weight"], classifier.weight):
        raise UserError(f"{exp}: its checkpoints are not those of {_supervised(exp)}; let its training end (stage 5)")
    model = Classifier(config, len(classifier.bias))
    model.load_state_dict(state["best"])
    device = alone().device
    set_up("auto", device)
    return CPCFrames(name, model.cpc.to(device)), classifier


def score_utterances(
    audio: PackedAudio, representation: Representation, classifier: LinearClassifier
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each utterance's id and scaled log-likelihoods, (n // 160, classes) float32, in the order of ``audio``.

    Raises:
        UserError: an utterance whose scores are not finite.
    """
    for utterance, frames in in_order(audio, representation):
        scores = classifier.log_likelihoods(frames).numpy()
        if not np.isfinite(scores).all():
            raise UserError(f"{utterance}: {representation.name} gives scores that are not finite; check its audio")
        yield utterance, scores


def _supervised(exp: Path) -> Path:
    return exp / "probes" / "supervised.phone.end_to_end.pt"


if __name__ == "__main__":
    run(main)
