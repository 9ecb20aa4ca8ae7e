"""Progress bars that move on a terminal and are lines elsewhere (nohup, Slurm): often at first, then one a minute.

A recipe's commands write to a log, so they cannot see what their output ends in: TQDM_MININTERVAL, tqdm's own variable,
tells them how many seconds lie between two states of a bar at most. Less than a second makes bars move.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

_FIRST = 2.0  # seconds to the second line of a bar, which has its first time left; the next ones come half as often
_LINES = 60.0  # seconds between two lines at most


class Progress(tqdm):
    """tqdm's bar with another idea of when to show it; the arguments are tqdm's."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._interval = float(os.environ.get("TQDM_MININTERVAL") or (0.1 if sys.stderr.isatty() else _LINES))
        self.moves = self._interval < 1
        first = self._interval if self.moves else min(_FIRST, self._interval)
        own: dict[str, Any] = {"dynamic_ncols": True, "miniters": 1, "mininterval": first}
        super().__init__(*args, **own | options)

    def __iter__(self) -> Iterator[Any]:
        with self:  # tqdm's own loop would never look at mininterval again
            for item in self.iterable:
                yield item
                self.update()

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if self.moves:
            super().display(msg, pos)
            return
        print(str(self) if msg is None else msg, file=self.fp, flush=True)
        self.mininterval = min(self._interval, max(_FIRST, self.format_dict["elapsed"]))

    def set_postfix_str(self, s: str = "", refresh: bool = True) -> None:
        super().set_postfix_str(s, refresh and self.moves)

    def close(self) -> None:
        if not (self.moves or self.disable):
            self.display()
            self.delay = math.inf  # so that tqdm ends without another word
        super().close()


class LogHandler(logging.StreamHandler):
    """Writes log lines to standard error, above the bars that move there."""

    def emit(self, record: logging.LogRecord) -> None:
        if any(getattr(bar, "moves", True) for bar in getattr(tqdm, "_instances", ())):
            tqdm.write(self.format(record), file=sys.stderr)
        else:
            super().emit(record)
