"""The contract of run.sh (recipes/shared/stages.sh), on a small recipe with stages of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import termios
import time
from pathlib import Path
from typing import Any

import pytest
from patience import HANG

ROOT = Path(__file__).resolve().parents[1]

STUB = """#!/usr/bin/env bash
# A recipe for tests.

# shellcheck disable=SC2034
corpus=           # DIR with the corpus
                  # in any layout
words='two words' # said in stage 2
seed=1            # of something
stage=1           # first stage
stop_stage=9      # last stage
force=false       # again
work=             # DIR of the work
source "SHARED/stages.sh"

does[1]='make a' leaves[1]=a
does[2]='make b from a' leaves[2]=b
does[9]=report

stage_1() {
  uses corpus
  unfinished .done.1 || return 0
  run bash "$recipe/stage_1.sh"
  finish
}
stage_2() {
  need 1 .done.1 a
  uses words seed
  unfinished .done.2 || return 0
  run bash -c 'echo "$1" | cat a - > b; echo x >> times' _ "$words"
  finish
}
stage_9() {
  need 2 .done.2 b
  run cat b
}
begin "$@"
run_stages
"""

BAR = r"printf '\r 1%%\r50%%\r99%%\ndone\r\n'; touch a"
HANGS = """bash -c 'echo $$ > grandchild; exec sleep 300' | cat
touch a"""


class Recipe:
    """The stub in a folder of its own."""

    def __init__(self, folder: Path, stage_1: str = "echo A > a") -> None:
        self.folder = folder / "recipes" / "stub"
        self.folder.mkdir(parents=True)
        self.script = self.folder / "run.sh"
        self.script.write_text(STUB.replace("SHARED", str(ROOT / "recipes" / "shared")))
        self.script.chmod(0o755)
        self.set_stage_1(stage_1)
        for name in ("path.sh", "cmd.sh"):
            (self.folder / name).touch()

    def set_stage_1(self, command: str) -> None:
        (self.folder / "stage_1.sh").write_text(command + "\n")

    def __call__(self, *options: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.script), *options], cwd=cwd or self.folder, capture_output=True, text=True, timeout=HANG
        )

    def start(self, wait_for: str, **popen: Any) -> subprocess.Popen[str]:
        """Start it, and come back once the file ``wait_for`` has something in it."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | popen
        process = subprocess.Popen([str(self.script)], cwd=self.folder, text=True, **streams)
        file, deadline = self.folder / wait_for, time.monotonic() + HANG
        while not (file.exists() and file.read_text().strip()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return process

    def times(self) -> int:
        """How often stage 2 has done its work."""
        return len((self.folder / "times").read_text().split())


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe(tmp_path)


def test_all_stages_in_order(recipe: Recipe) -> None:
    result = recipe()
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("A\ntwo words\n")
    assert "option" not in result.stderr
    log = (recipe.folder / "exp" / "log" / "stage9.log").read_text()
    assert "cat b" in log and "two words" in log


def test_works_from_anywhere_and_reads_paths_from_there(recipe: Recipe, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    result = recipe("--corpus", "my/corpus", "--work", "here", cwd=elsewhere)
    assert result.returncode == 0, result.stderr
    assert (elsewhere / "here" / "b").exists() and not (recipe.folder / "b").exists()
    assert f"--corpus\t{elsewhere}/my/corpus\n" in (elsewhere / "here" / ".done.1").read_text()


@pytest.mark.parametrize("options", [("--words", "one"), ("--words=one",), ("--words", "zero", "--words", "one")])
def test_values(recipe: Recipe, options: tuple[str, ...]) -> None:
    assert recipe(*options).stdout.endswith("A\none\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sead", "3"], "there is no option --sead; did you mean --seed?"),
        (["--stop-stag", "3"], "did you mean --stop-stage?"),
        (["--qqqqq", "3"], "there is no option --qqqqq (see --help)"),
        (["--does", "3"], "there is no option --does"),
        (["3"], "'3' is no option"),
        (["--seed"], "--seed needs a value"),
        (["--words", "--seed", "3"], "--words needs a value"),
        (["--seed", "three"], "--seed is a whole number, not 'three'"),
        (["--force", "yes"], "--force is true or false, not 'yes'"),
        (["--stage", "3", "--stop-stage", "2"], "nothing to do"),
    ],
)
def test_bad_options_do_nothing(recipe: Recipe, options: list[str], message: str) -> None:
    result = recipe(*options)
    assert result.returncode == 1
    assert message in result.stderr
    assert not (recipe.folder / "a").exists() and not (recipe.folder / "exp").exists()


