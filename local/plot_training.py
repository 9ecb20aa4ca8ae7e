"""Draw how models were trained: their learning curves, and the information they end with, by step ahead.

    python local/plot_training.py exp/mixed_speaker exp/ablations/steps_20.seed1 [...] --to exp/figures

From each experiment's config.yaml, metrics.jsonl and train.json come learning_curves.png, .pdf and .json: the loss as a
share of chance, ln N, so that models with different numbers of candidates have one scale; and information.png, .pdf and
.json: log N − loss on the dev windows at the end. A model without a dev loss, as a small corpus leaves, is not in the
second one.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import figures

from cpc_speech.ablation_report import model_name
from cpc_speech.config import load_config
from cpc_speech.errors import UserError, require, run
from cpc_speech.metrics import read_metrics

log = logging.getLogger(__name__)

POINTS = 60  # at most, of a smoothed training curve
BOUND, NO_BOUND = "a lower bound of mutual information", "a number to watch, no bound"


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


def information(models: Sequence[dict[str, Any]], names: Sequence[str]) -> Any:
    """A matplotlib Figure of log N − loss by step ahead, of what train.json says.

    Filled marks and lines are bounds of mutual information, hollow marks on faint lines are not.
    """
    ticker = require("matplotlib.ticker", "analysis")
    figure = figures.new(5.0)
    axes = figure.subplots()
    for facts, name, style in zip(models, names, figures.lines(len(models))):
        gained = [math.log(facts["candidates"]) - loss for loss in facts["dev_loss"]]
        bound = facts["log_n_minus_loss_is_a_bound"]
        axes.plot(
            range(1, len(gained) + 1), gained, **style._asdict(), label=f"{name}: {BOUND if bound else NO_BOUND}",
            linewidth=2 if bound else 1, markersize=5, markerfacecolor=style.color if bound else "white",
        )  # fmt: skip
    for rank, n in enumerate(sorted({facts["candidates"] for facts in models}, reverse=True)):
        axes.axhline(math.log(n), color=figures.GREY, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
        # 1,024 and 897 are near each other: one stands above its line, the others below theirs.
        axes.annotate(f"log N, N = {n:,}", (1, math.log(n)), (3, 0), xycoords=("axes fraction", "data"),
                      textcoords="offset points", va="top" if rank else "bottom",
                      fontsize=figures.SMALL, color=figures.GREY)  # fmt: skip
    figures.plain(axes, "steps ahead (10 ms each)", "log N − loss, nats")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(10, integer=True))
    axes.set_ylim(bottom=min(-0.15, axes.get_ylim()[0]))
    figure.legend(loc="outside lower center", ncols=2, fontsize=figures.SMALL, frameon=False)
    return figure


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

    found = [figures.read(exp / "train.json", "dev_loss") for exp in args.models]
    shown = [place for place, facts in enumerate(found) if facts["dev_loss"]]
    for place in set(range(len(found))) - set(shown):
        log.warning("%s has no dev loss, and is not in the figure of information", args.models[place])
    if shown:
        models, names = [found[place] for place in shown], [names[place] for place in shown]
        figures.publish(
            information(models, names), args.to, "information", title="log N − loss by steps ahead",
            caption=information_caption(models, names), experiments=[experiments[place] for place in shown],
        )  # fmt: skip
    else:
        for old in args.to.glob("information.*"):  # of models that are no more
            old.unlink()


def information_caption(models: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """What the figure shows, in a paragraph."""
    bounds = [name for name, facts in zip(names, models) if facts["log_n_minus_loss_is_a_bound"]]
    return (
        "log N − loss on fixed windows of the dev split at the end of training, by steps ahead, of "
        f"{'; '.join(names)}. It is a lower bound of the mutual information of c_t and the frame so many steps ahead "
        "(the paper, section 2.3) only where negatives come from other windows of independently drawn speakers: "
        f"{'here, ' + '; '.join(bounds) if bounds else 'none of the models here'}. "
        "Elsewhere it is a number to watch. It cannot exceed log N."
    )


if __name__ == "__main__":
    run(main)
