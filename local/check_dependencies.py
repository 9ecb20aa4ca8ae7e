"""Check at once every Python package that a recipe's stages need.

    python local/check_dependencies.py core align

The names are parts of setup.cfg: ``core`` for install_requires, any other an extra of extras_require. All packages
that are missing, too old or too new are listed together, with the one line that installs them.
"""

from __future__ import annotations

import argparse
import configparser
import importlib
import logging
import re
import shlex
import sys
from importlib import metadata
from pathlib import Path

from cpc_speech.errors import UserError, run

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[1]
BINARY = ("torch", "torchaudio", "soundfile")  # installed does not mean loadable: these link libraries


def requirements(parts: list[str], setup_cfg: Path = ROOT / "setup.cfg") -> list[str]:
    """The requirement lines, such as ``numpy>=1.26``, of the named parts of setup.cfg."""
    config = configparser.ConfigParser()
    config.read(setup_cfg, encoding="utf-8")
    lists = {"core": config["options"]["install_requires"], **config["options.extras_require"]}
    if unknown := [part for part in parts if part not in lists]:
        raise UserError(f"{setup_cfg} has no part {unknown[0]}; it has {', '.join(lists)}")
    return [line for part in parts for line in map(str.strip, lists[part].splitlines()) if line and line[0] != "#"]


def problem(requirement: str) -> str | None:
    """What is wrong with one requirement here and now, or None."""
    match = re.fullmatch(r"([\w.-]+)(?:>=([\d.]+))?(?:,<([\d.]+))?", requirement)
    if not match:
        raise UserError(f"setup.cfg: cannot read the requirement {requirement!r}; write it as name>=version,<version")
    name, least, limit = match.groups()
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return "is missing"
    if least and _numbers(version) < _numbers(least):
        return f"is {version}, too old"
    if limit and _numbers(version) >= _numbers(limit):
        return f"is {version}, too new"
    if name in BINARY:
        try:
            importlib.import_module(name)
        except Exception as error:  # a library that does not load may raise anything
            return f"is installed but does not load ({error})"
    return None


def _numbers(version: str) -> tuple[int, ...]:
    """``2.11.0+cpu`` → (2, 11, 0)"""
    return tuple(int(digits) for digits in re.findall(r"\d+", version.split("+")[0]))


def check(wanted: list[str]) -> None:
    """Raise one UserError that lists all that is wrong."""
    wrong = {requirement: text for requirement in wanted if (text := problem(requirement))}
    if not wrong:
        return
    lines = "\n".join(f"  {requirement} {text}" for requirement, text in wrong.items())
    command = shlex.join([sys.executable, "-m", "pip", "install", *wrong])
    raise UserError(
        f"of {len(wanted)} packages, {len(wrong)} cannot be used:\n{lines}\n"
        f"To install them:  {command}\n"
        f"or, for an environment of this project's own:  make -C {shlex.quote(str(ROOT))} install"
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", help="core, or extras of setup.cfg")
    wanted = requirements(parser.parse_args(argv).parts)
    check(wanted)
    log.info("%s has the %d packages needed", sys.executable, len(wanted))


if __name__ == "__main__":
    run(main)