def test_help(recipe: Recipe) -> None:
    result = recipe("--help")
    assert result.returncode == 0
    assert "A recipe for tests." in result.stdout
    assert re.search(r"--corpus +DIR with the corpus\n +in any layout\n", result.stdout)
    assert re.search(r"--words +said in stage 2 \[two words\]\n", result.stdout)
    assert re.search(r"--stop-stage +last stage \[9\]\n", result.stdout)
    assert re.search(r"2 +make b from a -> b\n", result.stdout)


def test_a_stage_names_the_one_that_makes_what_it_lacks(recipe: Recipe) -> None:
    result = recipe("--stage", "2")
    assert result.returncode == 1
    assert "stage 2 needs .done.1, which stage 1 makes (make a)" in result.stderr
    assert "run it with --stage 1 --stop-stage 1\n" in result.stderr
    assert recipe().returncode == 0
    (recipe.folder / "a").unlink()
    assert "run it with --stage 1 --stop-stage 1 --force true\n" in recipe("--stage", "2").stderr


def test_done_is_skipped(recipe: Recipe) -> None:
    recipe()
    result = recipe()
    assert result.returncode == 0
    assert "stage 2: make b from a: done before, skipped (.done.2)" in result.stdout
    assert recipe.times() == 1


def test_other_options_are_refused_until_forced(recipe: Recipe) -> None:
    recipe()
    result = recipe("--words", "other", "--seed", "2")
    assert result.returncode == 1
    assert '--words was "two words", is now "other"' in result.stderr
    assert '--seed was "1", is now "2"' in result.stderr
    assert "--force true" in result.stderr
    assert recipe.times() == 1
    result = recipe("--words", "other", "--seed", "2", "--force")
    assert result.returncode == 0 and result.stdout.endswith("A\nother\n")
    assert recipe.times() == 2
    assert recipe("--words", "other", "--seed", "2").returncode == 0
    assert recipe.times() == 2


def test_other_input_is_noticed(recipe: Recipe) -> None:
    recipe()
    (recipe.folder / "a").write_text("B\n")
    assert "a has changed since" in recipe().stderr


def test_failure_shows_command_log_and_its_end(recipe: Recipe) -> None:
    recipe.set_stage_1("seq 100; echo it broke >&2; exit 3")
    result = recipe()
    assert result.returncode == 3
    log = recipe.folder / "exp" / "log" / "stage1.log"
    assert "stage 1 (make a) failed with status 3" in result.stderr
    assert f"command: bash {recipe.folder}/stage_1.sh\n" in result.stderr and f"log: {log}" in result.stderr
    assert "  | 100\n  | it broke\n" in result.stderr and "| 80\n" not in result.stderr
    assert not (recipe.folder / ".done.1").exists()
    recipe.set_stage_1("echo A > a")
    assert recipe().returncode == 0


def test_a_failed_rerun_is_not_taken_for_done(recipe: Recipe) -> None:
    recipe()
    recipe.set_stage_1("exit 1")
    assert recipe("--force", "true").returncode == 1
    assert "needs .done.1" in recipe("--stage", "2").stderr


def test_off_a_terminal_bars_are_lines_whose_last_one_the_log_keeps(recipe: Recipe) -> None:
    recipe.set_stage_1(BAR)
    result = recipe("--stop-stage", "1")
    assert result.stdout.endswith("\n 1%\n50%\n99%\ndone\n")
    assert (recipe.folder / "exp" / "log" / "stage1.log").read_text().endswith("\n99%\ndone\n")


