"""The report's section on its setting: what this run did beside what the paper did."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import nn

from cpc_speech.ablation_report import Ablation
from cpc_speech.checkpoint import build_model
from cpc_speech.config import Config
from cpc_speech.cost import update_seconds
from cpc_speech.datadir import SPLITS, read_num_samples, read_split, read_table
from cpc_speech.packed import SAMPLE_RATE
from cpc_speech.probe_report import Result
from cpc_speech.tasks import labels_by

PAPER = Config()  # its defaults are the paper's
_NOT_STATED = "not stated"
_CONTEXTS = {"utterance": "carried through whole utterances", "window": "afresh every window"}


def section(data: Path, configs: Sequence[Config], results: list[Result], found: list[Ablation]) -> Iterable[str]:
    """Lines of the page.

    Args:
        configs: of all CPC models that the tables are of.
    """
    hours = hours_of(data)
    speakers = len(set(read_table(data / "utt2spk").values()))
    splits = ", ".join(f"{split} {value:.2f}" for split, value in hours.items())
    yield "## The setting, beside the paper's"
    yield ""
    yield "| | this run | the paper |"
    yield "|---|---|---|"
    yield _line("corpus", corpus_name(data), "LibriSpeech, train-clean-100")
    yield _line("hours", f"{sum(hours.values()):.2f} ({splits})", "100")
    yield _line("speakers", f"{speakers:,}", "251")
    facts = [result.facts for result in results] + [one.facts for one in found if one.facts]
    classes = dict.fromkeys(one["classes"] for one in facts if one["task"] == "phone" and "classes" in one)
    phones = "".join(f", {count} classes" for count in classes)
    yield _line("phone labels", labels_by(data) + phones, "Kaldi's forced alignment, 41 classes")
    if configs:
        yield _line("encoder", _each(configs, _encoder), f"{PAPER.channels} channels; normalisation {_NOT_STATED}")
        yield _line("context", _each(configs, _context), f"{PAPER.context_dim} units, GRU, layers: 1")
        yield _line("candidates, N", _each(configs, lambda c: f"{c.num_candidates:,}"), _NOT_STATED)
        yield _line("updates × windows", _each(configs, _heard), f"{PAPER.updates:,} × {_windows(PAPER)}")
        yield _line("Adam's learning rate", _each(configs, _rate), _rate(PAPER))
        yield _line("precision", _each(configs, lambda c: c.precision), _NOT_STATED)
        test = _each(configs, lambda c: "yes" if c.pretrain_on == "all" else "no")
        yield _line("test audio heard in pretraining", test, _NOT_STATED)
    seeds = " / ".join(dict.fromkeys(", ".join(map(str, one["probe_seeds"])) for one in facts if "probe_seeds" in one))
    kinds = dict.fromkeys(
        f"one hidden layer of {one['hidden']}" if one["probe"] == "mlp" else one["probe"]
        for one in facts if one["probe"] != "end_to_end"
    )  # fmt: skip
    yield _line("probes", "; ".join(kinds), "linear; one hidden layer, its width not stated")
    rates = dict.fromkeys(
        f"dev's choice of {', '.join(map(str, one['learning_rates']))}, falling to 0 in {one['passes']} passes"
        for one in facts if "learning_rates" in one
    )  # fmt: skip
    yield _line("Adam's learning rate of probes", " / ".join(rates), _NOT_STATED)
    yield _line("seeds of probes", seeds, _NOT_STATED)
    contexts = dict.fromkeys(_CONTEXTS[one["probe_context"]] for one in facts)
    yield _line("c_t that is probed", " / ".join(contexts), _NOT_STATED)
    end_to_end = [result.config for result in results if result.facts["probe"] == "end_to_end" and result.config]
    if end_to_end:
        shown = _each(end_to_end, lambda c: f"{c.updates:,} × {_windows(c)}, Adam's learning rate {_rate(c)}")
        yield _line("supervised and fine-tuned: updates × windows", shown, _NOT_STATED)
    yield ""
    yield (
        "z_t is the encoder's output, one each 10 ms, c_t that of the context network, of z_t and all before it. A "
        "model of 12 steps is to tell each of the next 12 z from negatives, N candidates in all: *mixed speaker* takes "
        "them from all frames of the minibatch, *(excl.)* from those of other windows than its own, *same speaker* has "
        "one speaker a minibatch, *current sequence only* takes the window's own frames. A *seed* is that of a network "
        "and its training; the probes on it have seeds of their own."
    )
    yield ""


def corpus_name(data: Path) -> str:
    """What the audio is: the note on it, or else the folder that it came from."""
    facts = json.loads((data / "corpus.json").read_text(encoding="utf-8"))
    return facts.get("note") or ", ".join([Path(facts["corpus"]).name, *facts.get("subsets", [])])


def hours_of(data: Path) -> dict[str, float]:
    """Hours of audio in each split."""
    samples = read_num_samples(data)
    lists = {split: read_split(data, split) for split in SPLITS}
    return {split: sum(samples[i] for i in ids) / SAMPLE_RATE / 3600 for split, ids in lists.items()}


def _each(configs: Sequence[Config], show: Callable[[Config], str]) -> str:
    return " / ".join(dict.fromkeys(map(show, configs)))


def _encoder(config: Config) -> str:
    norms = dict.fromkeys(type(module).__name__ for module in _network(config) if "Norm" in type(module).__name__)
    return f"{config.channels} channels; normalisation {', '.join(norms) or 'none'}"


def _context(config: Config) -> str:
    [recurrence] = [module for module in _network(config) if isinstance(module, nn.RNNBase)]
    return f"{config.context_dim} units, {type(recurrence).__name__}, layers: {recurrence.num_layers}"


def _network(config: Config) -> list[nn.Module]:
    with torch.device("meta"):  # its shape is all that is wanted
        return list(build_model(config).modules())


def _windows(config: Config) -> str:
    return f"{config.minibatches * config.windows:,}"


def _heard(config: Config) -> str:
    """Updates times windows, and what share that is of the audio that the paper's model heard."""
    share = config.updates * update_seconds(config) / (PAPER.updates * update_seconds(PAPER))
    return f"{config.updates:,} × {_windows(config)}, {100 * share:.2g} % of the paper's audio"


def _rate(config: Config) -> str:
    parts = [f"{config.learning_rate:g}"]
    if config.warmup_updates:
        parts.append(f"after {config.warmup_updates:,} updates of warm-up")
    if config.final_learning_rate != config.learning_rate:
        parts.append(f"falling to {config.final_learning_rate:g}")
    return ", ".join(parts)


def _line(what: str, here: str, paper: str) -> str:
    return f"| {what} | {here.replace('|', chr(92) + '|')} | {paper} |"
