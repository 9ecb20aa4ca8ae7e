"""The report as one HTML page that needs nothing else: no network, no file beside it.

It is made from the very Markdown of RESULTS.md. Its looks, and the script that sorts its tables, are in
report.template.html.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from cpc_speech.errors import UserError, require

if TYPE_CHECKING:
    from markdown_it.token import Token

TEMPLATE = Path(__file__).with_name("report.template.html")
# What is sorted by its first figure: 57.2 (56.4–57.9), 6,000, +0.9 (+0.1 … +1.7), 45.0 ± 2.1 (n 3), 43.3 min, 17.07 h.
_NUMBER = re.compile(r"[+−-]?\d[\d,]*(\.\d+)?( (h|min|ms|%|± [\d.]+|\([^)]*\)|at [+-]\d+))*")


def to_html(text: str, folder: Path) -> str:
    """Markdown → page.

    Args:
        text: begins with a heading of the first level, the title; whatever HTML is in it is shown, not obeyed.
        folder: where the pictures lie that it names.

    Raises:
        UserError: markdown-it-py is missing, or a picture.
    """
    options = {"html": False, "xhtmlOut": False}
    markdown = require("markdown_it", "analysis").MarkdownIt("commonmark", options).enable("table")
    markdown.add_render_rule("text", _text)
    markdown.add_render_rule("table_open", _table_open)
    markdown.add_render_rule("table_close", lambda *_: "</table></div>\n")
    _, title, _, *tokens = markdown.parse(text)
    contents = []
    for number, (opens, inline) in enumerate(zip(tokens, tokens[1:])):
        if opens.type == "heading_open" and opens.tag == "h2":
            name = re.sub(r"\W+", "-", inline.content.lower()).strip("-")
            opens.attrSet("id", name)
            contents.append(f'<li><a href="#{name}">{html.escape(inline.content)}</a></li>')
        elif opens.type == "table_open":
            _mark_numbers(tokens[number:])
        for child in opens.children or []:
            if child.type == "image":
                child.attrSet("src", _data_uri(folder / str(child.attrGet("src"))))
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=html.escape(title.content),
        contents="\n".join(contents),
        body=markdown.renderer.render(tokens, markdown.options, {}),
    )


def _text(renderer: object, tokens: Sequence[Token], number: int, *_: object) -> str:
    return re.sub(r"(?<=\d) (?=%)", "\u00a0", html.escape(tokens[number].content, quote=False))


def _table_open(renderer: object, tokens: Sequence[Token], number: int, *_: object) -> str:
    """Wraps a table so that a wide one scrolls by itself, by keyboard as well."""
    numbered = ' class="numbered"' if _first_heading(tokens[number:]) == "no." else ""
    return f'<div class="table" tabindex="0"><table{numbered}>\n'


def _first_heading(tokens: Sequence[Token]) -> str:
    return next(inline.content for opens, inline in zip(tokens, tokens[1:]) if opens.type == "th_open")


def _mark_numbers(tokens: Sequence[Token]) -> None:
    """Mark columns most of whose cells are numbers, heading and those cells, with the class "number", and "interval" if
    any has one. Numbers of rows, under "no.", are not decimals and are left alone."""
    end = next(i for i, token in enumerate(tokens) if token.type == "table_close")
    columns: dict[int, list[tuple[Token, str]]] = {}
    column = 0
    for opens, inline in zip(tokens[:end], tokens[1:]):
        if opens.type == "tr_open":
            column = 0
        elif opens.type in ("th_open", "td_open"):
            columns.setdefault(column, []).append((opens, inline.content))
            column += 1
    for (heading, name), *cells in map(list, columns.values()):
        full = [content for _, content in cells if content]
        numbers = [content for content in full if _NUMBER.fullmatch(content)]
        if name == "no." or 2 * len(numbers) <= len(full):
            continue
        kind = "number interval" if any(" (" in content or "±" in content for content in numbers) else "number"
        heading.attrSet("class", kind)
        for opens, content in cells:
            if content in numbers:
                opens.attrSet("class", kind)


def _data_uri(picture: Path) -> str:
    try:
        return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
    except OSError as error:
        raise UserError(f"{picture}: cannot be read ({error.strerror}); write the report anew (stage 9)") from error
