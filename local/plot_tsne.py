"""Draw Figure 2: representations of a few speakers' frames in the plane, from what cpc_speech/tsne.py left.

    python local/plot_tsne.py exp/mixed_speaker/tsne.c.json exp/baselines/tsne.mfcc.json --to exp/figures

A column is a representation; the upper row shows who speaks, the lower row the phones of the very same points.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import figures

from cpc_speech.errors import UserError, run
from cpc_speech.phones import BROAD_CLASSES, broad_class

SAME = ("speaker", "phone", "utterance", "frame")  # what tells which frames they are
NAMES = {"c": "CPC, $c_t$", "z": "CPC, $z_t$", "random": "untrained network", "mfcc": "13 MFCC",
         "mfcc39": "13 MFCC with deltas"}  # fmt: skip


def draw(maps: Sequence[dict[str, Any]]) -> Any:
    """A matplotlib Figure of results of cpc_speech.tsne, all of the same frames.

    Raises:
        UserError: they are of different frames.
    """
    points = maps[0]["points"]
    if any(other["points"][key] != points[key] for other in maps[1:] for key in SAME):
        raise UserError("the maps are of different frames; make all of them with the same options")
    speakers = sorted(set(points["speaker"]))
    rows = [("speaker", points["speaker"], speakers)]
    if all(classes := manners(maps[0])):
        rows.append(("phone", classes, [name for name in BROAD_CLASSES if name in classes]))
    figure = figures.new(4.9 * len(rows))
    for part, (what, classes, names) in zip(figure.subfigures(len(rows), 1, squeeze=False)[:, 0], rows):
        row = part.subplots(1, len(maps), squeeze=False)[0]
        row[0].set_ylabel("second dimension (no unit)", fontsize=figures.SMALL)
        for axes, facts in zip(row, maps):
            _scatter(axes, facts["points"], classes, names)
            axes.set_title(f"{NAMES[facts['representation']]}, by {what}", fontsize=figures.SMALL + 2)
        handles, labels = axes.get_legend_handles_labels()
        part.legend(
            handles, labels, loc="outside lower center", ncols=5 if what == "speaker" else 3, fontsize=figures.SMALL,
            frameon=False, markerscale=1.8, handletextpad=0.2, columnspacing=1.5,
        )  # fmt: skip
    return figure


def manners(facts: dict[str, Any]) -> list[str]:
    """Each point's manner of articulation; '' where phones are numbers, as the CPC authors' labels have them."""
    return [broad_class(phone) or "" for phone in facts["points"]["phone"]]


def _scatter(axes: Any, points: dict[str, Any], classes: Sequence[str], names: Sequence[str]) -> None:
    for number, name in enumerate(names):
        rows = [row for row, value in enumerate(classes) if value == name]
        marker = figures.MARKERS[number % len(figures.MARKERS)]
        line = marker in "x+"
        axes.scatter(
            [points["x"][row] for row in rows], [points["y"][row] for row in rows], s=11 if line else 8, marker=marker,
            color=figures.COLOURS[number % len(figures.COLOURS)], linewidths=0.8 if line else 0, label=name,
        )  # fmt: skip
    axes.set(xticks=[], yticks=[])
    axes.margins(0.02)
    axes.set_xlabel("first dimension (no unit)", fontsize=figures.SMALL)
    # One scale for both dimensions, in a square.
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    half = max(right - left, top - bottom) / 2
    x, y = (left + right) / 2, (bottom + top) / 2
    axes.set(xlim=(x - half, x + half), ylim=(y - half, y + half), box_aspect=1)


def caption(maps: Sequence[dict[str, Any]], experiments: Sequence[str]) -> str:
    """What the figure shows, in a paragraph."""
    first = maps[0]
    speakers = len(set(first["points"]["speaker"]))
    shown = "; ".join(
        NAMES[facts["representation"]].replace("$", "")
        + (f" of {exp}, after {facts['updates']:,} updates" if facts.get("updates") else "")
        for facts, exp in zip(maps, experiments)
    )
    below = ""
    if all(manners(first)):
        below = f" above and, the same points, by manner of articulation below (labels: {first['labels']})"
    return (
        f"t-SNE (perplexity {first['perplexity']:g}) of {first['frames_a_speaker']} frames of each of {speakers} "
        f"speakers of the {first['split']} split, by speaker{below}. From left to right: {shown}. Corresponds to the "
        "paper's Figure 2, which shows CPC by speaker. Only who is near whom means something: axes, sizes of clusters "
        "and the distances between them do not."
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("maps", type=Path, nargs="+", metavar="tsne.NAME.json")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="tsne.png, .pdf and .json go here")
    args = parser.parse_args(argv)
    maps = [figures.read(path, "points") for path in args.maps]
    experiments = [figures.experiment(path.parent, args.to) for path in args.maps]
    figures.publish(
        draw(maps), args.to, "tsne", title="Frames by speaker and by phone, t-SNE",
        caption=caption(maps, experiments), experiments=experiments,
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
