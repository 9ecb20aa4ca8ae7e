"""cpc-speech: every command it lists is one."""

from __future__ import annotations

import configparser
import re
import sys
from pathlib import Path

import pytest

from cpc_speech.__main__ import COMMANDS, main


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_all_commands_are_listed(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cpc-speech", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    listed = [line.split()[0] for line in capsys.readouterr().out.partition("\n\n")[2].splitlines()]
    assert ended.value.code == 0 and listed == list(COMMANDS) and "extract" in listed


@pytest.mark.parametrize("command", COMMANDS)
def test_each_explains_itself(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/cpc-speech", command, "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().out
    assert ended.value.code == 0 and said.startswith(f"usage: cpc-speech {command} ")
    assert not re.search(r"\S +--\S+ .* {4,}--", said)  # an example's lines that have run into one


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["cpc-speech", "--version"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).resolve().parents[1] / "setup.cfg")
    assert capsys.readouterr().out == f"cpc-speech {setup['metadata']['version']}\n"


def test_an_unknown_one_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["cpc-speech", "extrakt"])
    with pytest.raises(SystemExit, match="no command extrakt"):
        main()
