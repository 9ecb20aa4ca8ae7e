"""What a missing package's error tells to type is what pip takes."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from cpc_speech import errors
from cpc_speech.errors import UserError, require


def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words of the command, without the reason behind it."""
    monkeypatch.setitem(sys.modules, "lhotse", None)
    with pytest.raises(UserError) as caught:
        require("lhotse", "lhotse")
    return shlex.split(str(caught.value).partition("lhotse: ")[2].rpartition(" (")[0])


def test_of_a_clone_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    *command, source = told(monkeypatch)
    folder, extra = source[:-1].split("[")
    assert command == ["pip", "install", "-e"] and extra == "lhotse"
    assert "lhotse =" in (Path(folder) / "setup.cfg").read_text()


def test_of_an_installed_package_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "site-packages" / "cpc_speech" / "errors.py"))
    assert told(monkeypatch) == ["pip", "install", "cpc-speech[lhotse]"]
