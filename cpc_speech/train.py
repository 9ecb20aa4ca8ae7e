r"""Pretrain CPC on a data directory.

    python -m cpc_speech.train --config conf/cpc.yaml --data data/mini --exp exp/cpc
    python -m cpc_speech.train --config conf/cpc.yaml --config conf/same_speaker.yaml \
        --data data/mini --exp exp/same_speaker updates=20000
    torchrun --standalone --nproc-per-node 8 -m cpc_speech.train ...     # 8 GPUs share out each update's minibatches

The same command resumes a run that was stopped, at the last checkpoint, on any number of GPUs; ctrl-C and SIGTERM
leave one. Leaves in --exp: config.yaml, checkpoints/, metrics.jsonl, TensorBoard events and, when done, train.json.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import logging
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor

from cpc_speech import checkpoint, cost, machine, profiling
from cpc_speech.config import Config, load_config
from cpc_speech.datadir import iter_table
from cpc_speech.errors import UserError, run
from cpc_speech.files import atomic_write
from cpc_speech.infonce import InfoNCE
from cpc_speech.loader import Minibatch, Minibatches, ahead, waveform
from cpc_speech.metrics import Metrics
from cpc_speech.model import CPC
from cpc_speech.objective import DevLoss, cpc_loss, mean, window_sampler
from cpc_speech.optimise import NotFiniteError, adam, learning_rate, update_weights
from cpc_speech.packed import SAMPLE_RATE, PackedAudio
from cpc_speech.processes import DEVICES, Processes, join
from cpc_speech.progress import Progress
from cpc_speech.provenance import provenance
from cpc_speech.signals import stop_signals
from cpc_speech.speed import Pace, Speed
from cpc_speech.windows import WindowSampler

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", action="append", default=[], help="YAML; later ones override earlier ones")
    parser.add_argument("--data", required=True, type=Path, help="data directory with packed audio and splits")
    parser.add_argument("--exp", required=True, type=Path, help="where the experiment is kept")
    parser.add_argument("--workers", type=int, default=1, help="processes that load audio ahead, for each GPU")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="default: GPUs, or for one process the CPU")
    parser.add_argument("--profile", action="store_true", help="write a trace of a few updates to EXP/profile")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a key of the configuration")
    args = parser.parse_args(argv)
    if args.workers < 0:
        parser.error("--workers is 0 (audio is loaded between updates) or more")
    with join(args.device) as processes:
        if processes.rank:  # what all would say is said once
            logging.getLogger("cpc_speech").setLevel(logging.ERROR)
        train(load_config(args.config, args.overrides), args.data, args.exp, processes, args.workers, args.profile)


def train(config: Config, data: Path, exp: Path, processes: Processes, workers: int = 1, profile: bool = False) -> None:
    """Run or resume the pretraining in ``exp`` up to ``config.updates``; see the module's docstring."""
    if processes.count > config.minibatches:
        raise UserError(
            f"{processes.count} processes cannot share out {config.minibatches} minibatches an update: start fewer, "
            "or set minibatches higher, which is another experiment"
        )
    device, first = processes.device, processes.rank == 0
    audio, sampler = _training_windows(config, data)
    if first:
        checkpoint.settle_config(exp, config, device)
    processes.wait()
    config = checkpoint.settle_config(exp, config, device)
    trained = (exp / "train.json").exists()
    processes.agree(trained=trained)
    if trained:
        log.info("%s is trained already", exp)
        return
    machine.set_up(config.precision, device)

    model = checkpoint.build_model(config).to(device)
    optimizer = adam(model, config)
    update, seconds_before = 0, 0.0
    corpus = {"utterances": len(audio), "samples": int(audio.num_samples.sum())}
    if (state := checkpoint.load_latest(exp)) is not None:
        if state["corpus"] != corpus:
            raise UserError(
                f"{exp} was begun with other audio, {state['corpus']}, than {data} has for {config.pretrain_on} now, "
                f"{corpus}: pass the --data it was begun with, or take another --exp"
            )
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        update, seconds_before = state["update"], state["seconds"]
        log.info("resuming %s after %d updates", exp, update)
    processes.agree(updates=update, **corpus)
    dev, dev_result = DevLoss(config, data, processes), None
    metrics = Metrics(exp, update) if first else None
    _announce(config, exp, audio, sampler, processes)

    minibatches = Minibatches(audio, sampler)
    updates = range(update, config.updates)
    share = len(processes.share(config.minibatches))
    bar = Progress(total=config.updates, initial=update, unit="update", desc=exp.name, disable=not first)
    speed = Speed(config, processes)
    trace = profiling.trace(exp / "profile", processes) if profile else contextlib.nullcontext()
    loaded = speed.timed(ahead(minibatches, updates, config.minibatches, processes, workers))
    with bar, stop_signals() as stopped, trace as profiler:
        while update < config.updates:
            done: list[tuple[Minibatch, InfoNCE]] = []
            losses = _losses(model, config, update, itertools.islice(loaded, share), device, done)
            rate = learning_rate(config, update)
            try:
                norm, stop = update_weights(optimizer, rate, losses, config.minibatches, processes, bool(stopped))
            except NotFiniteError:
                raise UserError(_not_finite(exp, update + 1, audio, done)) from None
            update += 1
            speed.update()
            bar.update()
            if profiler:
                profiler.step()

            last = update == config.updates
            if update % config.log_every == 0 or last:
                result = mean([result for _, result in done], config.minibatches, config.steps, processes)
                pace = speed.measure()
                bar.set_postfix_str(_postfix(config, result, pace))
                if metrics:
                    metrics.write("train", update, result, learning_rate=rate, gradient_norm=norm, **pace._asdict())
            if update % config.dev_every == 0 or last:
                dev_result = dev.evaluate(model)
                if metrics and dev_result:
                    metrics.write("dev", update, dev_result)
                    checkpoint.save_if_best(exp, model, update, dev_result.loss.mean().item())
            if metrics and (update % config.checkpoint_every == 0 or last or stop):
                metrics.flush()
                weights = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                state = {**weights, "update": update, "seconds": seconds_before + speed.seconds, "corpus": corpus}
                checkpoint.save(exp, state, config.keep_checkpoints)
            if stop and not last:
                processes.wait()  # until the checkpoint is written: the first to leave has the others ended
                raise KeyboardInterrupt
    if dev_result is None:  # resumed behind the last update
        dev_result = dev.evaluate(model)
    if metrics:
        metrics.close()
        _summarise(config, exp, audio, sampler, dev_result, seconds_before + speed.seconds, processes)


