"""What make test-k2 says where it cannot have its Python; what it does where it can, it does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "local" / "k2_environment.sh"


def stub(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def attempt(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The script with a python3.9 on its path that fails, as pyenv's shim does where 3.9 is not chosen."""
    stub(tmp_path / "bin" / "python3.9", "echo pyenv: python3.9: command not found >&2; exit 127")
    environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path)} | variables
    return subprocess.run([SCRIPT, tmp_path / "env"], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("variables", [{}, {"PYTHON39": "/nowhere/python3.9"}])
def test_without_python_39(tmp_path: Path, variables: dict[str, str]) -> None:
    done = attempt(tmp_path, **variables)
    assert done.returncode == 2 and not (tmp_path / "env").exists()
    [line] = done.stderr.splitlines()
    assert "No Python 3.9" in line and f"tried {variables.get('PYTHON39', 'python3.9')})" in line
    assert "apt-get install python3.9 python3.9-venv" in line and "PYTHON39=" in line


def test_takes_pyenvs_and_says_where_k2_does_not_load(tmp_path: Path) -> None:
    """The interpreter is a stand-in: it works, makes an environment of stand-ins, and k2 does not load there."""
    root = tmp_path / "pyenv"
    stub(tmp_path / "bin" / "pyenv", f"echo {root}")
    inner = 'case "$*" in *"import k2"*) echo no k2 >&2; exit 1;; esac'
    outer = (
        f'case "$*" in *venv\\ --clear*) mkdir -p {tmp_path}/env/bin; cp "$0.inner" {tmp_path}/env/bin/python;; esac'
    )
    stub(root / "versions" / "3.9.18" / "bin" / "python3.9", outer)
    stub(root / "versions" / "3.9.18" / "bin" / "python3.9.inner", inner)
    done = attempt(tmp_path)
    assert done.returncode == 2 and "Installing k2==1.23.4" in done.stdout
    assert "no k2" in done.stderr and f"this is {os.uname().sysname} {os.uname().machine}" in done.stderr
    assert not (tmp_path / "env" / ".installed").exists()
