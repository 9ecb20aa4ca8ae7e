"""Pretrain CPC on a data directory.

    python -m cpc_speech.train --config conf/cpc.yaml --data data/mini --exp exp/cpc
    python -m cpc_speech.train --config conf/cpc.yaml --config conf/same_speaker.yaml \
        --data data/mini --exp exp/same_speaker updates=20000

The same command resumes a run that was stopped, at the last checkpoint; ctrl-C and SIGTERM leave one.
Leaves in --exp: config.yaml, checkpoints/, metrics.jsonl, TensorBoard events and, when done, train.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cpc_speech import checkpoint
from cpc_speech.config import Config, load_config
from cpc_speech.datadir import read_list
from cpc_speech.errors import UserError, run
from cpc_speech.files import atomic_write
from cpc_speech.infonce import InfoNCE, info_nce
from cpc_speech.metrics import Metrics
from cpc_speech.model import CPC, HOP
from cpc_speech.packed import PackedAudio
from cpc_speech.provenance import provenance
from cpc_speech.windows import Window, WindowSampler, dev_seed, load

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", action="append", default=[], help="YAML; later ones override earlier ones")
    parser.add_argument("--data", required=True, type=Path, help="data directory with packed audio and splits")
    parser.add_argument("--exp", required=True, type=Path, help="where the experiment is kept")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a key of the configuration")
    args = parser.parse_args(argv)
    train(load_config(args.config, args.overrides), args.data, args.exp)


def train(config: Config, data: Path, exp: Path) -> None:
    """Run or resume the pretraining in ``exp`` up to ``config.updates``; see the module's docstring."""
    audio, sampler = _training_windows(config, data)
    checkpoint.settle_config(exp, config)
    if (exp / "train.json").exists():
        log.info("%s is trained already", exp)
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    set_matmul_precision(config.precision)

    model = checkpoint.build_model(config).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    update, seconds_before = 0, 0.0
    if (state := checkpoint.load_latest(exp)) is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        update, seconds_before = state["update"], state["seconds"]
        log.info("resuming %s after %d updates", exp, update)
    dev, dev_result = DevLoss(config, data, device), None
    metrics = Metrics(exp, update)
    chance = math.log(config.num_candidates)
    log.info(
        "%s: %d updates of %d × %d windows, %.1f s of audio each; N = %d, chance loss %.3f; %d utterances, %.2f h",
        exp, config.updates, config.accumulate, config.windows, _audio_seconds(config, 1), config.num_candidates,
        chance, len(audio), audio.num_samples.sum() / 16000 / 3600,
    )  # fmt: skip

    started, first = time.monotonic(), update

    def seconds() -> float:
        return seconds_before + time.monotonic() - started

    progress = tqdm(total=config.updates, initial=update, unit="update", desc=exp.name, dynamic_ncols=True)
    with progress, stop_signals() as stopped:
        while update < config.updates:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, update)
            results = []
            for j in range(config.accumulate):
                windows = sampler.minibatch(update, j)
                waveform = torch.from_numpy(load(audio, windows, config.window_samples)).to(device)
                result = cpc_loss(model, waveform, config, config.seed, update, j)
                loss = result.loss.mean()
                if not torch.isfinite(loss):
                    raise UserError(_not_finite(exp, update + 1, loss, audio, windows))
                (loss / config.accumulate).backward()
                results.append(result)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            update += 1
            progress.update()

            last = update == config.updates
            if update % config.log_every == 0 or last:
                result = mean(results)
                speed = _audio_seconds(config, update - first) / (time.monotonic() - started)
                metrics.write("train", update, result, learning_rate=learning_rate(config, update - 1), speed=speed)
                progress.set_postfix_str(
                    f"loss {result.loss.mean():.3f} (chance {chance:.2f}), picked {result.accuracy[0]:.0%} at step 1, "
                    f"{result.accuracy[-1]:.0%} at {config.steps} (chance {1 / config.num_candidates:.1%}), "
                    f"{speed:.0f}× real time"
                )
            if update % config.dev_every == 0 or last:
                dev_result = dev.evaluate(model)
                if dev_result is not None:
                    metrics.write("dev", update, dev_result)
            if update % config.checkpoint_every == 0 or last or stopped:
                metrics.flush()
                weights = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                state = {**weights, "update": update, "seconds": seconds()}
                checkpoint.save(exp, state, config.keep_checkpoints)
            if stopped and not last:
                raise KeyboardInterrupt
    metrics.close()
    if dev_result is None:  # resumed behind the last update
        dev_result = dev.evaluate(model)
    _summarise(config, exp, audio, sampler, dev_result, seconds())


