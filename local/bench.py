"""What the engine gains: times and memory beside those of the obvious formulation, as ratios within one run.

    make bench                               # prints them and writes bench.json
    make bench ARGS='--corpus DIR'           # extraction from the FLAC files of DIR instead of made-up ones

Each part (local/bench_part.py) runs in a process of its own, ``--repeats`` times, in turn with the others; medians are
taken. Nothing else should run meanwhile: a busy core makes threads wait for each other.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch

from cpc_speech import cost, machine
from cpc_speech.config import Config
from cpc_speech.errors import UserError, run
from cpc_speech.files import atomic_write
from cpc_speech.progress import Progress
from cpc_speech.provenance import ROOT, provenance

CONFIG = Config(channels=256, minibatches=1)  # 8 windows, 12 steps, all negatives, precision auto
CPU = torch.device("cpu")
PASSES = 5  # over the activations that an update needs: written and read forward, read backward, their gradients both
TOGETHER = 40  # updates of each of two trainings at one time
PARTS = ("update", "pair", "reference", "encoder", "breakdown", "windows", "growth", "extract", "long")
LONG_MINUTES = 20  # of the longer file whose extraction is watched
SMALL = 3000  # utterances of the smaller corpus, 3 s each


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="folder whose FLAC files are extracted (the first 200)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", type=Path, default=ROOT / "bench.json")
    args = parser.parse_args(argv)
    measured: dict[str, list[dict[str, float]]] = {part: [] for part in PARTS}
    with tempfile.TemporaryDirectory() as folder:
        make_corpora(Path(folder), args.corpus)
        environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "CUDA_VISIBLE_DEVICES": ""}  # of the CPU
        for part in Progress([*PARTS] * args.repeats, desc="bench", unit="part"):
            measured[part].append(pair(folder, environment) if part == "pair" else measure(part, folder, environment))
    medians = {
        part: {key: statistics.median(numbers[key] for numbers in runs) for key in runs[0]}
        for part, runs in measured.items()
    }
    result = summary(medians)
    with atomic_write(args.write) as file:
        files = args.corpus.resolve().name if args.corpus else "low-passed noise"
        facts = {"precision": precision(), "extracted": files, "medians": medians, "runs": measured, **provenance()}
        json.dump({**result, **facts}, file, indent=1)
        file.write("\n")
    print("\n".join(lines(result, medians)))


def start(part: str, folder: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "local/bench_part.py"), part, folder]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def result_of(process: subprocess.Popen[str], part: str) -> dict[str, float]:
    """What a part prints."""
    said, _ = process.communicate()
    if process.returncode:
        raise UserError(f"bench: the part {part!r} failed; its own message stands above")
    return json.loads(said.splitlines()[-1])


def measure(part: str, folder: str, environment: dict[str, str]) -> dict[str, float]:
    return result_of(start(part, folder, environment), part)


def pair(folder: str, environment: dict[str, str]) -> dict[str, float]:
    """Two trainings at one time: what an update takes the slower of them."""
    environment = environment | {"BENCH_UPDATES": str(TOGETHER)}
    both = [start("update", folder, environment) for _ in range(2)]
    return {"seconds": max(result_of(process, "pair")["seconds"] for process in both)}


def limit(parts: dict[str, float]) -> float:
    """Seconds of an update whose products reach the machine's rate, and that passes over its activations so often."""
    activations = parts["saved_mb_per_window"] * CONFIG.windows * 1e6
    return cost.update_operations(CONFIG) / parts["matrix_rate"] + PASSES * activations / parts["copy_rate"]


def summary(m: dict[str, dict[str, float]]) -> dict[str, float]:
    """The ratios: of times reference / ours, of memory reference / ours; and the rates."""
    limit_seconds = limit(m["breakdown"])
    return {
        "update_seconds": m["update"]["seconds"],
        "limit_seconds": limit_seconds,
        "update_over_limit": m["update"]["seconds"] / limit_seconds,
        "pair_ratio": m["pair"]["seconds"] / m["update"]["seconds"],
        "update_time_ratio": m["reference"]["seconds"] / m["update"]["seconds"],
        "update_memory_ratio": m["update"]["own_mb"] / m["reference"]["own_mb"],
        "encoder_conv_ratio": m["encoder"]["plain_seconds"] / m["encoder"]["seconds"],
        "windows_per_second": m["windows"]["per_second"],
        "rss_growth_mb": m["growth"]["growth_mb"],
        "extract_realtime": m["extract"]["realtime"],
        "extract_ratio": m["extract"]["realtime"] / m["extract"]["plain_realtime"],
        "extract_growth_mb": m["long"]["growth_mb"],
    }


def precision() -> str:
    return machine.resolve(CONFIG.precision, CPU)


