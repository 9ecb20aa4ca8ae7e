"""Phone recognition on frozen features: a small CTC recogniser (cpc_speech/recogniser.py) is trained, and its phone
error rate measured on test.

    python -m data_prep.phone_text data/mini
    python -m cpc_speech.recognise --data data/mini --feats data/mini_mixed_speaker/feats.scp --exp exp/recogniser/cpc
    python -m cpc_speech.recognise --data data/mini --feats data/mini_fbank/feats.scp --exp exp/recogniser/fbank

Any features will do that Kaldi's archives hold, one matrix for each utterance of the data directory's splits; what was
said stands in phones.text. The recogniser learns from train; dev chooses among its states, one each --dev-every
updates; test is read once. Leaves per.json, hyp and ref (Kaldi's text, of test), tokens.txt and scores.scp
(log-probabilities of dev and test, for cpc_speech.recognise_words) in --exp; a run that was stopped goes on at its last
state, and ends as if nothing had happened.
"""

from __future__ import annotations

import argparse
import copy
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cpc_speech import checkpoint
from cpc_speech.datadir import write_table
from cpc_speech.error_rate import ErrorRate, errors_of, save_error_rate
from cpc_speech.errors import UserError, require, run
from cpc_speech.files import atomic_write
from cpc_speech.kaldi import write_float_matrices
from cpc_speech.machine import set_up
from cpc_speech.optimise import NotFiniteError, learning_rate, update_weights
from cpc_speech.processes import alone
from cpc_speech.progress import Progress
from cpc_speech.provenance import provenance
from cpc_speech.recogniser import HEADS, Recogniser, best_path, ctc_loss, steps_needed, steps_of
from cpc_speech.signals import stop_signals
from cpc_speech.transcribed import Features, Transcripts, by_length, load_transcripts, shuffled

