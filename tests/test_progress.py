"""Bars: when they are shown off a terminal, and what stands between them."""

from __future__ import annotations

import io
import logging

import pytest

from cpc_speech.progress import LogHandler, Progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def shown(monkeypatch: pytest.MonkeyPatch, interval: str | None, updates: int, seconds: float) -> tuple[str, list[str]]:
    """What a bar of so many updates, each of so many seconds, writes; and its lines."""
    if interval is None:
        monkeypatch.delenv("TQDM_MININTERVAL", raising=False)
    else:
        monkeypatch.setenv("TQDM_MININTERVAL", interval)
    clock, out = Clock(), io.StringIO()
    monkeypatch.setattr("tqdm.std.time", clock)
    bar = Progress(range(updates), file=out, desc="work")
    for _ in bar:
        clock.now += seconds
    return out.getvalue(), out.getvalue().splitlines()


def test_off_a_terminal_there_are_lines_soon_and_then_one_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    text, lines = shown(monkeypatch, None, updates=600, seconds=1)  # pytest's standard error is no terminal
    assert "\r" not in text and text.endswith("\n")
    done = [int(line.split("/")[0].split()[-1]) for line in lines]
    assert done == [0, 2, 4, 8, 16, 32, 64, 124, 184, 244, 304, 364, 424, 484, 544, 600]
    assert "<" in lines[1] and "?" not in lines[1]  # a time left


def test_a_recipe_says_how_often(monkeypatch: pytest.MonkeyPatch) -> None:
    _, lines = shown(monkeypatch, "30", updates=100, seconds=1)
    assert [int(line.split("/")[0].split()[-1]) for line in lines] == [0, 2, 4, 8, 16, 32, 62, 92, 100]
    text, _ = shown(monkeypatch, "0.1", updates=100, seconds=1)  # its output ends in a terminal: the bar moves
    assert text.count("\r") > 100 and text.count("\n") == 1


def test_a_slow_update_is_shown_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _, lines = shown(monkeypatch, None, updates=3, seconds=100)
    assert len(lines) == 5  # the last update, and the end


def test_postfixes_alone_write_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TQDM_MININTERVAL", raising=False)
    out = io.StringIO()
    with Progress(total=9, file=out) as bar:
        for number in range(9):
            bar.set_postfix_str(f"loss {number}")
    assert len(out.getvalue().splitlines()) == 2 and "loss 8" in out.getvalue()


def test_log_lines_are_never_glued_to_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = logging.LogRecord("x", logging.INFO, "x", 1, "said meanwhile", None, None)
    for interval in ("60", "0.1"):
        monkeypatch.setenv("TQDM_MININTERVAL", interval)
        with Progress(total=2) as bar:
            bar.update()
            LogHandler().emit(record)
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert lines.count("said meanwhile") == 2
