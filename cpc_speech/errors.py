"""How every command of the suite fails: one sentence that names the cause, the place and the remedy."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType

from cpc_speech.progress import LogHandler

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # disk, quota, limit on file size
INTERRUPTED = "interrupted; run the same command again to go on"


class UserError(Exception):
    """What is wrong with the input or the set-up, where, and what to do: shown without a traceback."""


def refuse(problems: Sequence[str], place: str | Path) -> None:
    """Raise one UserError that lists every problem found in ``place``, if there is any."""
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UserError("\n  ".join([f"{place}: {count}:", *problems]))


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say in one line how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"this needs the package {module}: {installation(extra)} ({error})") from error


def installation(extra: str) -> str:
    """The command that installs an extra: from the clone that this runs in, as the package is in no registry."""
    root = Path(__file__).resolve().parents[1]
    if (root / "setup.cfg").exists():
        return f"pip install -e {shlex.quote(f'{root}[{extra}]')}"
    return f"pip install 'cpc-speech[{extra}]'"  # which is installed: pip adds what the extra lacks


def _disk_full(error: BaseException | None) -> OSError | None:
    """The system's refusal to write, where this error is one or comes from one: torch raises its own in its place."""
    while error is not None and not (isinstance(error, OSError) and error.errno in _DISK_FULL):
        error = error.__context__
    return error


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Have ``run`` name ``path`` where the system refuses a write in this block: its own error names no file."""
    try:
        yield
    except BaseException as error:
        refused = _disk_full(error)
        if refused is not None and refused.filename is None:
            refused.filename = str(path)
        raise


def end_quietly_on_ctrl_c() -> None:
    """Have ctrl-C outside ``run``, as while torch is imported, end this process with a line instead of a traceback."""
    show = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print(INTERRUPTED, file=sys.stderr)
        else:
            show(kind, error, trace)

    sys.excepthook = hook


def run(main: Callable[[], int | None]) -> None:
    """Run a command line's ``main``: exit status 1 for a UserError and a full disk, 130 for ctrl-C; no traceback
    for what the user can mend."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(levelname).1s %(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        handlers=[LogHandler()],
    )
    try:
        sys.exit(main() or 0)
    except UserError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:  # the reader of our output (`| head`) has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if (refused := _disk_full(error)) is None:
            raise
        place = f"{refused.filename}: cannot be written" if refused.filename else "writing failed"
        sys.exit(f"error: {place} ({refused.strerror}); make room, and run the same command again")