MINIBATCH = 8  # utterances

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """How a recogniser is made; the same for all features that are to be compared."""

    head: str
    stride: int
    hidden: int
    updates: int
    learning_rate: float
    dev_every: int
    seed: int
    warmup_updates: int = 100
    final_learning_rate: float = 0.0


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--feats", required=True, type=Path, metavar="SCP", help="of feats.ark, as Kaldi writes it")
    parser.add_argument("--exp", required=True, type=Path)
    parser.add_argument("--head", choices=HEADS, default="lstm", help="what is trained on the features")
    parser.add_argument("--stride", type=int, default=4, metavar="FRAMES", help="a step of the recogniser")
    parser.add_argument("--hidden", type=int, default=128, help="units of the LSTM, a direction")
    parser.add_argument("--updates", type=int, default=1200, help=f"of {MINIBATCH} utterances each")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="of Adam; half a cosine leads to 0")
    parser.add_argument("--dev-every", type=int, metavar="UPDATES", help="between two evaluations; default: a twelfth")
    parser.add_argument("--seed", type=int, default=1)
    args = vars(parser.parse_args(argv))
    data, feats, exp = (args.pop(name) for name in ("data", "feats", "exp"))
    if args["dev_every"] is None:
        args["dev_every"] = max(1, args["updates"] // 12)
    settings = Settings(**args)
    if min(settings.stride, settings.hidden, settings.updates, settings.dev_every) < 1:
        parser.error("--stride, --hidden, --updates and --dev-every are 1 or more")
    if not settings.learning_rate > 0 or settings.seed < 0:
        parser.error("--learning-rate is more than 0, and --seed is not negative")

    require("kaldialign", "asr")  # before hours of training
    transcripts = load_transcripts(data)
    features = Features(feats, transcripts.splits)
    set_up("fp32", alone().device)
    model, facts = train(settings, exp, features, transcripts)
    errors, recognised, scores = evaluate(model, features, transcripts, "test")
    scores |= outputs(model, features, transcripts, "dev")
    write_table(exp / "hyp", {utterance: " ".join(phones) for utterance, phones in recognised.items()})
    write_table(exp / "ref", {utterance: " ".join(transcripts.phones[utterance]) for utterance in recognised})
    matrices = ((utterance, scores[utterance].numpy()) for utterance in sorted(scores))
    write_float_matrices(exp / "scores.ark", exp / "scores.scp", matrices)
    log.info("%s: phone error rate %.2f %%", feats, errors.rate)
    save_error_rate(
        exp / "per.json",
        errors,
        {
            "features": feats.parent.name, "data": data.name, "dim": len(features.mean),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "settings": asdict(settings), "left_out": transcripts.left_out,
            **facts, **provenance(),
        },
    )  # fmt: skip


def train(
    settings: Settings, exp: Path, features: Features, transcripts: Transcripts
) -> tuple[Recogniser, dict[str, Any]]:
    """Train to the best phone error rate on dev; that recogniser, and facts about its training.

    Raises:
        UserError: a training utterance is too short for what was said, a gradient is not finite, or the experiment was
            begun otherwise.
    """
    started = time.monotonic()
    check_room(features, transcripts, settings.stride)
    processes = alone()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = Recogniser(
            torch.from_numpy(features.mean), torch.from_numpy(features.std), len(transcripts.symbols),
            settings.head, settings.stride, settings.hidden,
        ).to(processes.device)  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    begun = {
        **asdict(settings), "tokens": transcripts.symbols, "transcripts": transcripts.digest(),
        "feats": features.mean.tolist(),
    }  # fmt: skip
    dev: list[float] = []
    best = copy.deepcopy(model.state_dict())
    if (state := checkpoint.load_latest(exp)) is not None:
        if changed := [key.replace("_", "-") for key, value in begun.items() if state["begun"].get(key) != value]:
            raise UserError(f"{exp} was begun with other {', '.join(changed)}; take another --exp or remove it")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        dev, best = state["dev"], state["best"]
        started -= state.get("seconds", 0.0)
    update = state["update"] if state else 0
    with atomic_write(exp / "tokens.txt") as file:
        file.writelines(f"{symbol} {number}\n" for number, symbol in enumerate(["<blk>", *transcripts.symbols]))

    minibatches = _minibatches(settings, features, transcripts, update)
    progress = Progress(total=settings.updates, initial=update, unit="update", desc=str(exp))
    with progress, stop_signals() as stopped:
        while update < settings.updates:
            utterances, matrices = next(minibatches)
            torch.manual_seed(_dropout_seed(settings.seed, update))
            phones = [torch.from_numpy(transcripts.numbers(utterance)) for utterance in utterances]
            log_probabilities, steps = model(_on(processes.device, matrices))
            loss = ctc_loss(log_probabilities, steps, phones)
            try:
                norm, _ = update_weights(optimizer, learning_rate(settings, update), [loss], 1, processes)
            except NotFiniteError:
                raise UserError(
                    f"{exp}: the gradient of update {update + 1} is not finite; no weight was changed by it. "
                    f"Look at the features and phones of {', '.join(utterances)}"
                ) from None
            update += 1
            progress.update()
            if update % settings.dev_every == 0 or update == settings.updates:
                dev.append(evaluate(model, features, transcripts, "dev").errors.rate)
                if int(np.argmin(dev)) == len(dev) - 1:  # a tie is no improvement
                    best = copy.deepcopy(model.state_dict())
                progress.set_postfix_str(f"gradient norm {norm:.3f}, dev PER {dev[-1]:.1f} %, best {min(dev):.1f} %")
                state = {
                    "model": model.state_dict(), "optimizer": optimizer.state_dict(), "update": update, "dev": dev,
                    "best": best, "begun": begun, "seconds": time.monotonic() - started,
                }  # fmt: skip
                checkpoint.save(exp, state, keep=1)
            if stopped:
                raise KeyboardInterrupt
    model.load_state_dict(best)
    chosen = min((int(np.argmin(dev)) + 1) * settings.dev_every, settings.updates)
    return model, {"updates": chosen, "dev_per": dev, "seconds": time.monotonic() - started}


def check_room(features: Features, transcripts: Transcripts, stride: int) -> None:
    """Raise UserError if CTC has fewer steps than it needs in a training utterance."""
    short = [
        f"{utterance} ({features.frames[utterance]} frames, {len(transcripts.phones[utterance])} phones)"
        for utterance in transcripts.splits["train"]
        if steps_of(features.frames[utterance], stride) < steps_needed(transcripts.phones[utterance])
    ]
    if short:
        raise UserError(
            f"{features.scp}: {len(short)} training utterances have more phones than the recogniser has steps, such as "
            f"{', '.join(short[:3])}; take a smaller --stride, or see whether these are the features of this data"
        )


class Evaluation(NamedTuple):
    """Of the utterances of a split, in its order."""

    errors: ErrorRate
    recognised: dict[str, list[str]]  # phones
    scores: dict[str, Tensor]  # see ``outputs``


def evaluate(model: Recogniser, features: Features, transcripts: Transcripts, split: str) -> Evaluation:
    """What the recogniser makes of a split."""
    scores = outputs(model, features, transcripts, split)
    recognised = {
        utterance: [transcripts.symbols[number - 1] for number in best_path(scores[utterance])]
        for utterance in transcripts.splits[split]
    }
    return Evaluation(errors_of(transcripts.phones, recognised), recognised, scores)


@torch.no_grad()
def outputs(model: Recogniser, features: Features, transcripts: Transcripts, split: str) -> dict[str, Tensor]:
    """Log-probabilities (U, V) of every utterance of a split, on the CPU."""
    model.eval()
    scores: dict[str, Tensor] = {}
    for minibatch, matrices in features.read(by_length(transcripts.splits[split], features.frames, MINIBATCH)):
        log_probabilities, steps = model(_on(model.mean.device, matrices))
        for utterance, matrix, count in zip(minibatch, log_probabilities.cpu(), steps.tolist()):
            scores[utterance] = matrix[:count]
    model.train()
    return scores


def _minibatches(
    settings: Settings, features: Features, transcripts: Transcripts, update: int
) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    """Utterances and features of every update from this one on, without an end."""
    train = transcripts.splits["train"]
    epoch, done = divmod(update, -(-len(train) // MINIBATCH))
    while True:
        yield from features.read(shuffled(train, features.frames, MINIBATCH, settings.seed, epoch)[done:])
        epoch, done = epoch + 1, 0


def _dropout_seed(seed: int, update: int) -> int:
    """What is dropped depends on seed and update alone, so that a resumed run drops the same."""
    return int(np.random.SeedSequence((seed, update)).generate_state(1)[0])


def _on(device: torch.device, matrices: list[np.ndarray]) -> list[Tensor]:
    return [torch.from_numpy(matrix).to(device) for matrix in matrices]


if __name__ == "__main__":
    run(main)
