"""Say what a command of a recipe will cost here, before it starts: time, disk, memory, download.

    python local/estimate.py --plan exp/plan --hours 100.6 --download 6.3 --config conf/cpc.yaml --ngpu 8
    python local/estimate.py --plan exp/plan --data data/mini --config conf/cpc.yaml

The plan has a line for each job, as recipes/shared/plan.sh writes it:

    1 pack                          4 pretrain conf/mixed_speaker.yaml      5 probe c phone linear 3
    2 labels gmm                    5 supervised phone 2400                 7 steps_ahead mixed_speaker
    7 tsne c                        8 features fbank                        8 recogniser fbank lstm

What networks cost follows from their operations, and from the rate that a second or two of training reaches here; what
probes and recognisers cost from a few of their updates. Other jobs are not measured: _SECONDS has rough figures.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor

from cpc_speech import cost, machine
from cpc_speech.checkpoint import build_model
from cpc_speech.config import Config, load_config
from cpc_speech.datadir import read_table
from cpc_speech.errors import UserError, run
from cpc_speech.information import CANDIDATES, DRAWS
from cpc_speech.model import CPC, HOP
from cpc_speech.objective import cpc_loss
from cpc_speech.packed import SAMPLE_RATE
from cpc_speech.probe import LEARNING_RATES, MINIBATCH, make_classifier, passes_over
from cpc_speech.processes import DEVICES, alone
from cpc_speech.recogniser import Recogniser, ctc_loss
from cpc_speech.representations import MFCC
from cpc_speech.segments import SUFFIXES
from cpc_speech.steps_ahead import WINDOW_SAMPLES, WINDOWS
from data_prep.librispeech import find_subsets

log = logging.getLogger(__name__)

GB = 1e9
FRAMES_PER_HOUR = 3600 * SAMPLE_RATE // HOP
FLAC_BYTES_PER_HOUR = 6.6 * GB / 100.6  # train-clean-100, extracted
BASELINES = {"mfcc": 13, "mfcc39": 39, "fbank": 80}  # values a frame
TRAIN, DEV, HELD_OUT = 0.72, 0.08, 0.28  # shares of the corpus
OUTPUTS = 10  # values a frame that a recogniser leaves: 39 phones and the blank, every 4 frames
BYTES_A_FRAME = 12  # of RAM: the labels of a frame, as they are read and as targets
DEV_EVERY = 250  # updates of a supervised network between two evaluations on dev
PHONES, UTTERANCE = 41, 12.5  # classes; mean seconds of train-clean-100
# Core seconds an hour of audio, or of a t-SNE: not measured here, but rough figures of earlier runs.
_SECONDS = {"pack": 6.0, "gmm": 150.0, "pocketsphinx": 100.0, "import": 1.0, "posterior": 40.0, "tsne": 15.0}


def hours_of(folder: Path, subsets: Sequence[str] = ()) -> float:
    """Hours of audio under ``folder``, or in these subsets of a corpus in LibriSpeech's layout, by the files' headers;
    unreadable ones are stage 1's to report."""

    def seconds(path: Path) -> float:
        try:
            return soundfile.info(str(path)).duration
        except soundfile.LibsndfileError:
            return 0.0

    folders = find_subsets(folder, subsets) if subsets else [folder]
    files = [path for place in folders for path in place.rglob("*") if path.suffix.lower() in SUFFIXES]
    if not files:
        raise UserError(f"{folder}: no audio in it ({', '.join(sorted(SUFFIXES))}); name the folder that holds it")
    with ThreadPoolExecutor(8) as pool:
        return sum(pool.map(seconds, files)) / 3600


@dataclasses.dataclass
class Rates:
    """Seconds that work takes on this machine."""

    start: float  # until a process has imported what it needs
    operation: float  # a floating-point operation of a network in training
    probe: dict[str, float]  # an update of a probe of 256 values, by its kind
    mfcc: float  # a second of audio
    recogniser: dict[str, float]  # an update with an hour of audio in the minibatch, by its head


