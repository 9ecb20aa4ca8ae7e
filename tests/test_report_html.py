"""The report as one HTML page: read by Python's own parser, and shown by a browser where there is one."""

from __future__ import annotations

import base64
import html.parser
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("markdown_it")

from patience import HANG

from cpc_speech.errors import UserError
from cpc_speech.figure_report import copy, figures, section
from cpc_speech.html_report import to_html

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
# 3 × 2 pixels, red: written out, as a reader of PNG checks every byte.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAMAAAACCAIAAAASFvFNAAAAEElEQVR4nGP4z8AAQQxwFgBB0gX7h/C5SAAAAABJRU5ErkJggg=="
)
TEXT = """# A & B <script>alert(1)</script>

Measured on <b>noise</b> & "more", at 95 % of https://example.org/x.png.

## Table <1>

| no. | | phone, % | updates | state |
|---|---|---|---|---|
| | most frequent class | 17.5 | | |
| 1.1 | random | 29.8 (29.0–30.6) | | b |
| 1.10 | ten | -3.1 (-4.0 … -2.2) | 12,000 | a |
| 1.9 | nine | begun, update 3 of 10 | 700 | C |
| 1.2 | two | 157.2 (156.4–157.9) | 6,000 | `<i>` |

## Pretraining

| experiment | wall time |
|---|---|
| b | 43.3 min |
| a | 5.0 min |

![A figure](figures/red.png)

**A figure.** With *words*.
"""
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(html.parser.HTMLParser):
    """What is in a page: tags with their attributes, the text of tables' cells, and that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        assert len(dict(attributes)) == len(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "tags are closed in order"

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data
        if not {"script", "style"} & set(self.open):
            self.text += data


@pytest.fixture
def page(tmp_path: Path) -> str:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "red.png").write_bytes(PNG)
    return to_html(TEXT, tmp_path)


def markdown_tables(text: str) -> list[list[list[str]]]:
    """Cells of all tables of a Markdown text without escaped bars."""
    tables: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if not line.startswith("|"):
            tables.append([])
        elif not re.fullmatch(r"[|-]+", line):
            tables[-1].append([cell.strip().replace("`", "") for cell in line.split("|")[1:-1]])
    return [table for table in tables if table]


def test_every_table_is_there_and_its_text_is_escaped(page: str) -> None:
    found = Page(page)
    assert found.tables == markdown_tables(TEXT)
    assert '<b>noise</b> & "more", at 95\u00a0% of https://example.org/x.png.' in found.text
    names = [tag for tag, _ in found.tags]
    assert names.count("h1") == 1 and "b" not in names and names.count("script") == 2
    assert re.search(r"<title>A &amp; B &lt;script&gt;alert\(1\)&lt;/script&gt;</title>", page)


def test_contents_lead_to_headings(page: str) -> None:
    found = Page(page)
    targets = [attributes["href"] for tag, attributes in found.tags if tag == "a"]
    ids = [attributes["id"] for tag, attributes in found.tags if tag == "h2"]
    assert targets == [f"#{name}" for name in ids] and len(set(ids)) == 2
    assert ids == ["table-1", "pretraining"]
    assert [found.text.count(text) for text in ("Table <1>", "Pretraining")] == [2, 2], "in the contents, and in place"


def test_nothing_is_loaded(page: str) -> None:
    """Pictures are in the page, and the page forbids the rest."""
    for tag, attributes in Page(page).tags:
        for key in ("src", "href", "srcset", "data", "action", "poster"):
            assert (attributes.get(key) or "#").startswith(("#", "data:")), (tag, attributes)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", page)
    policy = next(attributes for _, attributes in Page(page).tags if "http-equiv" in attributes)
    assert str(policy["content"]).startswith("default-src 'none'; img-src data:;")
    assert f"data:image/png;base64,{base64.b64encode(PNG).decode()}" in page


def test_columns_of_numbers_are_known(page: str) -> None:
    """By most of their cells; a row's number is none."""
    classes = [attributes.get("class") for tag, attributes in Page(page).tags if tag == "th"]
    assert classes == [None, None, "number interval", "number", None, None, "number"]


def test_a_picture_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="red.png: cannot be read"):
        to_html(TEXT, tmp_path)


