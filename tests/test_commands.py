"""cpc-speech: every command it lists is one."""

from __future__ import annotations

import sys

import pytest

from cpc_speech.__main__ import COMMANDS, main


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_all_commands_are_listed(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cpc-speech", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]]
    assert ended.value.code == 0 and listed == list(COMMANDS) and "extract" in listed


@pytest.mark.parametrize("command", COMMANDS)
def test_each_explains_itself(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/cpc-speech", command, "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0 and capsys.readouterr().out.startswith(f"usage: cpc-speech {command} ")


def test_an_unknown_one_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["cpc-speech", "extrakt"])
    with pytest.raises(SystemExit, match="no command extrakt"):
        main()
