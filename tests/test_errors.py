"""What is told in place of a traceback: of a missing package, what pip takes; of a full disk, which file."""

from __future__ import annotations

import errno
import io
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from patience import HANG
from runs import ROOT

from cpc_speech import errors
from cpc_speech.errors import UserError, require, run, writing
from cpc_speech.files import atomic_write


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


def told_by_run(work: Callable[[], None]) -> object:
    with pytest.raises(SystemExit) as ended:
        run(work)
    return ended.value.code


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_with_its_file(tmp_path: Path, code: int) -> None:
    def work() -> None:
        with atomic_write(tmp_path / "matrix"):
            raise OSError(code, "No room")

    said = f"error: {tmp_path}/matrix: cannot be written (No room); make room, and run the same command again"
    assert told_by_run(work) == said
    assert not list(tmp_path.iterdir())


def test_a_full_disk_behind_another_error(tmp_path: Path) -> None:
    """torch's, which is what comes of the system's; the innermost name is the one that is told."""

    class Full(io.BytesIO):
        def write(self, content: object) -> int:
            raise OSError(errno.ENOSPC, "No room")

    def work() -> None:
        with writing("out"), writing("weights.pt"):
            torch.save({"x": torch.ones(3)}, Full())

    assert (
        told_by_run(work) == "error: weights.pt: cannot be written (No room); make room, and run the same command again"
    )


def test_other_errors_of_the_system_are_faults_of_ours() -> None:
    def work() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "x")

    with pytest.raises(PermissionError):
        run(work)


@pytest.mark.parametrize(
    "command", ["cpc_speech.train", "cpc_speech train", "cpc_speech extract", "data_prep.pack", "data_prep.align"]
)
def test_ctrl_c_during_imports_ends_in_a_line(command: str, tmp_path: Path) -> None:
    """torch takes seconds to import; here ctrl-C comes while numpy or torch is."""
    for name in ("torch", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise KeyboardInterrupt\n")
    done = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)}, timeout=HANG,
    )  # fmt: skip
    assert done.stderr == "interrupted; run the same command again to go on\n" and not done.stdout
    assert done.returncode in (130, -signal.SIGINT)
