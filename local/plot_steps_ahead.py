"""Draw Figure 3: how well models tell the frame k steps ahead, and how many nats that takes at least, from what
cpc_speech/steps_ahead.py left.

    python local/plot_steps_ahead.py exp/ablations/steps_20.seed1/steps_ahead.json [...] --to exp/figures

All models are measured on the same windows, so any number of them may stand in one figure. Leaves steps_ahead.png, .pdf
and .json, and information.png, .pdf and .json.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import figures

from cpc_speech.errors import UserError, require, run

PANELS = (("top1", "top-1 accuracy, %"), ("pairwise", "pairwise accuracy, %"))
SAME = (  # on what they were measured
    "candidates", "windows", "window_samples", "window_seed", "minibatches", "independent_windows", "draws",
)  # fmt: skip


def draw(models: Sequence[dict[str, Any]], names: Sequence[str]) -> Any:
    """A matplotlib Figure of results of cpc_speech.steps_ahead.

    Raises:
        UserError: they were measured on different windows.
    """
    if any(model[key] != models[0][key] for model in models for key in SAME):
        raise UserError("the models were measured on different windows; run all with the same --minibatches, once more")
    figure = figures.new(3.9)
    for axes, (measure, label) in zip(figure.subplots(1, 2), PANELS):
        _curves(axes, models, names, measure, label)
        guess = models[0]["chance"][measure]
        figures.chance(axes, guess, f"chance, {guess:.2g} %")
        axes.set_ylim(guess - (102 - guess) / 15, 102)
    figure.axes[0].legend(fontsize=figures.SMALL, frameon=False)
    return figure


def draw_information(models: Sequence[dict[str, Any]], names: Sequence[str]) -> Any:
    """A matplotlib Figure of the bounds of mutual information."""
    figure = figures.new(4.2)
    axes = figure.subplots()
    _curves(axes, models, names, "information", "mutual information, at least, nats")
    n = models[0]["independent_windows"]
    figures.chance(axes, math.log(n), f"log N, N = {n}: as much as can be shown", above=True)
    axes.set_ylim(min(0, axes.get_ylim()[0]), 1.08 * math.log(n))
    axes.legend(fontsize=figures.SMALL, frameon=False)
    return figure


def _curves(axes: Any, models: Sequence[dict[str, Any]], names: Sequence[str], measure: str, label: str) -> None:
    """One measure over steps ahead, with bands for its intervals."""
    for model, name, style in zip(models, names, figures.lines(len(models))):
        steps = range(1, model["steps"] + 1)
        low, high = zip(*model[f"{measure}_ci95"])
        axes.fill_between(steps, low, high, color=style.color, alpha=0.2, linewidth=0)
        axes.plot(steps, model[measure], **style._asdict(), markersize=4.5, linewidth=1.5, label=name)
    figures.plain(axes, "steps ahead (10 ms each)", label)
    axes.xaxis.set_major_locator(require("matplotlib.ticker", "analysis").MaxNLocator(10, integer=True))
    axes.set_xlim(0.5, max(model["steps"] for model in models) + 0.5)


def caption(models: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """What the figure shows, in a paragraph."""
    first = models[0]
    return (
        f"How well the frame k steps of 10 ms ahead is told from {first['candidates'] - 1:,} others: how often its "
        f"score is the highest (left), and how many of the others it exceeds (right). All models choose among the same "
        f"N = {first['candidates']:,} candidates, whatever negatives they were trained with: all frames of "
        f"{first['windows']} windows of {first['window_samples'] / 16000:g} s of the {first['split']} split, drawn of "
        f"any speakers, {first['minibatches']} times. Models: {'; '.join(names)}. "
        "Bands are 95 % intervals (bootstrap over these draws). Corresponds to the paper's Figure 3, "
        "whose text can be read either way."
    )


def information_caption(models: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """What its figure shows, in a paragraph."""
    first = models[0]
    return (
        "A lower bound of the mutual information of c_t and the frame k steps of 10 ms ahead (the paper, section 2.3): "
        f"log N − loss where each frame is to be told from {first['independent_windows'] - 1} others, one random frame "
        "of each of as many windows that were drawn independently; it holds for every model, and is loose for one that "
        "was trained to tell other candidates apart. The loss of training bounds nothing, as its negatives share "
        f"windows, and so speakers. Bands are 95 % intervals (Student's t over {first['draws']} draws of "
        f"{first['independent_windows']} windows of the {first['split']} split). Models: {'; '.join(names)}."
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="steps_ahead.json")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="the figures go here")
    args = parser.parse_args(argv)
    models = [figures.read(path, "top1", "pairwise", "information", "row") for path in args.models]
    experiments = [figures.experiment(path.parent, args.to) for path in args.models]
    names = figures.distinct([model["row"] for model in models], experiments)
    figures.publish(
        draw(models, names), args.to, "steps_ahead", title="Accuracy by steps ahead",
        caption=caption(models, names), experiments=experiments,
    )  # fmt: skip
    figures.publish(
        draw_information(models, names), args.to, "information", title="Mutual information by steps ahead, at least",
        caption=information_caption(models, names), experiments=experiments,
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
