"""local/check_dependencies.py: what is missing is told all at once, with the command that installs it."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

from cpc_speech.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = ROOT / "local" / "check_dependencies.py"
    spec = importlib.util.spec_from_file_location("check_dependencies", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reads_setup_cfg(script: ModuleType) -> None:
    core = script.requirements(["core"])
    assert any(line.startswith("torch>=") for line in core)
    both = script.requirements(["core", "align"])
    assert both[: len(core)] == core and any(line.startswith("pocketsphinx") for line in both[len(core) :])


def test_unknown_part(script: ModuleType) -> None:
    with pytest.raises(UserError, match="no part alling; it has core, align"):
        script.requirements(["alling"])


def test_all_that_is_wrong_is_told_at_once(script: ModuleType) -> None:
    pytest_version = metadata.version("pytest")
    with pytest.raises(UserError) as caught:
        script.check(["pytest>=1", "no-such-package-a>=1.0", "pytest>=999", "no-such-package-b"])
    message = str(caught.value)
    assert "4 packages, 3 cannot be used" in message
    assert "no-such-package-a>=1.0 is missing" in message and "no-such-package-b is missing" in message
    assert f"pytest>=999 is {pytest_version}, too old" in message
    assert "-m pip install 'no-such-package-a>=1.0' 'pytest>=999' no-such-package-b" in message


@pytest.mark.parametrize(
    ("version", "least", "enough"),
    [("2.11.0+cpu", "2.9", True), ("2.9", "2.11", False), ("5.0.0", "5.0", True), ("0.9.8", "0.9.8", True)],
)
def test_versions_compare_by_number(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, version: str, least: str, enough: bool
) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: version)
    assert (script.problem(f"anything>={least}") is None) == enough


def test_a_package_that_does_not_load(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise OSError("libtorch_cuda.so: cannot open shared object file")

    monkeypatch.setattr(script.importlib, "import_module", fail)
    assert "does not load (libtorch_cuda.so" in script.problem("torchaudio>=2.0")


@pytest.mark.parametrize(("version", "right"), [("1.7.17", True), ("1.7.18", True), ("1.8", False), ("1.8.3", False)])
def test_too_new(script: ModuleType, monkeypatch: pytest.MonkeyPatch, version: str, right: bool) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: version)
    assert script.problem("anything>=1.7.17,<1.8") == (None if right else f"is {version}, too new")
