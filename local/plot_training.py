"""Draw how models were trained.

    python local/plot_training.py exp/mixed_speaker exp/ablations/steps_20.seed1 [...] --to exp/figures

From each experiment's config.yaml and metrics.jsonl come learning_curves.png, .pdf and .json: the loss as a share of
chance, ln N, so that models with different numbers of candidates have one scale.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import figures

from cpc_speech.ablation_report import model_name
from cpc_speech.config import load_config
from cpc_speech.errors import UserError, require, run
from cpc_speech.metrics import read_metrics

POINTS = 60  # at most, of a smoothed training curve


def learning_curves(models: Sequence[Path], names: Sequence[str]) -> Any:
    """A matplotlib Figure of the losses of experiments over their updates.

    Raises:
        UserError: one has no curves.
    """
    lines, ticker = require("matplotlib.lines", "analysis"), require("matplotlib.ticker", "analysis")
    figure = figures.new(4.6)
    axes = figure.subplots()
    for exp, name, style in zip(models, names, figures.lines(len(models))):
        chance = math.log(load_config([exp / "config.yaml"]).num_candidates)
        train, dev = (curve(exp, split, chance) for split in ("train", "dev"))
        if not train:
            raise UserError(f"{exp}/metrics.jsonl has no line of the train split; pretrain it first (stage 4)")
        axes.plot(*zip(*smooth(train)), color=style.color, linewidth=2.5, alpha=0.3, solid_capstyle="butt")
        axes.plot(*zip(*dev or smooth(train)), **style._asdict(), markersize=4.5, linewidth=1.4, label=name)
    figures.chance(axes, 1, "chance, ln N", above=True)
    figures.plain(axes, "updates", "loss / ln N")
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    axes.set_ylim(0, max(1.08, axes.get_ylim()[1]))
    axes.set_xlim(left=0)
    faint = lines.Line2D([], [], color=figures.GREY, linewidth=2.5, alpha=0.4, label="faint: on train, smoothed")
    axes.legend(handles=[*axes.get_legend_handles_labels()[0], faint], fontsize=figures.SMALL, frameon=False)
    return figure


def curve(exp: Path, split: str, chance: float) -> list[tuple[float, float]]:
    """Updates and losses, as a share of ``chance``, of one split."""
    return [(line["update"], line["loss"] / chance) for line in read_metrics(exp, split)]


def smooth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most POINTS points, each the mean of equally many neighbours; the last may be of fewer."""
    each = -(-len(points) // POINTS)
    blocks = [points[first : first + each] for first in range(0, len(points), each)]
    return [(sum(x for x, _ in block) / len(block), sum(y for _, y in block) / len(block)) for block in blocks]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="EXP")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="the figures go here")
    args = parser.parse_args(argv)
    experiments = [figures.experiment(exp, args.to) for exp in args.models]
    rows = [model_name(load_config([exp / "config.yaml"])) for exp in args.models]
    names = figures.distinct(rows, experiments)
    figures.publish(
        learning_curves(args.models, names), args.to, "learning_curves", title="Learning curves",
        caption="InfoNCE loss, averaged over all steps ahead, as a share of the loss of guessing, ln N: on fixed "
        "windows of the dev split and, faint, on the training minibatches, smoothed. N is the number of candidates of "
        "each model's own negatives, so heights compare only between models with the same negatives and steps. Models: "
        f"{'; '.join(names)}.",
        experiments=experiments,
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
