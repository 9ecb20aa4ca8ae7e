"""Probes: phones and speakers from single frames, by multinomial logistic regression (the paper's section 3.1), or with
one hidden layer.

    python -m cpc_speech.probe --data data/mini --exp exp/mixed_speaker               # on c_t
    python -m cpc_speech.probe --data data/mini --exp exp/mixed_speaker --representation z
    python -m cpc_speech.probe --data data/mini --exp exp/baselines --representation mfcc
    python -m cpc_speech.probe --data data/mini --exp exp/baselines --representation random --config conf/cpc.yaml
    python -m cpc_speech.probe --data data/mini --exp exp/mixed_speaker --probe linear mlp --seed 1 2 3
    python -m cpc_speech.probe --data data/mini --exp exp/mixed_speaker --label-shift -3 -2 -1 0 1 2 3
    python -m cpc_speech.probe --data data/mini --exp exp/mixed_speaker --labels exp/align/pocketsphinx/labels

The paper names no optimiser and no width. Ours: inputs standardised on the train split, a hidden layer (--probe mlp) of
256 as wide as c_t with ReLU, Adam with the rate falling to zero, one probe for every rate of a fixed grid in the same
passes over the data; dev chooses among them, and test is read once, by the chosen one. With several --seed, all of that
is done with each, and the result holds sums over them: see ``probe_seeds``.

Leaves --exp/probes/<representation>.<task>.<linear or mlp>.json and, beside a linear one, the chosen probe itself: .pt
of the first seed (cpc_speech/classifier.py). A speaker's result also says which utterances are right by the mean of the
classifier's outputs over their frames (for a linear one the same as classifying the mean frame); a phone's has the
confusion matrix.

--labels and --label-shift probe phones alone, with labels of another folder or moved by so many frames of 10 ms: with
+1, frame t has the label of frame t - 1, so that a causal network has heard 10 ms more when it names it. They leave
--exp/probes/labels/<representation>.<who made the labels>.<shift>.json.

Each result is written as soon as it is there, and says of which inputs it is. The same command again, after a kill say,
leaves those alone that the same code has made of the same network, audio, labels and splits (--force: fits them, too).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
import re
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpc_speech.checkpoint import digest_of
from cpc_speech.classifier import save_classifier
from cpc_speech.errors import UserError, run
from cpc_speech.features import FeatureStore
from cpc_speech.machine import set_up
from cpc_speech.packed import PackedAudio
from cpc_speech.processes import alone
from cpc_speech.progress import Progress
from cpc_speech.provenance import provenance
from cpc_speech.representations import REPRESENTATIONS, CPCFrames, Representation, make_representation
from cpc_speech.scores import Score, pooled, save_score
from cpc_speech.tasks import Task, labels_by, load_splits, load_task

log = logging.getLogger(__name__)

KINDS = ("linear", "mlp")
LEARNING_RATES = (1e-3, 3e-3, 1e-2, 3e-2)
HIDDEN = 256
PASSES = 10  # or as many as UPDATES take, on a small corpus
UPDATES = 2000
MINIBATCH = 1024  # frames


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--exp", required=True, type=Path)
    parser.add_argument("--representation", choices=REPRESENTATIONS, default="c")
    parser.add_argument("--config", action="append", default=[], help="of the untrained network (random)")
    parser.add_argument("--task", choices=("phone", "speaker"), action="append", help="both unless given")
    parser.add_argument("--probe", choices=KINDS, nargs="+", default=["linear"], help="mlp: one hidden layer")
    parser.add_argument("--probe-context", choices=("utterance", "window"), default="utterance",
                        help="carry the context through the utterance, or start afresh every window")  # fmt: skip
    parser.add_argument("--labels", type=Path, metavar="DIR", help="with phones.scp; default: the data directory's")
    parser.add_argument("--label-shift", type=int, nargs="+", metavar="FRAMES", help="one probe for each")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="of the probes; several are averaged")
    parser.add_argument("--passes", type=int, metavar="N",
                        help=f"over train; default: {PASSES}, or as many as make {UPDATES} updates")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="fit again what has been fitted to the same already")
    args = parser.parse_args(argv)
    if args.passes is not None and args.passes < 1:
        parser.error("--passes is 1 or more")
    if about_labels := bool(args.labels or args.label_shift):
        if "speaker" in (args.task or []):
            raise UserError("--labels and --label-shift are about phones; leave out --task speaker")
        if args.probe != ["linear"]:
            raise UserError("--labels and --label-shift are probed linearly; leave out --probe")
        args.task = ["phone"]

    representation, facts = make_representation(args.representation, args.exp, args.config, args.probe_context)
    audio, splits = load_splits(args.data)
    tasks = [load_task(name, args.data, audio, splits, args.labels) for name in args.task or ("phone", "speaker")]
    name = args.representation + ("" if args.probe_context == "utterance" else ".window")
    seeds = list(dict.fromkeys(args.seed))
    todo = []
    for task in tasks:
        made_by = labels_by(args.labels or args.data) if task.name == "phone" else None
        inputs = digest_of_inputs(representation, audio, task, name, facts, made_by, seeds, args.passes)
        for shift, kind in product(args.label_shift or [0], args.probe):
            results = args.exp / "probes" / f"{name}.{task.name}.{kind}.json"
            if about_labels:
                whose = re.sub(r"[^\w-]+", "_", str(made_by))
                results = args.exp / "probes" / "labels" / f"{name}.{whose}.{shift:+d}.json"
            if args.force or not made_of(inputs, results):
                todo.append((task, shift, kind, made_by, results, inputs))
            else:
                log.info("%s: probed already", results.stem)
    if not todo:
        return
    store = FeatureStore.extract(args.exp, audio, representation)
    store.standardise(splits["train"])
    set_up("fp32", alone().device)  # every row's classifier, whatever its network ran in
    for task, shift, kind, made_by, results, inputs in todo:
        moved = task.shifted(shift) if shift else task
        score, chosen, fitted = probe_seeds(store, moved, seeds, kind, args.passes)
        log.info("%s: %.2f %% of test frames", results.stem, score.accuracy)
        if isinstance(chosen, nn.Linear) and not about_labels:
            save_classifier(results.with_suffix(".pt"), chosen, task, store.mean, store.std)
        save_score(
            results,
            score,
            {
                "row": args.representation, "task": task.name, "probe": kind, "classes": task.classes,
                "probe_context": args.probe_context, "majority": moved.majority(), "labels": made_by,
                "label_shift": shift, "inputs": inputs, **facts, **fitted, **provenance(),
            },
        )  # fmt: skip


def digest_of_inputs(representation: Representation, audio: PackedAudio, task: Task, *said: Any) -> str:
    """SHA-256 of all that a result follows from but the kind of probe and the shift of labels, which its path says: the
    network, the audio, the targets, what else is ``said``, and the code of this library."""
    network = digest_of(representation.model) if isinstance(representation, CPCFrames) else None
    packed = (audio.data_dir / "audio.scp").stat().st_mtime_ns  # written anew by every packing; all audio is too long
    whole = [network, packed, list(audio.utterances), task.name, task.classes, task.splits, torch.__version__, *said]
    digest = hashlib.sha256(repr(whole).encode())
    for target in task.targets:
        digest.update(target.tobytes())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def made_of(inputs: str, results: Path) -> bool:
    """Whether the result is there, and is of these inputs."""
    return results.exists() and json.loads(results.read_text(encoding="utf-8")).get("inputs") == inputs


def probe_seeds(
    store: FeatureStore, task: Task, seeds: Sequence[int], kind: str = "linear", passes: int | None = None
) -> tuple[Score, nn.Module, dict[str, Any]]:
    """``probe`` with each of the seeds.

    Returns:
        The seeds' scores pooled; the first seed's classifier; and facts about all. Of these, ``utterances_right`` and
        ``confusion`` are sums over the seeds, as the pooled score is; ``..._by_seed`` have an item a seed.
    """
    scores, classifiers, facts = zip(*(probe(store, task, seed, kind, passes) for seed in seeds))
    said = {key: facts[0][key] for key in ("learning_rates", "passes", "hidden") if key in facts[0]}
    said |= {"probe_seeds": list(seeds), "accuracy_by_seed": [score.accuracy for score in scores]}
    said |= {f"{key}_by_seed": [one[key] for one in facts] for key in ("learning_rate", "dev_accuracy")}
    for key in ("utterances_right", "confusion"):
        if key in facts[0]:
            said[key] = np.sum([one[key] for one in facts], axis=0).tolist()
    return pooled(scores), classifiers[0], said


def probe(
    store: FeatureStore, task: Task, seed: int, kind: str = "linear", passes: int | None = None
) -> tuple[Score, nn.Module, dict[str, Any]]:
    """Fit one probe for each learning rate on train, choose by dev, score on test; the score, the probe, and why it was
    chosen."""
    device = alone().device
    passes = passes or passes_over(labelled_frames(task))
    probes = fit(store, task, seed, device, kind, passes)
    dev = [
        count_correct(answers_of(probe, store, task, "dev", device), store.utterances, task, "dev").accuracy
        for probe in probes
    ]
    best = int(np.argmax(dev))
    if best in (0, len(dev) - 1):
        accuracies = ", ".join(f"{value:.1f}" for value in dev)
        log.info("the best learning rate is at an end of the grid %s: %s %% on dev", LEARNING_RATES, accuracies)
    facts = {"learning_rates": LEARNING_RATES, "learning_rate": LEARNING_RATES[best]}
    facts |= {"dev_accuracy": dev, "passes": passes}
    if kind == "mlp":
        facts["hidden"] = HIDDEN
    score, details = score_test(answers_of(probes[best], store, task, "test", device), store.utterances, task)
    return score, probes[best], facts | details


def labelled_frames(task: Task) -> int:
    """Of the train split."""
    return sum(int((task.targets[i] >= 0).sum()) for i in task.splits["train"])


def passes_over(frames: int) -> int:
    """How often a probe hears so many frames."""
    return max(PASSES, math.ceil(UPDATES * MINIBATCH / frames))


def make_classifier(kind: str, dim: int, classes: int, seed: int) -> nn.Module:
    """Frames (T, dim) → logits (T, classes)."""
    last = nn.Linear(dim if kind == "linear" else HIDDEN, classes)
    for parameter in last.parameters():  # it starts at the uniform distribution
        nn.init.zeros_(parameter)
    if kind == "linear":
        return last
    first = nn.Linear(dim, HIDDEN)
    nn.init.kaiming_normal_(first.weight, nonlinearity="relu", generator=torch.Generator().manual_seed(seed))
    nn.init.zeros_(first.bias)
    return nn.Sequential(first, nn.ReLU(), last)


def fit(
    store: FeatureStore, task: Task, seed: int, device: torch.device, kind: str = "linear", passes: int | None = None
) -> list[nn.Module]:
    """One classifier for every rate of the grid, trained side by side on the same minibatches."""
    train = task.splits["train"]
    targets = [task.targets[i] for i in train]
    probes = [make_classifier(kind, store.dim, task.classes, seed).to(device) for _ in LEARNING_RATES]
    groups = [{"params": list(probe.parameters()), "lr": rate} for probe, rate in zip(probes, LEARNING_RATES)]
    optimizer = torch.optim.Adam(groups, fused=True)
    frames = labelled_frames(task)
    if not frames:
        raise UserError(f"no frame of the train split has a {task.name} label; label it anew (stage 2)")
    passes = passes or passes_over(frames)
    total = passes * frames
    progress = Progress(total=total, unit="frame", unit_scale=True, desc=f"{task.name} probe")
    done = 0
    with progress:
        for epoch in range(passes):
            for x, y in store.shuffled(train, targets, MINIBATCH, seed=seed + epoch):
                x, y = x.to(device), y.to(device)
                loss = torch.stack([F.cross_entropy(probe(x), y) for probe in probes]).sum()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                done += len(y)
                for group, rate in zip(optimizer.param_groups, LEARNING_RATES):
                    group["lr"] = rate * (1 - done / total)
                progress.update(len(y))
    return probes


class Answer(NamedTuple):
    """What a classifier says of an utterance."""

    classes: np.ndarray  # (T,) int64, of its frames
    whole: int  # the class with the greatest mean over time; -1 of an utterance without a frame


def answer(logits: Tensor) -> Answer:
    """Of logits (T, classes)."""
    return Answer(logits.argmax(1).cpu().numpy(), int(logits.mean(0).argmax()) if len(logits) else -1)


@torch.no_grad()
def answers_of(
    classify: Callable[[Tensor], Tensor], store: FeatureStore, task: Task, split: str, device: torch.device
) -> list[Answer]:
    """A classifier of standardised frames on every utterance of a split."""
    return [answer(classify(store[i].to(device)).float()) for i in task.splits[split]]


def count_correct(answers: Sequence[Answer], utterances: Sequence[str], task: Task, split: str) -> Score:
    """Compare frames with their targets."""
    score = Score([], [], [])
    for i, (classes, _) in zip(task.splits[split], answers):
        target = task.targets[i]
        score.utterances.append(utterances[i])
        score.correct.append(int((classes == target)[target >= 0].sum()))
        score.frames.append(int((target >= 0).sum()))
    return score


def score_test(answers: Sequence[Answer], utterances: Sequence[str], task: Task) -> tuple[Score, dict[str, Any]]:
    """Score what a classifier says of the test split.

    Returns:
        The score of frames; and, for speakers, ``utterances_right``: 1 for each utterance that is right as a whole,
        else 0; for phones, ``confusion``: frames, by the labels' classes (rows) and the classifier's (columns).
    """
    score = count_correct(answers, utterances, task, "test")
    targets = [task.targets[i] for i in task.splits["test"]]
    if task.name == "speaker":  # all frames of an utterance have one class
        right = [int(len(target) > 0 and said.whole == target[0]) for target, said in zip(targets, answers)]
        return score, {"utterances_right": right}
    confusion = np.zeros((task.classes, task.classes), np.int64)
    for target, said in zip(targets, answers):
        np.add.at(confusion, (target[target >= 0], said.classes[target >= 0]), 1)
    return score, {"confusion": confusion.tolist()}


if __name__ == "__main__":
    run(main)
