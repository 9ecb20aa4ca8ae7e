"""Print docs/scaling.md: what pretraining costs, by the configuration's arithmetic and what ``make bench`` measured.

    python local/scaling.py bench.json > docs/scaling.md

The words are in scaling.template.md; here are the numbers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from cpc_speech.config import Config
from cpc_speech.cost import multiply_adds, operations, parameters, update_operations, update_seconds
from cpc_speech.errors import run

PAPER = Config()  # 512 channels, 8 minibatches of 8 windows
SMALL = Config(channels=256, minibatches=1)

# Data sheets: dense bf16 operations a second, bytes of memory a second, bytes a second to other GPUs, one way.
GPUS = {"A100 SXM": (312e12, 2.0e12, 300e9), "H100 SXM": (989e12, 3.35e12, 450e9)}
# Guesses, each to be replaced by a measurement.
MATRIX_SHARE = 0.4  # of the data sheet's rate, in products of this size
TRAFFIC = 5  # times that a saved activation crosses the memory bus in an update
LAUNCH = 6e-6  # seconds that starting one operation takes Python, forward or backward
RECURRENT_STEP = 20e-6  # seconds of one frame of the GRU, forward and backward
BIG_HOURS, BIG_UTTERANCES = 60_000, 13e6  # Libri-Light, in utterances of LibriSpeech's length
INDEX_BYTES = 40 + 16  # an utterance: in PackedAudio, with ids of 14 bytes (tests/test_packed.py), and WindowSampler


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    args = parser.parse_args(argv)
    bench = json.loads(args.bench.read_text(encoding="utf-8"))
    template = Path(__file__).with_name("scaling.template.md").read_text(encoding="utf-8")
    print(template.format(**costs(), **measured(bench), **extrapolated(bench)), end="")


def costs() -> dict[str, Any]:
    """What follows from the configurations."""
    return {
        "work_rows": "\n".join(_work_row(config) for config in (SMALL, PAPER)),
        "weights": parameters(PAPER) / 1e6,
        "weights_mb": 16 * parameters(PAPER) / 1e6,
        "checkpoint_mb": 12 * parameters(PAPER) / 1e6,
        "gradient_mb": 4 * parameters(PAPER) / 1e6,
    }


def measured(bench: dict[str, Any]) -> dict[str, Any]:
    """What ``make bench`` found."""
    m = bench["medians"]
    parts, update, reference = m["breakdown"], m["update"], m["reference"]
    work = operations(SMALL)
    work["scores"] += work.pop("predictors")
    saved = parts["saved_mb_per_window"] * SMALL.windows
    return {
        **{key: bench[key] for key in ("extracted", "machine", "commit", "date")},
        "torch": bench["versions"]["torch"],
        "saved_256": parts["saved_mb_per_window"],
        "saved_512": parts["saved_mb_per_window_512"],
        "saved_8": saved,
        "update_ms": 1000 * update["seconds"],
        "realtime": update_seconds(SMALL) / update["seconds"],
        "time_ratio": bench["update_time_ratio"],
        "reference_s": reference["seconds"],
        "own_mb": update["own_mb"],
        "total_mb": update["total_mb"],
        "memory_ratio": bench["update_memory_ratio"],
        "reference_mb": reference["own_mb"],
        "reference_total_mb": reference["total_mb"],
        "parts_ms": 1000 * sum(parts[name] for name in (*work, "optimiser")),
        "part_rows": "\n".join(_part_row(name, parts[name], work[name], parts["matrix_rate"]) for name in work),
        "optimiser_ms": 1000 * parts["optimiser"],
        "matrix_rate": parts["matrix_rate"] / 1e12,
        "matrix_rate_fp32": parts["matrix_rate_fp32"] / 1e12,
        "copy_rate": parts["copy_rate"] / 1e9,
        "products_ms": 1000 * sum(work.values()) / parts["matrix_rate"],
        "traffic": TRAFFIC,
        "traffic_ms": 1000 * TRAFFIC * saved * 1e6 / parts["copy_rate"],
        "encoder_ratio": bench["encoder_conv_ratio"],
        "windows_per_second": bench["windows_per_second"],
        "growth_small": m["growth"]["small_mb"],
        "growth": bench["rss_growth_mb"],
        "extract": bench["extract_realtime"],
        "extract_ratio": bench["extract_ratio"],
    }


def extrapolated(bench: dict[str, Any]) -> dict[str, Any]:
    """What that would mean for 8 GPUs."""
    parts = bench["medians"]["breakdown"]
    saved = parts["saved_mb_per_window_512"] * 1e6 * PAPER.windows
    updates = {gpu: gpu_update(gpu, saved, parts["operators"]) for gpu in GPUS}
    times = [update_time(seconds) for seconds in updates.values()]
    heard = update_seconds(PAPER)
    need = PAPER.windows / min(times)
    return {
        "matrix_share": MATRIX_SHARE,
        "launch_us": 1e6 * LAUNCH,
        "operators": parts["operators"],
        "step_us": 1e6 * RECURRENT_STEP,
        "gpu_rows": "\n".join(_gpu_row(gpu, seconds) for gpu, seconds in updates.items()),
        "pass_updates": BIG_HOURS * 3600 / heard / 1e6,
        "pass_tb": BIG_HOURS * 3600 * 32_000 / 1e12,
        "index_gb": BIG_UTTERANCES * INDEX_BYTES / 1e9,
        "need": need,
        "need_share": need / bench["windows_per_second"],
        "need_mb": 8 * need * 2 * PAPER.window_samples / 1e6,
        "slow": heard / (2 * max(times)),
        "fast": 2 * heard / min(times),
        "gpu_mb": 2 * (saved + 16 * parameters(PAPER)) / 1e6,
    }


def gpu_update(gpu: str, saved: float, operators: float) -> dict[str, float]:
    """Seconds of one GPU's part of the paper's update, a minibatch, by what they would be spent on."""
    matrix, memory, link = GPUS[gpu]
    return {
        "products": update_operations(PAPER) / PAPER.minibatches / (MATRIX_SHARE * matrix),
        "memory": TRAFFIC * saved / memory,
        "recurrence": RECURRENT_STEP * PAPER.frames,
        "launches": LAUNCH * operators,
        "exchange": 2 * 7 / 8 * 4 * parameters(PAPER) / link,  # a ring of 8 sends 7/8 of it twice
    }


def update_time(seconds: dict[str, float]) -> float:
    """Operations are started while others run, so the slower of the two counts; the exchange waits for both."""
    busy = seconds["products"] + seconds["memory"] + seconds["recurrence"]
    return max(busy, seconds["launches"]) + seconds["exchange"]


def _work_row(config: Config) -> str:
    work = multiply_adds(config)
    total = sum(work.values())
    cells = [f"{value / 1e6:,.0f} ({value / total:.0%})" for value in work.values()]
    return f"| {config.channels} | {' | '.join(cells)} | {6 * total / 1e9:.1f} |"


def _part_row(name: str, seconds: float, operations: float, matrix_rate: float) -> str:
    rate = operations / seconds
    name = "predictors and scores" if name == "scores" else name
    return f"| {name} | {1000 * seconds:.1f} | {rate / 1e12:.2f} | {rate / matrix_rate:.0%} |"


def _gpu_row(gpu: str, seconds: dict[str, float]) -> str:
    update = update_time(seconds)
    cells = [f"{1000 * value:.2f}" for value in (*seconds.values(), update)]
    once = BIG_HOURS * 3600 / update_seconds(PAPER) * update
    return f"| {gpu} | {' | '.join(cells)} | {PAPER.updates * update / 3600:.1f} h | {once / 3600:.1f} h |"


if __name__ == "__main__":
    run(main)