def cpc_loss(model: CPC, waveform: Tensor, config: Config, *draw: int) -> InfoNCE:
    """InfoNCE of one minibatch (B, window_samples); ``draw`` seeds the negatives where they are sampled."""
    generator = None
    if config.negatives != "all":
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence(draw).generate_state(1)[0]))
    with torch.autocast(waveform.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        z, c = model(waveform)
        c = c.float()  # the GRU of CUDA's autocast returns half precision, and autocast is off where W_k is applied
        predictions = (predict(c[:, : config.frames - k]) for k, predict in enumerate(model.predictors, 1))
        with torch.autocast(waveform.device.type, enabled=False):
            return info_nce(predictions, z, config.candidates, config.negatives, generator)


def set_matmul_precision(precision: str) -> None:
    """With bf16, let fp32 products, the scores', round their factors too; their sums stay fp32."""
    fast = precision == "bf16"
    torch.backends.mkldnn.matmul.fp32_precision = "bf16" if fast else "ieee"  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = "tf32" if fast else "ieee"


def learning_rate(config: Config, update: int) -> float:
    """Linear warm-up, then a half cosine from ``learning_rate`` to ``final_learning_rate`` at the last update."""
    if update < config.warmup_updates:
        return config.learning_rate * (update + 1) / config.warmup_updates
    done = (update - config.warmup_updates) / max(1, config.updates - config.warmup_updates)
    remaining = (1 + math.cos(math.pi * done)) / 2
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * remaining


class DevLoss:
    """The loss on fixed windows of the dev split, drawn as the training draws its own."""

    def __init__(self, config: Config, data: Path, device: torch.device) -> None:
        self.config, self.device = config, device
        self.minibatches: list[Tensor] = []
        try:
            audio = PackedAudio(data, read_list(data / "splits" / "dev.list"))
            sampler = _sampler(config, audio, dev_seed(config.seed))
            for j in range(config.dev_minibatches):
                waveform = load(audio, sampler.minibatch(0, j), config.window_samples)
                self.minibatches.append(torch.from_numpy(waveform))
        except UserError as error:  # a small corpus can be trained on all the same
            log.warning("no dev loss: %s", error)
            self.minibatches = []

    @torch.no_grad()
    def evaluate(self, model: CPC) -> InfoNCE | None:
        """Mean over the dev minibatches, or None where dev is too small for one."""
        if not self.minibatches:
            return None
        draws = enumerate(self.minibatches)
        return mean([cpc_loss(model, x.to(self.device), self.config, dev_seed(self.config.seed), j) for j, x in draws])


def mean(results: list[InfoNCE]) -> InfoNCE:
    """Average of the results of several minibatches, detached."""
    return InfoNCE(*(torch.stack([field.detach() for field in fields]).mean(0).cpu() for fields in zip(*results)))


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Note SIGINT and SIGTERM in the yielded list, so that the loop can stop between two updates."""
    received: list[int] = []
    previous = {s: signal.signal(s, lambda number, _: received.append(number)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _sampler(config: Config, audio: PackedAudio, seed: int) -> WindowSampler:
    same_speaker = config.batch_composition == "same_speaker"
    return WindowSampler(audio.num_samples, audio.speakers, config.window_samples, config.windows, same_speaker, seed)


def _training_windows(config: Config, data: Path) -> tuple[PackedAudio, WindowSampler]:
    audio = PackedAudio(data, None if config.pretrain_on == "all" else read_list(data / "splits" / "train.list"))
    sampler = _sampler(config, audio, config.seed)
    if sampler.too_short:
        log.info("%d utterances are shorter than a window and left out of pretraining", sampler.too_short)
    if sampler.left_out:
        log.info("speakers with less audio than a minibatch, left out: %s", " ".join(sampler.left_out))
    return audio, sampler


def _audio_seconds(config: Config, updates: int) -> float:
    """Audio heard in so many updates."""
    return updates * config.accumulate * config.windows * config.frames * HOP / 16000


def _not_finite(exp: Path, update: int, loss: Tensor, audio: PackedAudio, windows: list[Window]) -> str:
    names = ", ".join(f"{audio.utterances[window.utterance]} from sample {window.start}" for window in windows)
    return (
        f"{exp}: the loss of update {update} is {loss.item()}; no weight was changed by it. The minibatch: {names}. "
        "Look at this audio, or train anew with a smaller learning_rate in a new --exp"
    )


def _summarise(
    config: Config, exp: Path, audio: PackedAudio, sampler: WindowSampler, dev: InfoNCE | None, seconds: float
) -> None:
    summary: dict[str, Any] = {
        "updates": config.updates,
        "hours_heard": _audio_seconds(config, config.updates) / 3600,
        "corpus_hours": float(audio.num_samples.sum() / 16000 / 3600),
        "seconds": seconds,
        "candidates": config.num_candidates,
        "too_short": sampler.too_short,
        "speakers_left_out": sampler.left_out,
        "dev_loss": dev and dev.loss.tolist(),
        "dev_accuracy": dev and dev.accuracy.tolist(),
        "log_n_minus_loss_is_a_bound": config.mutual_information_is_bounded,
        **provenance(),
    }
    with atomic_write(exp / "train.json") as file:
        json.dump(summary, file, indent=1)


if __name__ == "__main__":
    run(main)