def draw(exp: Path, name: str, **facts: object) -> None:
    (exp / "figures").mkdir(exist_ok=True, parents=True)
    (exp / "figures" / f"{name}.png").write_bytes(PNG)
    said = {"title": name.upper(), "caption": "Seen.", "experiments": ["m"], "command": "draw it"} | facts
    (exp / "figures" / f"{name}.json").write_text(json.dumps(said))


def test_figures_stand_in_their_order(tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    for name in ("another", "information", "zebra", "steps_ahead", "tsne"):
        draw(exp, name)
    (exp / "figures" / "tsne.pdf").touch()
    lines = list(section(figures(exp)))
    shown = [line for line in lines if line.startswith("![")]
    order = ("tsne", "steps_ahead", "information", "another", "zebra")
    assert shown == [f"![{name.upper()}](figures/{name}.png)" for name in order]
    assert "**TSNE.** Seen. Of `m`, by `draw it`." in lines
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.png").touch()
    copy(figures(exp), tmp_path / "figures")
    assert sorted(path.stem for path in (tmp_path / "figures").iterdir()) == sorted(order)
    assert list(section([])) == []


def test_a_figure_without_a_description_names_it(tmp_path: Path) -> None:
    draw(tmp_path, "tsne")
    (tmp_path / "figures" / "tsne.json").write_text('{"title": "x"}')
    with pytest.raises(UserError, match="tsne.json: .*'caption'.*stage 7"):
        figures(tmp_path)


# What the browser finds, left in the page as text: it sorts by the headings as a reader would.
PROBE = """<pre id="found"></pre><script>
addEventListener("load", () => {
  const tables = document.querySelectorAll("table");
  const click = (table, column) => tables[table].querySelectorAll("th button")[column].click();
  const names = (table, column) => [...tables[table].tBodies[0].rows].map((row) => row.cells[column].textContent);
  const found = { width: [...document.images].map((image) => image.complete ? image.naturalWidth : 0), sorted: {} };
  for (const [column, title] of [[0, "no."], [2, "phone"], [3, "updates"], [4, "state"]]) {
    found.sorted[title] = ["up", "down", "back"].map(() => { click(0, column); return names(0, 1); });
  }
  click(1, 1);
  found.minutes = names(1, 0);
  found.marks = document.querySelectorAll("[aria-sort]").length;
  const paper = () => getComputedStyle(document.body).backgroundColor;
  found.papers = [paper()];
  document.getElementById("theme").click();
  found.papers.push(paper());
  found.loaded = performance.getEntriesByType("resource").map((entry) => entry.name)
    .filter((name) => !name.startsWith("data:"));
  document.getElementById("found").textContent = JSON.stringify(found);
});
</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on PATH")
def test_in_a_browser(page: str, tmp_path: Path) -> None:
    """No error, no request, tables that sort, pictures that show, two themes."""
    assert BROWSER
    file = tmp_path / "page.html"
    file.write_text(page.replace("</body>", PROBE))
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * 0.0.0.0",
         "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000",
         "--dump-dom", file.as_uri()],
        capture_output=True, text=True, timeout=HANG,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    said = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert said and said[1], done.stdout[-3000:] + done.stderr
    found = json.loads(html.unescape(said[1]))
    assert found["width"] == [3] and found["loaded"] == []
    as_it_was = ["most frequent class", "random", "ten", "nine", "two"]
    assert found["sorted"] == {
        # By number, 1.9 before 1.10; what has no value stays at the end.
        "no.": [
            ["random", "two", "nine", "ten", "most frequent class"],
            ["ten", "nine", "two", "random", "most frequent class"],
            as_it_was,
        ],
        "phone": [
            ["ten", "most frequent class", "random", "two", "nine"],
            ["two", "random", "most frequent class", "ten", "nine"],
            as_it_was,
        ],
        "updates": [
            ["nine", "two", "ten", "most frequent class", "random"],
            ["ten", "two", "nine", "most frequent class", "random"],
            as_it_was,
        ],
        "state": [
            ["two", "ten", "random", "nine", "most frequent class"],
            ["nine", "random", "ten", "two", "most frequent class"],
            as_it_was,
        ],
    }
    assert found["minutes"] == ["a", "b"] and found["marks"] == 1  # 5.0 before 43.3
    assert len(set(found["papers"])) == 2
