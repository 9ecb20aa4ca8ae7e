"""Figure 3: how well a CPC model tells the frame k steps ahead from others, for each step k that it was trained for.

    python -m cpc_speech.steps_ahead --data data/mini --exp exp/ablations/steps_20.seed1

The paper's text can be read in two ways, and both are measured: top-1, the share of predictions whose positive has the
highest score; and pairwise, the share of negatives whose score the positive's exceeds. A tie is a miss in both.

All models choose among the same candidates, whatever negatives they were trained with, so that they can be compared:
windows of 20,480 samples of the test split, drawn once and for all as minibatches of 8 of any speakers, and every frame
of a minibatch is a candidate, N = 1,024. (A test split with room for fewer windows has smaller minibatches.) The
context starts afresh with each window, as in pretraining. Networks and scores are computed in fp32, whatever precision
they were trained in.

Intervals are bootstraps over minibatches: they are drawn independently, whereas the windows of one share their
candidates. They are about the windows of this test split, not about other speakers.

Beside them stands what the model tells of the frame at least, in nats, on other draws of the test split
(cpc_speech/information.py). Leaves --exp/steps_ahead.json, accuracies in per cent.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cpc_speech import information
from cpc_speech.ablation_report import model_name
from cpc_speech.checkpoint import load_experiment
from cpc_speech.datadir import read_split
from cpc_speech.errors import UserError, run
from cpc_speech.files import atomic_write
from cpc_speech.loader import Minibatches, waveform
from cpc_speech.machine import set_up
from cpc_speech.model import CPC, HOP
from cpc_speech.packed import PackedAudio
from cpc_speech.processes import alone
from cpc_speech.progress import Progress
from cpc_speech.provenance import provenance
from cpc_speech.scores import Score
from cpc_speech.windows import WindowSampler, windows_that_fit

log = logging.getLogger(__name__)

WINDOW_SAMPLES, WINDOWS = 20480, 8  # the paper's, of pretraining
FRAMES = WINDOW_SAMPLES // HOP
SEED = 0  # of the windows


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--exp", required=True, type=Path, help="a pretrained model")
    parser.add_argument("--minibatches", type=int, default=32, help="number to draw (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.minibatches < 2:
        parser.error("--minibatches is 2 or more: the intervals come from differences between them")
    config, model, updates = load_experiment(args.exp)
    if config.steps >= FRAMES:
        raise UserError(f"{args.exp}: {config.steps} steps do not fit the {FRAMES} frames of a window here")
    device = alone().device
    set_up("fp32", device)
    windows = fixed_windows(args.data)
    measured = measure(model.to(device), windows, args.minibatches)
    measured |= information.measure(model, fixed_windows(args.data, 1))
    log.info("%s: top-1 %s %%", args.exp, ", ".join(f"{value:.1f}" for value in measured["top1"]))
    facts = {
        "row": model_name(config), "steps": config.steps,
        "split": "test", "windows": windows.sampler.windows, "window_samples": WINDOW_SAMPLES,
        "minibatches": args.minibatches, "window_seed": SEED, "updates": updates, "seed": config.seed,
        "config": dataclasses.asdict(config),
    }  # fmt: skip
    with atomic_write(args.exp / "steps_ahead.json") as file:
        json.dump({**facts, **measured, **provenance()}, file, indent=1)


def fixed_windows(data: Path, windows: int = WINDOWS) -> Minibatches:
    """Minibatch ``[0, j]`` for any j: the same windows of the test split for every model.

    Raises:
        UserError: test has room for less than two windows.
    """
    audio = PackedAudio(data, read_split(data, "test"))
    room = int(windows_that_fit(audio.num_samples, WINDOW_SAMPLES).sum())
    if room < 2:
        raise UserError(
            f"{data}/splits/test.list: its audio has room for {room} windows of {WINDOW_SAMPLES} samples, and other "
            "windows are needed to choose among; give more audio"
        )
    if room < windows:
        log.warning("the test split is sure to hold only %d windows: a minibatch has so many, not %d", room, windows)
    sampler = WindowSampler(
        audio.num_samples, audio.speaker_index, WINDOW_SAMPLES, min(windows, room), same_speaker=False, seed=SEED
    )
    return Minibatches(audio, sampler)


def measure(model: CPC, windows: Minibatches, number: int) -> dict[str, Any]:
    """The model's accuracies over the first ``number`` minibatches: ``top1`` and ``pairwise``, in per cent, one value a
    step; their 95 % intervals ``<name>_ci95``; ``chance`` of both; and N, ``candidates``."""
    device = next(model.parameters()).device
    candidates = windows.sampler.windows * FRAMES
    counted = torch.stack([
        count(model, waveform(windows[0, j].samples, device)).cpu()
        for j in Progress(range(number), unit="minibatch", desc="steps ahead")
    ])  # fmt: skip
    result: dict[str, Any] = {
        "candidates": candidates, "chance": {"top1": 100 / candidates, "pairwise": 50.0},
        "top1": [], "top1_ci95": [], "pairwise": [], "pairwise_ci95": [],
    }  # fmt: skip
    for k, step in enumerate(counted.unbind(1), 1):
        predictions = windows.sampler.windows * (FRAMES - k)
        totals = {"top1": predictions, "pairwise": predictions * (candidates - 1)}
        for (name, total), right in zip(totals.items(), step.unbind(1)):
            score = Score([f"minibatch {j}" for j in range(number)], right.tolist(), [total] * number)
            result[name].append(score.accuracy)
            result[f"{name}_ci95"].append(list(score.interval()))
    return result


@torch.no_grad()
def count(model: CPC, heard: Tensor) -> Tensor:
    """Of a minibatch (B, n): how many predictions rank their positive first, and how many negatives score below their
    positive, for each of K steps: (K, 2) int64."""
    z, c = model(heard)
    steps = []
    for k, predict in enumerate(model.predictors, 1):  # one step's scores at a time, B·(T−k) × B·T of them
        beaten = negatives_beaten(predict(c[:, : z.shape[1] - k]), z, k)
        steps.append(torch.stack([(beaten == z.shape[0] * z.shape[1] - 1).sum(), beaten.sum()]))
    return torch.stack(steps)


def negatives_beaten(prediction: Tensor, z: Tensor, k: int) -> Tensor:
    """How many frames of the minibatch score below the positive z_{t+k}, of all but itself: (B, T − k) int64.

    Args:
        prediction: W_k c_t of the frames t < T − k: (B, T − k, D).
        z: encoder frames (B, T, D).
    """
    B, T, _ = z.shape
    scores = prediction.flatten(0, 1) @ z.flatten(0, 1).T
    positive = torch.arange(B * T, device=z.device).view(B, T)[:, k:]
    return (scores < scores.gather(1, positive.reshape(-1, 1))).sum(1).view(B, T - k)


if __name__ == "__main__":
    run(main)
