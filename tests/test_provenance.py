"""The commit that stands beside numbers, of small repositories."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cpc_speech import provenance


def test_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        author = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *author, *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.commit() == "unknown"
    published = [tmp_path / "recipes" / "mini" / name for name in ("RESULTS.md", "report.html", "figures/a.png")]
    code = tmp_path / "recipes" / "mini" / "run.sh"
    for path in [*published, code]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("before")
    git("init")
    git("add", ".")
    git("commit", "-m", "all")
    head = git("rev-parse", "HEAD")[:10]
    assert provenance.commit() == head
    for path in published:
        path.write_text("after")
    assert provenance.commit() == head
    (tmp_path / "notes").write_text("not git's")
    assert provenance.commit() == head
    code.write_text("after")
    assert provenance.commit() == f"{head}+"
