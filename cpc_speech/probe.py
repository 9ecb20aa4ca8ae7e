"""Linear probes: multinomial logistic regression per frame for phones and speakers (the paper's section 3.1).

    python -m cpc_speech.probe --data data/mini --exp exp/mixed_speaker               # on c_t
    python -m cpc_speech.probe --data data/mini --exp exp/mixed_speaker --representation z
    python -m cpc_speech.probe --data data/mini --exp exp/baselines --representation mfcc
    python -m cpc_speech.probe --data data/mini --exp exp/baselines --representation random --config conf/cpc.yaml
    python -m cpc_speech.probe --data data/mini --exp exp/mixed_speaker --label-shift -3 -2 -1 0 1 2 3
    python -m cpc_speech.probe --data data/mini --exp exp/mixed_speaker --labels exp/align/pocketsphinx/labels

The paper names no optimiser. Ours: inputs standardised on the train split, Adam with the rate falling to zero,
one probe for every rate of a fixed grid in the same passes over the data; dev chooses among them, and test is
read once, by the chosen one. Leaves --exp/probes/<representation>.<task>.linear.json and, beside it, the chosen
probe itself: .pt (cpc_speech/classifier.py).

--labels and --label-shift probe phones alone, with labels of another folder or moved by so many frames of 10 ms: by +1,
frame t is to be named what frame t - 1 is, so a causal network may hear 10 ms more of it. They leave
--exp/probes/labels/<representation>.<who made the labels>.<shift>.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from cpc_speech.checkpoint import build_model, load_experiment
from cpc_speech.classifier import save_classifier
from cpc_speech.config import load_config
from cpc_speech.errors import UserError, run
from cpc_speech.features import FeatureStore
from cpc_speech.machine import set_matmul_precision, set_up
from cpc_speech.processes import alone
from cpc_speech.provenance import provenance
from cpc_speech.representations import MFCC, CPCFrames, Representation
from cpc_speech.scores import Score, save_score
from cpc_speech.tasks import Task, labels_by, load_splits, load_task

log = logging.getLogger(__name__)

LEARNING_RATES = (1e-3, 3e-3, 1e-2, 3e-2)
PASSES = 10  # or as many as UPDATES take, on a small corpus
UPDATES = 2000
MINIBATCH = 1024  # frames


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--exp", required=True, type=Path)
    parser.add_argument("--representation", choices=("c", "z", "random", "mfcc", "mfcc39"), default="c")
    parser.add_argument("--config", action="append", default=[], help="of the untrained network (random)")
    parser.add_argument("--task", choices=("phone", "speaker"), action="append", help="both unless given")
    parser.add_argument("--probe-context", choices=("utterance", "window"), default="utterance",
                        help="carry the context through the utterance, or start afresh every window")  # fmt: skip
    parser.add_argument("--labels", type=Path, metavar="DIR", help="with phones.scp; default: the data directory's")
    parser.add_argument("--label-shift", type=int, nargs="+", metavar="FRAMES", help="one probe for each")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if about_labels := bool(args.labels or args.label_shift):
        if "speaker" in (args.task or []):
            raise UserError("--labels and --label-shift are about phones; leave out --task speaker")
        args.task = ["phone"]

    representation, facts = make_representation(args.representation, args.exp, args.config, args.probe_context)
    audio, splits = load_splits(args.data)
    tasks = [load_task(name, args.data, audio, splits, args.labels) for name in args.task or ("phone", "speaker")]
    name = args.representation + ("" if args.probe_context == "utterance" else ".window")
    store = FeatureStore.extract(args.exp / "features" / f"{name}.f16", audio, representation)
    try:
        store.standardise(splits["train"])
        set_matmul_precision("fp32")  # every row's classifier, whatever its network ran in
        for task, shift in [(task, shift) for task in tasks for shift in args.label_shift or [0]]:
            made_by = labels_by(args.labels or args.data) if task.name == "phone" else None
            moved = task.shifted(shift) if shift else task
            results = args.exp / "probes" / f"{name}.{task.name}.linear.json"
            if about_labels:
                whose = re.sub(r"[^\w-]+", "_", str(made_by))
                results = args.exp / "probes" / "labels" / f"{name}.{whose}.{shift:+d}.json"
            score, chosen, fitted = probe(store, moved, args.seed)
            log.info("%s: %.2f %% of test frames", results.stem, score.accuracy)
            if not about_labels:
                save_classifier(results.with_suffix(".pt"), chosen, task, store.mean, store.std)
            save_score(
                results,
                score,
                {
                    "row": args.representation, "task": task.name, "probe": "linear", "classes": task.classes,
                    "probe_context": args.probe_context, "majority": moved.majority(), "probe_seed": args.seed,
                    "labels": made_by, "label_shift": shift, **facts, **fitted, **provenance(),
                },
            )  # fmt: skip
    finally:
        store.path.unlink()


def make_representation(
    name: str, exp: Path, config_files: list[str], context: str
) -> tuple[Representation, dict[str, Any]]:
    """The representation of this name, and what a result says of it."""
    if name in ("mfcc", "mfcc39"):
        if context == "window":
            raise UserError("--probe-context window: MFCC carry no context; leave it out")
        return MFCC(deltas=name == "mfcc39"), {}
    if name == "random":
        if not config_files:
            raise UserError("--representation random needs --config, the network it is")
        config = load_config(config_files)
        model, updates = build_model(config), 0
    else:
        config, model, updates = load_experiment(exp)
    set_up(config.precision)
    model.to(alone().device)
    frames = CPCFrames(
        name, model, "z" if name == "z" else "c", config.window_samples if context == "window" else None,
        bf16=config.precision == "bf16",
    )  # fmt: skip
    return frames, {"updates": updates, "seed": config.seed, "config": dataclasses.asdict(config)}


def probe(store: FeatureStore, task: Task, seed: int) -> tuple[Score, nn.Linear, dict[str, Any]]:
    """Fit one probe a learning rate on train, choose by dev, score on test; the score, the probe, and why it was
    chosen."""
    device = alone().device
    probes = fit(store, task, seed, device)
    dev = [accuracy_of(probe, store, task, "dev", device).accuracy for probe in probes]
    best = int(np.argmax(dev))
    if best in (0, len(dev) - 1):
        log.info("the best of the learning rates %s is at the grid's end: dev %s", LEARNING_RATES, dev)
    score = accuracy_of(probes[best], store, task, "test", device)
    return (
        score,
        probes[best],
        {
            "learning_rates": LEARNING_RATES,
            "dev_accuracy": dev,
            "learning_rate": LEARNING_RATES[best],
            "passes": PASSES,
        },
    )


def fit(store: FeatureStore, task: Task, seed: int, device: torch.device) -> list[nn.Linear]:
    """One logistic regression for every rate of the grid, trained side by side on the same minibatches."""
    train = task.splits["train"]
    targets = [task.targets[i] for i in train]
    probes = [nn.Linear(store.dim, task.classes).to(device) for _ in LEARNING_RATES]
    for linear in probes:  # the loss is convex: start at the uniform distribution
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    groups = [{"params": list(linear.parameters()), "lr": rate} for linear, rate in zip(probes, LEARNING_RATES)]
    optimizer = torch.optim.Adam(groups, fused=True)
    frames = sum(int((target >= 0).sum()) for target in targets)
    if not frames:
        raise UserError(f"no frame of the train split has a {task.name} label; label it anew (stage 2)")
    passes = max(PASSES, math.ceil(UPDATES * MINIBATCH / frames))
    total = passes * frames
    progress = tqdm(total=total, unit="frame", unit_scale=True, desc=f"{task.name} probe", dynamic_ncols=True)
    done = 0
    with progress:
        for epoch in range(passes):
            for x, y in store.shuffled(train, targets, MINIBATCH, seed=seed + epoch):
                x, y = x.to(device), y.to(device)
                loss = torch.stack([F.cross_entropy(linear(x), y) for linear in probes]).sum()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                done += len(y)
                for group, rate in zip(optimizer.param_groups, LEARNING_RATES):
                    group["lr"] = rate * (1 - done / total)
                progress.update(len(y))
    return probes


@torch.no_grad()
def accuracy_of(
    classify: Callable[[Tensor], Tensor], store: FeatureStore, task: Task, split: str, device: torch.device
) -> Score:
    """Score a classifier of standardised frames on one split, utterance by utterance."""
    predictions = (classify(store[i].to(device)).argmax(1).cpu().numpy() for i in task.splits[split])
    return count_correct(predictions, store.utterances, task, split)


def count_correct(predictions: Any, utterances: Sequence[str], task: Task, split: str) -> Score:
    """Compare predicted classes, an array an utterance of the split, with its targets."""
    score = Score([], [], [])
    for i, predicted in zip(task.splits[split], predictions):
        target = task.targets[i]
        score.utterances.append(utterances[i])
        score.correct.append(int((predicted == target)[target >= 0].sum()))
        score.frames.append(int((target >= 0).sum()))
    return score


if __name__ == "__main__":
    run(main)
