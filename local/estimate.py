"""Say what a run will need in disk, memory and time, before it starts.

    python local/estimate.py --hours 100.6 --download 6.3 --config conf/cpc.yaml --models mixed_speaker
    python local/estimate.py --audio /my/recordings --unlabelled --config conf/cpc.yaml --models mixed_speaker

Sizes and operations follow from the configuration; how fast a GPU gets through them was not measured.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import soundfile

from cpc_speech.config import Config, load_config
from cpc_speech.cost import parameters, update_operations, update_seconds
from cpc_speech.errors import UserError, run
from cpc_speech.segments import SUFFIXES
from data_prep.librispeech import find_subsets

log = logging.getLogger(__name__)

GB = 1e9
FLAC_BYTES_PER_HOUR = 6.6 * GB / 100.6  # train-clean-100, extracted
BASELINES = {"mfcc": 13, "mfcc39": 39, "fbank": 80}  # values a frame
HELD_OUT, OUTPUTS = 0.28, 10  # share of dev and test; values a frame: 39 phones and the blank, every 4 frames
BYTES_A_FRAME = 12  # of RAM: the labels of a frame, as they are read and as targets


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


class Labelled(NamedTuple):
    """What a run does with audio that has labels."""

    layers: Sequence[str] = ("c",)  # that are probed
    at_once: int = 1  # probes of Table 2's models
    recognisers: int = 0  # of each kind of features


def probed(config: Config, labelled: Labelled) -> int:
    """Values a frame that probes keep on the disk at one time, and read 10 times for each fit."""
    dims = {"c": config.context_dim, "z": config.channels}
    return max([dims[layer] for layer in labelled.layers] + [labelled.at_once * config.context_dim])


def disk(
    hours: float, config: Config, models: int, download: float, labelled: Labelled | None, features: Sequence[str] = ()
) -> dict[str, float]:
    """Bytes that the run will write, by what they are for; ``features``: those that stage 8 keeps."""
    sizes, frames = {}, hours * 3600 * 100
    if download:
        sizes["archive"] = download * GB
        sizes["corpus, extracted"] = hours * FLAC_BYTES_PER_HOUR
    sizes["packed audio"] = hours * 3600 * 16000 * 2
    sizes["checkpoints"] = parameters(config) * 4 * 3 * config.keep_checkpoints * models
    if labelled:
        sizes["features being probed"] = frames * probed(config, labelled) * 2
    if features:
        values = sum(BASELINES.get(name, config.context_dim) for name in features)
        sizes[f"features for ASR: {' '.join(features)}"] = frames * values * 4
    if labelled and (recognisers := labelled.recognisers * len(features)):
        sizes[f"outputs of {recognisers} recognisers"] = recognisers * frames * HELD_OUT * OUTPUTS * 4
    return sizes


def report(
    hours: float, config: Config, models: Sequence[str], download: float, labelled: Labelled | None,
    features: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    sizes = disk(hours, config, len(models), download, labelled, features)
    total, free = sum(sizes.values()), shutil.disk_usage(".").free
    heard = config.updates * update_seconds(config) / 3600
    work = config.updates * update_operations(config) * len(models)
    lines = [f"{hours:.1f} hours of audio, {len(models)} model(s): {' '.join(models)}. This run will need"]
    lines += [f"  disk    {size / GB:7.2f} GB  {what}" for what, size in sizes.items()]
    lines += [f"  disk    {total / GB:7.2f} GB  in all, {free / GB:.1f} GB are free in {os.getcwd()}"]
    lines += ["  memory  about 2 GB of RAM, and 2 GB on the GPU (estimated)"]
    if labelled:
        ram = hours * 3600 * 100 * BYTES_A_FRAME / GB
        lines[-1] += f"; {ram:.1f} GB more for the labels of probes, whose"
        lines += ["          features are read from the disk again and again, unless as much RAM is free as they take"]
    else:
        lines[-1] += "; it does not grow with the corpus"
    lines += [
        f"  time    {config.updates:,} updates of {config.minibatches} x {config.windows} windows hear {heard:,.0f} h "
        f"of audio a model; {work:.1e} operations in all,",
        f"          {work / 30e12 / 3600:.1f} h where a GPU sustains 30e12 a second. "
        "GPU time was not measured: the progress bar will tell",
    ]
    if total > free:
        lines += [f"  This disk is too small by {(total - free) / GB:.1f} GB: free some, or take another: --work DIR"]
    return lines


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--hours", type=float)
    source.add_argument("--audio", type=Path, metavar="DIR", help="count the hours in this folder")
    parser.add_argument("--subset", nargs="*", default=[], metavar="NAME", help="of it, if not all")
    parser.add_argument("--download", type=float, default=0.0, metavar="GB", help="size of the archive fetched first")
    parser.add_argument("--unlabelled", action="store_true", help="there will be no probes")
    parser.add_argument("--config", action="append", default=[])
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--features", nargs="*", default=[], metavar="NAME", help="what stage 8 writes")
    parser.add_argument("--layers", nargs="+", choices=("c", "z"), default=["c"], help="what of a model is probed")
    parser.add_argument("--probes-at-once", type=int, default=1, metavar="N", help="of the models of Table 2")
    parser.add_argument("--recognisers", type=int, default=0, metavar="N", help="of each kind of features")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="overrides of the configuration")
    args = parser.parse_args(argv)
    config = load_config(args.config, args.set)
    hours = hours_of(args.audio, args.subset) if args.audio else args.hours
    labelled = None if args.unlabelled else Labelled(args.layers, args.probes_at_once, args.recognisers)
    print("\n".join(report(hours, config, args.models, args.download, labelled, args.features)))


if __name__ == "__main__":
    run(main)
