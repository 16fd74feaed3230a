"""Log lines of a worker on stderr: short, and a flood of the same line becomes one line with a count."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

SHOWN = 5
"""How many lines of one kind are shown in each window."""
WINDOW_S = 10.0
QUIET = ("httpx", "httpcore", "uvicorn", "asyncio")


def set_up_logging() -> None:
    """Show INFO and above on stderr, unless the app has set up logging itself."""
    if logging.root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    handler.addFilter(FloodFilter())
    logging.root.addHandler(handler)
    logging.root.setLevel(logging.INFO)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


class FloodFilter(logging.Filter):
    """Lets `SHOWN` lines of one kind (the same template at the same place) through per window, then counts.

    The first line of the next window says how many were left out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a line that is only counted."""
        kind = (record.name, str(record.msg))
        now = self._clock()
        began, count = self._seen.get(kind, (now, 0))
        if now - began >= WINDOW_S:
            if count > SHOWN:
                record.msg = f"{record.getMessage()} (and {count - SHOWN:,} more like it in {now - began:.0f} s)"
                record.args = None
            began, count = now, 0
        self._seen[kind] = began, count + 1
        if count + 1 == SHOWN:
            record.msg = f"{record.getMessage()} (more like it are counted for {WINDOW_S:.0f} s)"
            record.args = None
        return count < SHOWN
