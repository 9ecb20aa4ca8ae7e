r"""Draw how well each phone is recognised, and what it is taken for, from phone probes' results.

    python local/plot_phones.py exp/mixed_speaker/probes/c.phone.linear.json \
        exp/baselines/probes/mfcc.phone.linear.json --lang data/lang --to exp/figures

Leaves phone_accuracy.png, .pdf and .json, of all the results given, and phone_confusion.png, .pdf and .json, of the
first. Phones are grouped by manner of articulation, within it those first that the first result's classifier recognises
best; those that do not occur in the test split are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import figures
import numpy as np

from cpc_speech.errors import UserError, run
from cpc_speech.phones import BROAD_CLASSES, broad_class, read_symbols
from cpc_speech.probe_facts import fits
from cpc_speech.probe_report import row_label

BAR = (0, 1, 5, 20, 50, 100)  # per cent, named beside the scale of darkness


def order(confusion: np.ndarray, phones: Sequence[str]) -> list[int]:
    """Classes that occur, by manner of articulation and, within one, by falling accuracy."""
    manners = list(BROAD_CLASSES)
    share = accuracy(confusion)

    def key(number: int) -> tuple:
        manner = broad_class(phones[number])
        return manners.index(manner) if manner else 0, -share[number]

    return sorted(np.flatnonzero(confusion.sum(1)).tolist(), key=key)


def accuracy(confusion: np.ndarray) -> np.ndarray:
    """Per cent of each class's frames that are recognised, NaN of a class that does not occur: (classes,)."""
    total = confusion.sum(1)
    return 100 * confusion.diagonal() / np.where(total > 0, total, np.nan)


def draw_accuracy(confusions: Sequence[np.ndarray], names: Sequence[str], phones: Sequence[str]) -> Any:
    """A matplotlib Figure: a column a phone, a mark a classifier; below, how frequent the phone is.

    Args:
        confusions: frames of the test split (classes, classes), rows the labels' classes; all of the same frames. Of
            a probe with several seeds, their mean.
        phones: the classes' names.

    Raises:
        UserError: the classifiers were not tested on the same frames.
    """
    first = confusions[0]
    if not all(np.allclose(other.sum(1), first.sum(1), rtol=0, atol=0.5) for other in confusions):  # half a frame
        raise UserError("the classifiers were tested on different frames; probe all of them with the same labels")
    shown = order(first, phones)
    figure = figures.new(4.8)
    above, below = figure.subplots(2, sharex=True, height_ratios=[4, 1])
    for confusion, name, style in zip(confusions, names, figures.lines(len(confusions))):
        above.plot(accuracy(confusion)[shown], color=style.color, marker=style.marker, linestyle="none", markersize=5,
                   label=f"{name}, all frames {100 * confusion.trace() / confusion.sum():.1f} %")  # fmt: skip
    figures.plain(above, "", "frames recognised, %")
    above.set_ylim(-2, 102)
    above.grid(axis="y", color="#dddddd", linewidth=0.6)
    figure.legend(loc="outside upper center", fontsize=figures.SMALL, frameon=False, ncols=3)
    below.bar(range(len(shown)), 100 * first.sum(1)[shown] / first.sum(), color=figures.GREY, width=0.7)
    figures.plain(below, "phone", "share, %")
    below.set_xticks(range(len(shown)), [phones[number] for number in shown], fontsize=figures.SMALL - 0.5)
    below.set_xlim(-0.7, len(shown) - 0.3)
    limits = [-0.5, *breaks(shown, phones), len(shown) - 0.5]
    for left, right in zip(limits, limits[1:]):
        for axes in (above, below):
            axes.axvline(right, color="#aaaaaa", linewidth=0.8 if right < limits[-1] else 0)
        if right - left > 2:  # where there is room for it
            manner = broad_class(phones[shown[round(left + 0.5)]]) or ""
            above.annotate(manner, ((left + right) / 2, 1), (0, 2), xycoords=("data", "axes fraction"),
                           textcoords="offset points", ha="center", fontsize=figures.SMALL - 0.5)  # fmt: skip
    return figure


def draw_confusion(confusion: np.ndarray, phones: Sequence[str]) -> Any:
    """A matplotlib Figure: rows the labels' phones, columns the classifier's, each row's shares of its frames."""
    shown = order(confusion, phones)
    shares = 100 * confusion[np.ix_(shown, shown)] / confusion.sum(1)[shown, None]
    figure = figures.new(8.4)
    axes = figure.subplots()
    # Square roots, so that a confusion of a few per cent is still seen.
    image = axes.imshow(np.sqrt(shares), cmap="Greys", vmin=0, vmax=10)
    names = [phones[number] for number in shown]
    axes.set_xticks(range(len(shown)), names, fontsize=figures.SMALL - 0.5, rotation=90)
    axes.set_yticks(range(len(shown)), names, fontsize=figures.SMALL - 0.5)
    axes.set_xlabel("taken for", fontsize=figures.SMALL + 1)
    axes.set_ylabel("phone of the label", fontsize=figures.SMALL + 1)
    for place in breaks(shown, phones):
        axes.axhline(place, color="#c0562b", linewidth=0.7)
        axes.axvline(place, color="#c0562b", linewidth=0.7)
    bar = figure.colorbar(image, ax=axes, shrink=0.5, aspect=30, pad=0.01)
    bar.ax.set_yticks([share**0.5 for share in BAR], map(str, BAR), fontsize=figures.SMALL)
    bar.set_label("of the phone's frames, %", fontsize=figures.SMALL)
    return figure


def breaks(shown: Sequence[int], phones: Sequence[str]) -> list[float]:
    """Between which places the manner of articulation changes."""
    manners = [broad_class(phones[number]) for number in shown]
    return [place - 0.5 for place in range(1, len(shown)) if manners[place] != manners[place - 1]]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", metavar="NAME.phone.KIND.json")
    parser.add_argument("--lang", type=Path, required=True, metavar="DIR", help="with phones.txt, the classes' names")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="the figures go here")
    args = parser.parse_args(argv)
    phones = read_symbols(args.lang)[1:]
    facts = [figures.read(path, "confusion") for path in args.results]
    # What a probe wrote is summed over its seeds.
    confusions = [np.array(one["confusion"]) / fits(one) for one in facts]
    experiments = [figures.experiment(path.parent.parent, args.to) for path in args.results]
    names = figures.distinct([row_label(one) for one in facts], experiments)
    labels = f"labels: {facts[0]['labels']}"
    figures.publish(
        draw_accuracy(confusions, names, phones), args.to, "phone_accuracy", title="Accuracy by phone",
        caption=f"Share of each phone's frames of the test split that are recognised ({labels}): {'; '.join(names)}. "
        "Phones stand by manner of articulation (vowels, approximants, nasals, fricatives and affricates, stops, "
        "silence), in the order of the first one's accuracy; below, how frequent they are.",
        experiments=experiments,
    )  # fmt: skip
    figures.publish(
        draw_confusion(confusions[0], phones), args.to, "phone_confusion", title=f"Confusions of phones: {names[0]}",
        caption=f"What the frames of each phone of the test split are taken for by {names[0]} ({labels}): shares "
        "of the row's frames, whose square root is how dark a square is, so that small ones are seen. Lines divide the "
        "manners of articulation: vowels, approximants, nasals, fricatives and affricates, stops, silence.",
        experiments=experiments[:1],
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
