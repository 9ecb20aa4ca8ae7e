r"""Compare the linear probe with scikit-learn's logistic regression, fitted to the same frames.

    python local/check_probe.py --data data/mini --exp exp/mixed_speaker --utterances 500
    python local/check_probe.py --data data/mini --exp exp/baselines --representation mfcc --task speaker

Takes that many utterances of each split, or as many as there are, evenly spread. Both minimise the same convex loss,
scikit-learn with a penalty too small to matter, and until the loss falls no more; so the accuracies on test should
agree within half a point, unless there are too few frames for the number of weights. Prints one line, and leaves
--exp/probes/check/<representation>.<task>.json, which the report tells of.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from cpc_speech.errors import require, run
from cpc_speech.features import FeatureStore
from cpc_speech.files import atomic_write
from cpc_speech.machine import set_up
from cpc_speech.packed import PackedAudio
from cpc_speech.probe import probe
from cpc_speech.processes import alone
from cpc_speech.provenance import provenance
from cpc_speech.representations import REPRESENTATIONS, make_representation
from cpc_speech.tasks import load_splits, load_task

PENALTY = 1e6  # the inverse of its weight
ITERATIONS = 1000


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--exp", required=True, type=Path)
    parser.add_argument("--representation", choices=REPRESENTATIONS, default="c")
    parser.add_argument("--config", action="append", default=[], help="of the untrained network (random)")
    parser.add_argument("--task", choices=("phone", "speaker"), default="phone")
    parser.add_argument("--utterances", type=int, default=200, metavar="N", help="of each split")
    args = parser.parse_args(argv)
    linear_model = require("sklearn.linear_model", "analysis")

    whole, splits = load_splits(args.data)
    ids = {name: [whole.utterances[i] for i in spread(split, args.utterances)] for name, split in splits.items()}
    audio = PackedAudio(args.data, sorted(sum(ids.values(), [])))
    place = {utterance: i for i, utterance in enumerate(audio.utterances)}
    task = load_task(args.task, args.data, audio, {name: [place[i] for i in chosen] for name, chosen in ids.items()})
    representation, network = make_representation(args.representation, args.exp, args.config, "utterance")
    set_up("fp32", alone().device)
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore.extract(Path(folder), audio, representation)
    store.standardise(task.splits["train"])

    ours, _, _ = probe(store, task, seed=0)
    x, y = frames(store, task.targets, task.splits["train"])
    reference = linear_model.LogisticRegression(C=PENALTY, max_iter=ITERATIONS).fit(x, y)
    theirs = 100 * reference.score(*frames(store, task.targets, task.splits["test"]))
    print(
        f"{representation.name}, {task.name}, {len(y):,} frames of {len(task.splits['train'])} utterances: "
        f"probe {ours.accuracy:.2f} %, scikit-learn {theirs:.2f} % of {sum(ours.frames):,} frames of test, "
        f"{ours.accuracy - theirs:+.2f} points; {reference.n_iter_.max()} iterations"
    )
    facts = {
        "row": args.representation, "task": args.task, "probe": "linear", "probe_context": "utterance",
        "train_utterances": len(task.splits["train"]), "train_frames": len(y), "test_frames": sum(ours.frames),
        "accuracy": ours.accuracy, "scikit_learn": theirs, **network, **provenance(),
    }  # fmt: skip
    with atomic_write(args.exp / "probes" / "check" / f"{args.representation}.{args.task}.json") as file:
        json.dump(facts, file, indent=1)


def spread(items: list[int], count: int) -> list[int]:
    """At most ``count`` of them, evenly spaced."""
    return items[:: max(1, -(-len(items) // count))]


def frames(store: FeatureStore, targets: list[np.ndarray], utterances: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The labelled frames of these utterances and their classes: (N, D), (N,)."""
    y = np.concatenate([targets[i] for i in utterances])
    return np.concatenate([store[i].numpy() for i in utterances])[y >= 0], y[y >= 0]


if __name__ == "__main__":
    run(main)
