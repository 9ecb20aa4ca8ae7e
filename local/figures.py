"""What the figures have in common: their size, marks that also differ in grey, and how they are written.

A figure of the report is three files, exp/figures/<name>.png, .pdf and .json; the last says what the others show.
"""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cpc_speech.errors import UserError, require
from cpc_speech.files import atomic_write
from cpc_speech.provenance import command

WIDTH, DPI = 9.0, 120  # inches, and pixels an inch: small print is legible where the figure is 900 pixels wide
SMALL = 8  # points: ticks, legends
GREY = "#6e6e6e"  # of what is not data: chance, bounds
_PNG_COLOURS = 64  # as many as a smooth line needs; a quarter of the bytes that all of them take


class Line(NamedTuple):
    """How a model's curve is drawn."""

    color: str
    linestyle: Any
    marker: str


# Any two differ in marker, and in lightness or dashes.
LINES = [
    Line("#14346b", "-", "o"),
    Line("#e08214", (0, (5, 1.5)), "s"),
    Line("#9c1c44", (0, (1.2, 1.2)), "^"),
    Line("#2a9d8f", (0, (6, 1.5, 1.2, 1.5)), "D"),
    Line("#7fb3dd", "-", "v"),
    Line("#5b5b5b", (0, (3, 3)), "x"),
    Line("#b79ad6", (0, (1.2, 2.4)), "P"),
    Line("#3f6b1f", (0, (8, 2, 1.2, 2, 1.2, 2)), "*"),
]
# Of classes of points: 10 colours and 7 markers, so that 70 classes differ. Neighbours, and those of one marker, differ
# in lightness too.
COLOURS = [
    "#14346b", "#e08214", "#2a9d8f", "#9c1c44", "#8cc1ea", "#4d4d4d", "#e5c42b", "#d79ad0", "#5e2f0d", "#a8d08d",
]  # fmt: skip
MARKERS = ["o", "^", "s", "x", "v", "D", "+"]


def new(height: float, width: float = WIDTH) -> Any:
    """An empty matplotlib Figure of this size in inches; its contents are laid out when it is written."""
    matplotlib = require("matplotlib.figure", "analysis")
    return matplotlib.Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def lines(number: int) -> list[Line]:
    """Styles of so many curves; beyond those of LINES, colours recur with other markers."""
    turns = range(number)
    return [LINES[i % len(LINES)]._replace(marker=LINES[(i + i // len(LINES)) % len(LINES)].marker) for i in turns]


def plain(axes: Any, x: str, y: str, title: str = "") -> None:
    """Label the axes, and leave out the frame's idle sides."""
    axes.set_xlabel(x, fontsize=SMALL + 1)
    axes.set_ylabel(y, fontsize=SMALL + 1)
    axes.set_title(title, fontsize=SMALL + 2)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)


def chance(axes: Any, y: float, text: str, above: bool = False) -> None:
    """A line at the height that guessing reaches, named where no curves are: below it, or above where they fall."""
    axes.axhline(y, color=GREY, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
    axes.annotate(text, (1, y), (-3, 3 if above else -3), xycoords=("axes fraction", "data"),
                  textcoords="offset points", ha="right", va="bottom" if above else "top",
                  fontsize=SMALL, color=GREY)  # fmt: skip


def experiment(folder: Path, figures: Path) -> str:
    """What an experiment's folder is called beside the folder of figures, exp/figures: ``ablations/steps_20.seed1``."""
    return os.path.relpath(folder, figures.parent)


def distinct(names: Sequence[str], experiments: Sequence[str]) -> list[str]:
    """Names for a legend: where two are the same, with the experiment behind them."""
    count = Counter(names)
    return [f"{name} ({exp})" if count[name] > 1 else name for name, exp in zip(names, experiments)]


def save(figure: Any, path: Path) -> None:
    """Write one file, of the kind that its name ends in.

    Raises:
        UserError: there is no such kind.
    """
    kinds = figure.canvas.get_supported_filetypes()
    kind = path.suffix[1:]
    if kind not in kinds:
        raise UserError(f"{path}: the name must end in one of {' '.join(kinds)}")
    content = io.BytesIO()
    # Without the time, so that the same data gives the same file.
    figure.savefig(content, format=kind, metadata={"CreationDate": None} if kind == "pdf" else None)
    if kind == "png":
        content = _fewer_colours(content)
    with atomic_write(path, "wb") as file:
        file.write(content.getbuffer())


def publish(figure: Any, folder: Path, name: str, *, title: str, caption: str, experiments: Sequence[str]) -> None:
    """Write a figure of the report as ``folder/<name>.png`` and ``.pdf``, and ``.json``, which says what it shows.

    Args:
        title: a few words.
        caption: a paragraph: what is shown, of what, measured on what.
        experiments: the folders it was drawn from, as ``experiment`` names them.
    """
    for kind in ("pdf", "png"):
        save(figure, folder / f"{name}.{kind}")
    facts = {"title": title, "caption": caption, "experiments": list(experiments), "command": command()}
    with atomic_write(folder / f"{name}.json") as file:
        json.dump(facts, file, indent=1)


def read(path: Path, *keys: str) -> dict[str, Any]:
    """A result in JSON.

    Raises:
        UserError: there is none, or it lacks one of ``keys``, as one written by an older version may.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the command that makes it first")
    facts = json.loads(path.read_text(encoding="utf-8"))
    if missing := [key for key in keys if key not in facts]:
        raise UserError(
            f"{path} lacks {', '.join(missing)}; run what makes it again (of a recipe: the stage, with --force true)"
        )
    return facts


def _fewer_colours(png: io.BytesIO) -> io.BytesIO:
    image = require("PIL.Image", "analysis")  # comes with matplotlib
    reduced = io.BytesIO()
    with image.open(png) as full:
        full.convert("RGB").quantize(_PNG_COLOURS, dither=image.Dither.NONE).save(reduced, "png", optimize=True)
    return reduced