def lines(result: dict[str, float], m: dict[str, dict[str, float]]) -> Iterator[str]:
    update, reference, parts = m["update"], m["reference"], m["breakdown"]
    yield (
        f"update of {CONFIG.windows} windows, {CONFIG.channels} channels, {precision()}: "
        f"{1000 * update['seconds']:.0f} ms, "
        f"{result['update_time_ratio']:.1f} times as fast as the reference ({reference['seconds']:.2f} s)"
    )
    yield (
        f"  memory: {update['own_mb']:.0f} MB over torch's own, {result['update_memory_ratio']:.2f} of the reference's "
        f"{reference['own_mb']:.0f} MB (whole processes: {update['total_mb']:.0f} and {reference['total_mb']:.0f} MB)"
    )
    work = cost.operations(CONFIG)
    work["scores"] += work.pop("predictors")
    for name in ("encoder", "context", "scores"):
        rate = work[name] / parts[name]
        yield (
            f"  {name:9}{1000 * parts[name]:6.1f} ms: {rate / 1e12:.2f}e12 operations a second, "
            f"{rate / parts['matrix_rate']:.0%} of the machine's matrix rate"
        )
    yield f"  optimiser{1000 * parts['optimiser']:6.1f} ms"
    yield (
        f"  machine: {parts['matrix_rate'] / 1e12:.2f}e12 operations a second in products of 2048 x 2048, "
        f"copies {parts['copy_rate'] / 1e9:.1f} GB/s; at these rates an update would take "
        f"{1000 * result['limit_seconds']:.0f} ms: ours takes {result['update_over_limit']:.2f} times as long"
    )
    yield f"two trainings at one time: an update takes {result['pair_ratio']:.2f} times as long as one alone"
    encoder = m["encoder"]
    yield (
        f"encoder, forward and backward: {1000 * encoder['seconds']:.0f} ms, {result['encoder_conv_ratio']:.2f} times "
        f"as fast as by nn.Conv1d in the same precision ({1000 * encoder['plain_seconds']:.0f} ms)"
    )
    yield f"windows loaded on one core: {result['windows_per_second']:,.0f} a second"
    yield (
        f"anonymous memory of trainer and 2 workers: {m['growth']['small_mb']:.0f} MB with {SMALL:,} utterances, "
        f"{result['rss_growth_mb']:+.1f} MB with {10 * SMALL:,}"
    )
    yield (
        f"extraction of c_t from FLAC files to an archive: {result['extract_realtime']:.0f} times real time, "
        f"{result['extract_ratio']:.1f} times a plain fp32 loop over files ({m['extract']['plain_realtime']:.0f})"
    )
    yield (
        f"  memory: at most {m['long']['minute_mb']:.0f} MB for a file of a minute, "
        f"{result['extract_growth_mb']:+.0f} MB for one of {LONG_MINUTES}"
    )


def make_corpora(work: Path, corpus: Path | None) -> None:
    """``1`` and ``10``: packed noise, the second ten times the first by hard links; ``flac``: files to extract."""
    rng = np.random.default_rng(0)
    samples, per_shard = 48_000, 100
    shard = work / "audio.i16"
    (1000 * rng.standard_normal(samples * per_shard)).astype("<i2").tofile(shard)
    for name, number in (("1", SMALL), ("10", 10 * SMALL)):
        folder = work / name
        folder.mkdir()
        for i in range(number // per_shard):
            os.link(shard, folder / f"audio.{i:04d}.i16")
        ids = [f"{i % 251:04d}-{i:06d}" for i in range(number)]
        order = sorted(range(number), key=ids.__getitem__)
        places = [f"audio.{p // per_shard:04d}.i16:{p % per_shard * samples}" for p in range(number)]
        tables = {
            "audio.scp": [f"{ids[i]} {place}" for i, place in zip(order, places)],
            "utt2num_samples": [f"{ids[i]} {samples}" for i in order],
            "utt2spk": [f"{ids[i]} {ids[i][:4]}" for i in order],
        }
        for table, rows in tables.items():
            (folder / table).write_text("\n".join(rows) + "\n")
        (folder / "splits").mkdir()
        (folder / "splits" / "dev.list").write_text("".join(f"{ids[i]}\n" for i in order[:100]))
    (work / "flac").mkdir()
    if corpus is not None:
        found = sorted(corpus.resolve().rglob("*.flac"))[:200]
        if not found:
            raise UserError(f"{corpus}: no FLAC files in it")
        for i, file in enumerate(found):
            (work / "flac" / f"{i:03d}.flac").symlink_to(file)
        return
    for i, length in enumerate(rng.uniform(2, 16, 200)):  # as long as LibriSpeech's, low-passed as speech is
        noise = np.convolve(rng.standard_normal(int(16000 * length)), np.hanning(16) / 8, mode="same")
        soundfile.write(work / "flac" / f"{i:03d}.flac", 0.1 * noise, 16000)


if __name__ == "__main__":
    run(main)
