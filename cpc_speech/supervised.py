r"""The supervised baseline: encoder, context and a linear classifier trained end to end, one network a task.

    python -m cpc_speech.supervised --config conf/cpc.yaml --data data/mini --exp exp/supervised_phone --task phone
    python -m cpc_speech.supervised --config conf/cpc.yaml --data data/mini --exp exp/finetuned_phone --task phone \
      --init-from exp/mixed_speaker

Same architecture and windows as CPC (the paper's Table 1), drawn over all speakers of the train split. Every
``--dev-every`` updates it is scored on dev's utterances as wholes; training stops when ``--patience`` scores in a row
are no improvement, and the best network reads test once. --init-from begins with a pretrained model, whose encoder and
context are trained on: fine-tuning. Leaves --exp/probes/<supervised or finetuned>.<task>.end_to_end.json and, beside
it, the network's linear layer: .pt (cpc_speech/classifier.py); a run that was stopped goes on at its last evaluation on
dev. Its network.json says from the beginning what it will be.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpc_speech import checkpoint
from cpc_speech.classifier import save_classifier
from cpc_speech.config import ARCHITECTURE, Config, load_config
from cpc_speech.errors import UserError, run
from cpc_speech.features import represented
from cpc_speech.files import atomic_write
from cpc_speech.loader import waveform
from cpc_speech.machine import autocast, set_up
from cpc_speech.model import HOP
from cpc_speech.optimise import NotFiniteError, adam, learning_rate, update_weights
from cpc_speech.packed import PackedAudio
from cpc_speech.probe import Answer, answer, count_correct, score_test
from cpc_speech.processes import alone
from cpc_speech.progress import Progress
from cpc_speech.provenance import provenance
from cpc_speech.representations import CPCFrames
from cpc_speech.scores import Score, save_score
from cpc_speech.signals import stop_signals
from cpc_speech.tasks import Task, labels_by, load_splits, load_task
from cpc_speech.windows import Window, WindowSampler, load_windows

log = logging.getLogger(__name__)


class Classifier(nn.Module):
    """CPC's encoder and context with a linear layer on c_t."""

    def __init__(self, config: Config, classes: int) -> None:
        super().__init__()
        self.cpc = checkpoint.build_model(config).truncated(config.context_layers)  # nothing is predicted here
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.output = nn.Linear(config.context_dim, classes)

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform (B, n) → logits (B, n // 160, classes)."""
        return self.output(self.cpc(waveform)[1]).float()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", action="append", required=True, help="the network's and the windows' configuration")
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--exp", required=True, type=Path)
    parser.add_argument("--task", choices=("phone", "speaker"), required=True)
    parser.add_argument("--init-from", type=Path, metavar="EXP", help="begin with this pretrained model")
    parser.add_argument("--dev-every", type=int, default=250, help="updates between two evaluations on dev")
    parser.add_argument("--patience", type=int, default=4, help="evaluations without improvement before the end")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a key of the configuration")
    args = parser.parse_args(argv)

    config = load_config(args.config, [*args.overrides, "batch_composition=mixed_speaker"])
    audio, splits = load_splits(args.data)
    task = load_task(args.task, args.data, audio, splits)
    row = row_of(args.init_from)
    score, facts = train(config, args.exp, audio, task, args.dev_every, args.patience, args.init_from)
    log.info("%s, %s: %.2f %% of test frames", row, task.name, score.accuracy)
    save_score(
        args.exp / "probes" / f"{row}.{task.name}.end_to_end.json",
        score,
        {
            "row": row, "task": task.name, "probe": "end_to_end", "classes": task.classes,
            "probe_context": "utterance", "majority": task.majority(), "seed": config.seed,
            "labels": labels_by(args.data) if task.name == "phone" else None,
            **facts, **provenance(),
        },
    )  # fmt: skip


def row_of(init_from: Path | None) -> str:
    """What results call a network that began with this model, or with none."""
    return "finetuned" if init_from else "supervised"


def train(
    config: Config,
    exp: Path,
    audio: PackedAudio,
    task: Task,
    dev_every: int,
    patience: int,
    init_from: Path | None = None,
) -> tuple[Score, dict]:
    """Train to the best accuracy on dev; the test score of that network, and facts about its training."""
    started = time.monotonic()
    processes = alone()
    config = checkpoint.settle_config(exp, config, processes.device)
    set_up(config.precision, processes.device)
    train_split = task.splits["train"]
    sampler = WindowSampler(
        audio.num_samples[train_split], audio.speaker_index[train_split],
        config.window_samples, config.windows, False, config.seed,
    )  # fmt: skip
    model = Classifier(config, task.classes).to(processes.device)
    pretrained = load_pretrained(model, config, init_from) if init_from else None
    with atomic_write(exp / "network.json") as file:  # so that reports can mark it as under way
        json.dump({"row": row_of(init_from), "task": task.name, "pretrained": pretrained}, file)
    optimizer = adam(model, config)
    dev: list[float] = []
    best = copy.deepcopy(model.state_dict())
    if (state := checkpoint.load_latest(exp)) is not None:
        if (state["task"], state["dev_every"], state.get("pretrained")) != (task.name, dev_every, pretrained):
            before = (state.get("pretrained") or {}).get("experiment", "random weights")
            raise UserError(
                f"{exp} was begun with --task {state['task']} --dev-every {state['dev_every']}, from {before}; "
                "take another --exp or remove it"
            )
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        dev, best = state["dev"], state["best"]
        started -= state.get("seconds", 0.0)
    update = state["update"] if state else 0

    progress = Progress(total=config.updates, initial=update, unit="update", desc=f"supervised {task.name}")
    with progress, stop_signals() as stopped:
        while update < config.updates and len(dev) - 1 - int(np.argmax(dev or [0])) < patience:
            drawn = [sampler.minibatch(update, j) for j in range(config.minibatches)]
            losses = (_loss(model, config, audio, task, windows) for windows in drawn)
            try:
                norm, _ = update_weights(
                    optimizer, learning_rate(config, update), losses, config.minibatches, processes
                )
            except NotFiniteError:
                names = ", ".join(audio.utterances[train_split[w.utterance]] for windows in drawn for w in windows)
                raise UserError(
                    f"{exp}: the gradient of update {update + 1} is not finite; no weight was changed by it. "
                    f"Look at the audio and labels of {names}"
                ) from None
            update += 1
            progress.update()
            if update % dev_every == 0 or update == config.updates:
                answers = evaluate(model, config, audio, task, "dev")
                dev.append(count_correct(answers, audio.utterances, task, "dev").accuracy)
                if int(np.argmax(dev)) == len(dev) - 1:  # a tie is no improvement
                    best = copy.deepcopy(model.state_dict())
                progress.set_postfix_str(f"gradient norm {norm:.3f}, dev {dev[-1]:.1f} %, best {max(dev):.1f} %")
                state = {
                    "model": model.state_dict(), "optimizer": optimizer.state_dict(), "update": update, "dev": dev,
                    "best": best, "task": task.name, "dev_every": dev_every, "pretrained": pretrained,
                    "seconds": time.monotonic() - started,
                }  # fmt: skip
                checkpoint.save(exp, state, config.keep_checkpoints)
            if stopped:
                raise KeyboardInterrupt
    model.load_state_dict(best)
    save_classifier(exp / "probes" / f"{row_of(init_from)}.{task.name}.end_to_end.pt", model.output, task)
    chosen = min((int(np.argmax(dev)) + 1) * dev_every, config.updates)
    score, details = score_test(evaluate(model, config, audio, task, "test"), audio.utterances, task)
    seconds = time.monotonic() - started
    facts = {"updates": chosen, "dev_accuracy": dev, "pretrained": pretrained, "seconds": seconds}
    return score, {**facts, "config": dataclasses.asdict(config), **details}


def load_pretrained(model: Classifier, config: Config, exp: Path) -> dict[str, Any]:
    """Give the network a pretrained model's encoder and context; returns facts about that model.

    Raises:
        UserError: it is of another size.
    """
    theirs, cpc, updates = checkpoint.load_experiment(exp)
    for key in ARCHITECTURE:
        if key != "steps" and getattr(theirs, key) != getattr(config, key):
            raise UserError(
                f"{exp}: its {key} is {getattr(theirs, key)}, the configuration says {getattr(config, key)}; "
                "take the configuration that it was pretrained with"
            )
    model.cpc.load_state_dict(cpc.truncated(config.context_layers).state_dict())
    return {"experiment": exp.name, "updates": updates, "config": dataclasses.asdict(theirs)}


def _loss(model: Classifier, config: Config, audio: PackedAudio, task: Task, windows: list[Window]) -> Tensor:
    """Mean cross-entropy of the labelled frames of these windows, each moved back to the beginning of a frame."""
    device = model.output.weight.device
    aligned = [Window(task.splits["train"][w.utterance], w.start // HOP * HOP) for w in windows]
    first = [w.start // HOP for w in aligned]
    target = np.stack([task.targets[w.utterance][t : t + config.frames] for w, t in zip(aligned, first)])
    samples = torch.from_numpy(load_windows(audio, aligned, config.window_samples))
    classes = torch.from_numpy(target).to(device).flatten()  # before the network: a GPU ends all its work for a copy
    with autocast(config.precision, device):
        logits = model(waveform(samples, device))
    return F.cross_entropy(logits.flatten(0, 1), classes, ignore_index=-1)


@torch.no_grad()
def evaluate(model: Classifier, config: Config, audio: PackedAudio, task: Task, split: str) -> list[Answer]:
    """What the network says of every utterance of one split, heard whole, with the context carried through."""
    context = CPCFrames("supervised", model.cpc, precision=config.precision)
    rows = task.splits[split]
    contexts = represented([audio[i] for i in rows], audio.num_samples[rows], context)
    answers = {place: answer(model.output(c)) for place, c in contexts}
    model.train()
    return [answers[place] for place in range(len(rows))]


if __name__ == "__main__":
    run(main)
