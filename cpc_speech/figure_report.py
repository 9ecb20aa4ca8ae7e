"""The report's section of figures: those that stage 7 has drawn."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cpc_speech.errors import UserError
from cpc_speech.files import atomic_write

ORDER = ("tsne", "steps_ahead", "learning_curves", "information", "phone_accuracy", "phone_confusion")


class Figure(NamedTuple):
    """``exp/figures/<name>.png``, and what ``<name>.json`` beside it says."""

    path: Path
    title: str
    caption: str
    experiments: list[str]
    command: str


def figures(exp: Path) -> list[Figure]:
    """All that there are, the known ones first.

    Raises:
        UserError: one has no description that can be read.
    """
    found = []
    for path in sorted(exp.glob("figures/*.png"), key=lambda path: (_place(path.stem), path.stem)):
        said = path.with_suffix(".json")
        try:
            facts = json.loads(said.read_text(encoding="utf-8"))
            found.append(Figure(path, *(facts[key] for key in Figure._fields[1:])))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{said}: does not describe its figure ({error}); draw it anew (stage 7)") from error
    return found


def _place(name: str) -> int:
    return ORDER.index(name) if name in ORDER else len(ORDER)


def section(found: list[Figure]) -> Iterable[str]:
    """Lines of the page; nothing where none was drawn. Files are named as ``copy`` leaves them."""
    if not found:
        return
    yield "## Figures"
    yield ""
    for figure in found:
        yield f"![{figure.title}](figures/{figure.path.name})"
        yield ""
        of = ", ".join(f"`{name}`" for name in figure.experiments)
        yield f"**{figure.title}.** {figure.caption} {f'Of {of}, by' if of else 'By'} `{figure.command}`."
        yield ""


def copy(found: list[Figure], folder: Path) -> None:
    """Put the pictures, and no others, into ``folder``."""
    for old in folder.glob("*.png"):
        if old.name not in {figure.path.name for figure in found}:
            old.unlink()
    for figure in found:
        with atomic_write(folder / figure.path.name, "wb") as file:
            file.write(figure.path.read_bytes())
