"""How every command of the suite fails: one sentence that names the cause, the place and the remedy."""

from __future__ import annotations

import importlib
import logging
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


class UserError(Exception):
    """What is wrong with the input or the set-up, where, and what to do: shown without a traceback."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say in one line how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"this needs the package {module}: {installation(extra)} ({error})") from error


def installation(extra: str) -> str:
    """The command that installs an extra: from the clone that this runs in, as no registry has the package."""
    root = Path(__file__).resolve().parents[1]
    if (root / "setup.cfg").exists():
        return f"pip install -e {shlex.quote(f'{root}[{extra}]')}"
    return f"pip install 'cpc-speech[{extra}]'"  # which is installed: pip adds what the extra lacks


def run(main: Callable[[], int | None]) -> None:
    """Run a command line's ``main``: exit status 1 for a UserError, 130 for ctrl-C, never a bare traceback
    for what the user can mend."""
    logging.basicConfig(level=logging.INFO, format="%(levelname).1s %(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        sys.exit(main() or 0)
    except UserError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:  # the reader of our output (`| head`) has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