def test_off_a_terminal_bars_are_lines_as_they_go_and_the_log_keeps_the_last(recipe: Recipe) -> None:
    wait = "until [ -e seen ]; do sleep 0.05; done"
    recipe.set_stage_1(rf"printf '\r 1%%\r50%%'; {wait}; printf '\r99%%\ndone\r\n'; touch a")
    shown, deadline = recipe.folder / "shown", time.monotonic() + HANG
    with open(shown, "wb") as file:
        process = recipe.start(wait_for="shown", stdout=file)
    while b"\n 1%\n" not in shown.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (recipe.folder / "seen").touch()
    process.communicate(timeout=HANG)
    assert b"\n 1%\n50%\n99%\ndone\n" in shown.read_bytes()
    assert (recipe.folder / "exp" / "log" / "stage1.log").read_text().endswith("\n99%\ndone\n")


def is_over(recipe: Recipe) -> bool:
    """Whether the process that HANGS started is gone, or a zombie that nobody has waited for yet."""
    command = ["ps", "-o", "stat=", "-p", (recipe.folder / "grandchild").read_text().strip()]
    return subprocess.run(command, capture_output=True, text=True).stdout[:1] in ("", "Z")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_then_run_again(recipe: Recipe, number: signal.Signals) -> None:
    """The signal goes to run.sh alone: it has to reach the command and what that started in turn."""
    recipe.set_stage_1(HANGS)
    process = recipe.start(wait_for="grandchild")
    process.send_signal(number)
    _, stderr = process.communicate(timeout=HANG)
    assert process.returncode == 128 + number
    assert stderr.endswith("interrupted in stage 1; run the same command again to go on\n")
    assert is_over(recipe)
    assert not (recipe.folder / ".done.1").exists() and not (recipe.folder / "a").exists()
    recipe.set_stage_1("echo A > a")
    assert recipe().returncode == 0


def test_a_command_that_answers_the_signal_has_the_last_word(recipe: Recipe) -> None:
    recipe.set_stage_1("trap 'echo saved; exit 130' INT; echo > up yes; while :; do sleep 0.1; done")
    process = recipe.start(wait_for="up")
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=HANG)
    assert process.returncode == 130
    assert stdout.endswith("saved\n")


def test_on_a_terminal_bars_move_and_control_c_works(recipe: Recipe) -> None:
    recipe.set_stage_1(f"{BAR}; {HANGS}")
    ours, theirs = os.openpty()
    process = recipe.start(
        wait_for="grandchild", stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, b"\x03")
    assert process.wait(timeout=HANG) == 130
    shown = b""
    with contextlib.suppress(OSError):  # the other side is closed
        while block := os.read(ours, 4096):
            shown += block
    assert b"\r 1%\r50%\r99%" in shown and b"interrupted in stage 1" in shown
    assert "\n99%\ndone\n" in (recipe.folder / "exp" / "log" / "stage1.log").read_text()
    assert is_over(recipe)


def test_of_a_corpus_only_the_subsets_that_are_used_count(tmp_path: Path) -> None:
    """One that is added beside them changes nothing, and its files, hundreds of thousands, are not looked at."""
    script, corpus = tmp_path / "run.sh", tmp_path / "the corpus" / "LibriSpeech"
    script.write_text(
        f'source "{ROOT}/recipes/shared/stages.sh"\n'
        'reads_folder "$@"\nprintf "%s\\n" "${fingerprint[@]}" | cut -f 2\n'
    )

    def digest(*folder_and_names: str) -> str:
        command = ["bash", str(script), *folder_and_names]
        return subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=True).stdout

    def add(name: str, content: str = "") -> None:
        (corpus / name).parent.mkdir(parents=True, exist_ok=True)
        (corpus / name).write_text(content)

    add("clean/1/2/1-2-3.flac")
    names = ("clean", "other")
    before, everything = digest(str(corpus), *names), digest(str(corpus))
    assert digest(str(corpus.parent), *names) == digest(str(corpus / "clean"), *names) == before != everything
    add("500/1/2/1-2-4.flac")
    assert digest(str(corpus), *names) == before and digest(str(corpus)) != everything
    add("other/1/2/1-2-5.flac")
    assert digest(str(corpus), *names) not in (before, digest(str(corpus), "clean"))
    add("clean/1/2/1-2-3.flac", "longer")
    assert digest(str(corpus), "clean") != before
