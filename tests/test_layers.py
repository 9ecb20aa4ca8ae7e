"""The library knows no corpus: data_prep imports cpc_speech, never the other way round, and local/ imports both."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = {path.stem for path in (ROOT / "local").glob("*.py")}


def imported(path: Path) -> set[str]:
    """The top-level names of all that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import; write the whole name"
            found.add(str(node.module).partition(".")[0])
    return found


@pytest.mark.parametrize(
    ("folder", "above"), [("cpc_speech", {"data_prep", *SCRIPTS, "tests"}), ("data_prep", {*SCRIPTS, "tests"})]
)
def test_a_layer_imports_none_above_it(folder, above):
    wrong = {path.name: names for path in (ROOT / folder).glob("*.py") if (names := imported(path) & above)}
    assert not wrong