def measure(config: Config, device: torch.device, kinds: set[str]) -> Rates:
    """Measure, in a second or two, what ``kinds`` of jobs need."""
    start = time.process_time()
    machine.set_up(config.precision, device)
    probe, recogniser, mfcc = {}, {}, 0.0
    if "probe" in kinds:
        probe = {kind: _seconds(_probe_update(kind, device), device) for kind in ("linear", "mlp")}
    if kinds & {"recogniser", "features", "probe"}:
        second = 0.1 * torch.randn(SAMPLE_RATE)
        mfcc = _seconds(lambda: MFCC()([second]), device)
    if "recogniser" in kinds:
        hours = 8 * 2 / 3600  # of _recogniser_update
        recogniser = {head: _seconds(_recogniser_update(head, device), device) / hours for head in ("linear", "lstm")}
    return Rates(start, _operation(config, device), probe, mfcc, recogniser)


def _operation(config: Config, device: torch.device) -> float:
    """By a minibatch; where that would take long, as on a CPU, of fewer windows."""
    model, operation = build_model(config).to(device), math.inf
    for windows in (2, config.windows):
        small = dataclasses.replace(config, windows=windows, minibatches=1)
        waveform = 0.1 * torch.randn(windows, small.window_samples, device=device)
        operations = cost.update_operations(small)
        if windows > 2 and operation * operations > 1:  # second; it is done twice
            break
        update = partial(_update, model, waveform, small)
        operation = _seconds(update, device) / operations
    return operation


def _update(model: CPC, waveform: Tensor, config: Config) -> None:
    cpc_loss(model, waveform, config, 0).loss.mean().backward()


def _probe_update(kind: str, device: torch.device) -> Callable[[], None]:
    probes = [make_classifier(kind, 256, PHONES, seed).to(device) for seed in range(len(LEARNING_RATES))]
    optimizer = torch.optim.Adam([weight for probe in probes for weight in probe.parameters()], fused=True)
    rows, classes = np.zeros((MINIBATCH, 256), np.float16), torch.zeros(MINIBATCH, dtype=torch.long, device=device)

    def update() -> None:
        x = torch.from_numpy(rows.astype(np.float32) - 1).to(device)
        torch.stack([F.cross_entropy(probe(x), classes) for probe in probes]).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return update