def _losses(
    model: CPC, config: Config, update: int, minibatches: Iterable[Minibatch], device: torch.device,
    done: list[tuple[Minibatch, InfoNCE]],
) -> Iterator[Tensor]:  # fmt: skip
    """The loss of each minibatch; what it came from is added to ``done``."""
    for minibatch in minibatches:
        heard = waveform(minibatch.samples, device)
        result = cpc_loss(model, heard, config, config.seed, update, minibatch.number)
        done.append((minibatch, result))
        yield result.loss.mean()


def _training_windows(config: Config, data: Path) -> tuple[PackedAudio, WindowSampler]:
    train_list = data / "splits" / "train.list"
    audio = PackedAudio(data, None if config.pretrain_on == "all" else (key for key, _ in iter_table(train_list)))
    return audio, window_sampler(config, audio, config.seed)


def _announce(config: Config, exp: Path, audio: PackedAudio, sampler: WindowSampler, processes: Processes) -> None:
    heard, corpus = cost.update_seconds(config), audio.num_samples.sum() / SAMPLE_RATE
    log.info(
        "%s: %d updates of %d × %d windows, %.1f s or %.5f h of audio each, shared out to %d process(es) on %s; "
        "N = %d, chance loss %.3f; %d utterances, %.2f h, heard %.1f times",
        exp, config.updates, config.minibatches, config.windows, heard, heard / 3600, processes.count,
        processes.device.type, config.num_candidates, math.log(config.num_candidates), len(audio), corpus / 3600,
        config.updates * heard / corpus,
    )  # fmt: skip
    if sampler.too_short:
        log.info("%d utterances are shorter than a window and left out of pretraining", sampler.too_short)
    if names := _left_out(audio, sampler):
        log.info("speakers with less audio than a minibatch, left out: %s", " ".join(names))


def _left_out(audio: PackedAudio, sampler: WindowSampler) -> list[str]:
    return [audio.speaker_names[number] for number in sampler.left_out]


def _postfix(config: Config, result: InfoNCE, pace: Pace) -> str:
    n = config.num_candidates
    return (
        f"loss {result.loss.mean():.3f} (chance {math.log(n):.2f}), picked {result.accuracy[0]:.0%} at step 1, "
        f"{result.accuracy[-1]:.0%} at {config.steps} (chance {1 / n:.1%}), {pace.speed:.0f}× real time, "
        f"{pace.utilisation:.0%} of the matrix rate, waiting {pace.waiting:.0%}"
    )


def _not_finite(exp: Path, update: int, audio: PackedAudio, done: list[tuple[Minibatch, InfoNCE]]) -> str:
    """Write this process's minibatches without a finite loss (all, if it is the gradient) as audio; says where."""
    bad = [(minibatch, loss) for minibatch, (loss, _) in done if not torch.isfinite(loss).all()]
    what = f"loss {bad[0][1].mean().item()}" if bad else "gradient"
    folder = exp / "not_finite" / f"update-{update:08d}"
    names = []
    for minibatch, _ in bad or done:
        for window, samples in zip(minibatch.windows, minibatch.samples.numpy()):
            utterance = audio.utterances[window.utterance]
            path = folder / f"minibatch-{minibatch.number}" / f"{utterance.replace('/', '_')}.{window.start}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, samples, SAMPLE_RATE)
            names.append(f"{utterance} from sample {window.start}")
    return (
        f"{exp}: the {what} of update {update} is not finite, in this process or another; no weight was changed by it. "
        f"The windows, written to {folder}: {', '.join(names)}. "
        "Look at this audio, or train anew with a smaller learning_rate in a new --exp"
    )


def _summarise(
    config: Config, exp: Path, audio: PackedAudio, sampler: WindowSampler, dev: InfoNCE | None, seconds: float,
    processes: Processes,
) -> None:  # fmt: skip
    summary: dict[str, Any] = {
        "updates": config.updates,
        "hours_heard": config.updates * cost.update_seconds(config) / 3600,
        "corpus_hours": float(audio.num_samples.sum() / SAMPLE_RATE / 3600),
        "seconds": seconds,
        "processes": processes.count,
        "candidates": config.num_candidates,
        "too_short": sampler.too_short,
        "speakers_left_out": _left_out(audio, sampler),
        "dev_loss": dev and dev.loss.tolist(),
        "dev_accuracy": dev and dev.accuracy.tolist(),
        **provenance(),
    }
    with atomic_write(exp / "train.json") as file:
        json.dump(summary, file, indent=1)


if __name__ == "__main__":
    run(main)