def _recogniser_update(head: str, device: torch.device) -> Callable[[], None]:
    """8 utterances of 2 seconds."""
    model = Recogniser(torch.zeros(256), torch.ones(256), PHONES - 2, head, 4, 128).to(device)
    features = [torch.randn(2 * SAMPLE_RATE // HOP, 256, device=device) for _ in range(8)]
    phones = [torch.arange(1, 21) for _ in features]

    def update() -> None:
        log_probabilities, steps = model(features)
        ctc_loss(log_probabilities, steps, phones).backward()

    return update


def _seconds(job: Callable[[], object], device: torch.device, enough: float = 0.2) -> float:
    """What a repetition takes: the fastest of those that ``enough`` seconds allow, or of two."""
    best, end, done = math.inf, time.perf_counter() + enough, 0
    while done < 2 or time.perf_counter() < end:
        started = time.perf_counter()
        job()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best, done = min(best, time.perf_counter() - started), done + 1
    return best


@dataclasses.dataclass
class Setting:
    """What a plan's jobs have in common."""

    hours: float  # of audio
    config: Config
    rates: Rates
    configs: dict[str, Config]  # of the models that are pretrained
    recogniser_updates: int = 0
    probe_passes: int | None = None
    ngpu: int = 1
    nj: int = 1

    def seconds(self, stage: str, kind: str, *about: str) -> float:
        """Wall time of one job; of a network trained end to end at most, since dev may stop it."""
        audio, rates = 3600 * self.hours, self.rates
        if kind == "pack":
            return rates.start + _SECONDS[kind] * self.hours / self.nj
        if kind == "labels":
            return rates.start + _SECONDS[about[0]] * self.hours / self.nj
        if kind == "pretrain":
            config = self.configs[about[0]]
            at_once = min(self.ngpu, config.minibatches) if stage == "4" else self.ngpu
            minibatch = cost.update_operations(config) / config.minibatches
            dev = config.updates / config.dev_every * config.dev_minibatches * minibatch / 3
            return (rates.start + (config.updates * config.minibatches * minibatch + dev) * rates.operation) / at_once
        if kind == "supervised":
            updates, work = int(about[1]), cost.operations(self.config)
            dev = updates / DEV_EVERY * self._forward(DEV * audio)
            return rates.start + updates * (work["encoder"] + work["context"]) * rates.operation + dev
        if kind == "probe":
            representation, task, probe, seeds = about
            dim = BASELINES.get(representation, self.config.context_dim)
            frames = TRAIN * self.hours * FRAMES_PER_HOUR
            wide = 1.0 if task == "phone" else 1.2  # there are more speakers than phones
            fits = int(seeds) * (self.probe_passes or passes_over(max(1, int(frames)))) * frames / MINIBATCH
            fits *= rates.probe[probe] * wide * (0.5 + 0.5 * dim / 256)
            shared = rates.start + self._frames(representation) if (task, probe) == ("phone", "linear") else 0.0
            return (shared + fits) / (self.ngpu if stage == "6" else 1)
        if kind == "steps_ahead":
            windows = 32 * WINDOWS + DRAWS * CANDIDATES  # of the accuracies, and of mutual information
            return rates.start + 2 * self._forward(windows * WINDOW_SAMPLES / SAMPLE_RATE)  # about half of it is scores
        if kind == "tsne":
            return rates.start + _SECONDS[kind]
        if kind == "features":
            return rates.start + self._frames(about[0])
        if kind == "recogniser":
            minibatch = 8 * UTTERANCE / 3600
            return rates.start + self.recogniser_updates * minibatch * rates.recogniser[about[1]]
        raise UserError(f"a plan has no job {kind}; this is a bug: please report it")

    def _forward(self, seconds: float) -> float:
        """Of the network on so many seconds of audio, without scores."""
        work = cost.multiply_adds(self.config)
        window = self.config.window_samples / SAMPLE_RATE
        return seconds / window * 2 * (work["encoder"] + work["context"]) * self.rates.operation

    def _frames(self, representation: str) -> float:
        seconds = 3600 * self.hours
        return seconds * self.rates.mfcc if representation in BASELINES else self._forward(seconds)


def disk(setting: Setting, jobs: Sequence[Sequence[str]], download: float) -> dict[str, float]:
    """Bytes that the jobs will write, by what they are for."""
    sizes, hours, config = {}, setting.hours, setting.config
    frames = hours * FRAMES_PER_HOUR
    if download:
        sizes["archive"] = download * GB
        sizes["corpus, extracted"] = hours * FLAC_BYTES_PER_HOUR
    if any(kind == "pack" for _, kind, *_ in jobs):
        sizes["packed audio"] = hours * 3600 * SAMPLE_RATE * 2
    models = [setting.configs[about[0]] for _, kind, *about in jobs if kind == "pretrain"]
    models += [config for _, kind, *_ in jobs if kind == "supervised"]
    if models:
        sizes["checkpoints"] = sum(cost.parameters(one) * 4 * 3 * one.keep_checkpoints for one in models)
    dims = {"c": config.context_dim, "z": config.channels, "random": config.context_dim, **BASELINES}
    probed = [(stage, dims[about[0]]) for stage, kind, *about in jobs if kind == "probe"]
    if probed:  # those of one model at a time, or in stage 6 of one for each GPU
        values = max(dim * (setting.ngpu if stage == "6" else 1) for stage, dim in probed)
        sizes["features being probed"] = frames * values * 2
    if features := [about[0] for _, kind, *about in jobs if kind == "features"]:
        values = sum(BASELINES.get(name, config.context_dim) for name in features)
        sizes[f"features for ASR: {' '.join(features)}"] = frames * values * 4
    if recognisers := sum(kind == "recogniser" for _, kind, *_ in jobs):
        sizes[f"outputs of {recognisers} recognisers"] = recognisers * frames * HELD_OUT * OUTPUTS * 4
    return sizes


_NAMES = {
    "pack": "pack the audio", "labels": "phone labels", "pretrain": "pretrain {n} model{s}", "probe": "{n} probe{s}",
    "supervised": "{n} network{s} trained end to end, at most", "steps_ahead": "accuracy by steps ahead",
    "tsne": "t-SNE", "features": "features", "recogniser": "{n} recogniser{s}",
}  # fmt: skip


def times(setting: Setting, jobs: Sequence[Sequence[str]]) -> Iterable[tuple[str, float]]:
    """Lines of the table of time, and their seconds."""
    groups: dict[tuple[str, str], list[float]] = {}
    for stage, kind, *about in jobs:
        groups.setdefault((stage, kind), []).append(setting.seconds(stage, kind, *about))
    for (stage, kind), seconds in groups.items():
        name = _NAMES[kind].format(n=len(seconds), s="s" * (len(seconds) > 1))
        yield f"stage {stage}: {name}", sum(seconds)


def show(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def report(setting: Setting, jobs: Sequence[Sequence[str]], download: float, device: torch.device) -> list[str]:
    """The estimate in lines."""
    where = "this GPU" if device.type == "cuda" else f"this CPU, threads: {torch.get_num_threads()}"
    precision = machine.resolve(setting.config.precision, device)
    several = f" and {setting.ngpu} of them" if setting.ngpu > 1 else ""
    if not jobs:
        return ["Nothing that takes long is left to do."]
    measured = f"measured on {where}, {precision}{several}"
    lines = [f"What is to be done with {setting.hours:.2f} h of audio, and what it takes ({measured}):"]
    rows = list(times(setting, jobs))
    total = sum(seconds for _, seconds in rows)
    lines += [f"  time   {show(seconds):>8}  {name}" for name, seconds in rows]
    lines.append(f"  time   {show(total):>8}  in all, if nothing else runs here")
    sizes = disk(setting, jobs, download)
    lines += [f"  disk   {size / GB:5.2f} GB  {what}" for what, size in sizes.items()]
    lines.append(
        f"  disk   {sum(sizes.values()) / GB:5.2f} GB  in all; {shutil.disk_usage('.').free / GB:.0f} GB are free"
    )
    labels = setting.hours * FRAMES_PER_HOUR * BYTES_A_FRAME / GB
    lines.append(f"  memory  {2 + labels:4.1f} GB  at most")
    return lines


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", type=Path, required=True, help="file of jobs, a line each")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--hours", type=float, help="of audio")
    source.add_argument("--minutes", type=float, help="of audio")
    source.add_argument("--data", type=Path, metavar="DIR", help="data directory whose audio is packed")
    source.add_argument("--audio", type=Path, metavar="DIR", help="count the hours in this folder")
    parser.add_argument("--subset", nargs="*", default=[], metavar="NAME", help="of --audio; default: all")
    parser.add_argument("--few", nargs=2, type=int, metavar=("SPEAKERS", "UTTERANCES"), help="that are used at most")
    parser.add_argument("--download", type=float, default=0.0, metavar="GB", help="size of the archive fetched first")
    parser.add_argument("--config", type=Path, required=True, help="that models are made from")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="over all configurations")
    parser.add_argument("--recogniser-updates", type=int, default=0, help="of each recogniser")
    parser.add_argument("--probe-passes", type=int, help="of each probe over the train split")
    parser.add_argument("--ngpu", type=int, default=1, help="GPUs, or processes on the CPU (default: %(default)s)")
    parser.add_argument(
        "--device", choices=DEVICES, default="auto", help="default: a GPU if there is one, else the CPU"
    )
    parser.add_argument("--nj", type=int, default=1, help="processes that prepare data (default: %(default)s)")
    args = parser.parse_args(argv)
    jobs = [line.split() for line in args.plan.read_text(encoding="utf-8").splitlines()]
    if args.data:
        hours = sum(map(int, read_table(args.data / "utt2num_samples").values())) / SAMPLE_RATE / 3600
    elif args.audio:
        hours = hours_of(args.audio, args.subset)
    else:
        hours = args.hours if args.minutes is None else args.minutes / 60
    if args.few:
        hours = min(hours, math.prod(args.few) * UTTERANCE / 3600)
    device = alone(args.device).device
    if args.ngpu > 1 and device.type == "cpu" and args.device != "cpu":
        log.warning("no GPU is visible here; the times are of %d such CPUs", args.ngpu)
    config = load_config([args.config], args.set)
    files = {about[0] for _, kind, *about in jobs if kind == "pretrain"}
    configs = {file: load_config([args.config, file], args.set) for file in files}
    rates = measure(config, device, {kind for _, kind, *_ in jobs})
    setting = Setting(hours, config, rates, configs, args.recogniser_updates, args.probe_passes, args.ngpu, args.nj)
    print("\n".join(report(setting, jobs, args.download, device)))
    need, free = sum(disk(setting, jobs, args.download).values()), shutil.disk_usage(".").free
    if need > free:
        raise UserError(
            f"this disk is too small by {(need - free) / GB:.1f} GB; make room, or take another: --work DIR"
        )


if __name__ == "__main__":
    run(main)
