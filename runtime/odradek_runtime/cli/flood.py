"""Keeps the worker's own log lines from flooding: the same one again and again becomes a count. Users' lines all pass.

Ours are those that this package's own code writes. They are told apart by where they are written, their template and the handler
that they are about, so that what is remembered is bounded by the code and by `KINDS`, never by what the lines say.
"""

from __future__ import annotations

import copy
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

SHOWN = 5
"""How many lines of one kind are shown in each window."""
WINDOW_S = 10.0
KINDS = 500
"""So many kinds are counted at once; the oldest is let go of for one more."""
_OURS = str(Path(__file__).parent.parent) + os.sep
_LONGEST = 300

Kind = tuple[str, int, str, str]


class Window:
    """One kind of line since it was first seen."""

    __slots__ = ("began_s", "count", "last")

    def __init__(self, began_s: float) -> None:
        self.began_s = began_s
        self.count = 0
        self.last: logging.LogRecord | None = None
        """The last line that was not shown, without what it was made of."""


class FloodGuard:
    """Decides what of a stream of records is shown. Used by one handler, under its lock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: OrderedDict[Kind, Window] = OrderedDict()

    def __len__(self) -> int:
        """How many kinds are being counted."""
        return len(self._windows)

    def shown(self, record: logging.LogRecord) -> Iterator[logging.LogRecord]:
        """What to write now: counts whose window is over, then the record, if it is not one too many of its kind."""
        now = self._clock()
        while self._windows and now - next(iter(self._windows.values())).began_s >= WINDOW_S:
            yield from self._let_go(now)
        if not ours(record) or hasattr(record, "invocation_id"):  # by that id somebody looks for it
            yield record
            return
        kind = _kind(record)
        window = self._windows.get(kind)
        if window is None:
            if len(self._windows) >= KINDS:
                yield from self._let_go(now)
            window = self._windows[kind] = Window(now)
        window.count += 1
        if window.count < SHOWN:
            yield record
        elif window.count == SHOWN:
            yield _said(record, f"{record.getMessage()} (more like it are counted for {WINDOW_S:.0f} s)")
        else:
            window.last = _said(record, record.getMessage()[:_LONGEST])
            window.last.exc_info = window.last.exc_text = None

    def rest(self) -> Iterator[logging.LogRecord]:
        """The counts of all windows that are still open."""
        now = self._clock()
        while self._windows:
            yield from self._let_go(now)

    def _let_go(self, now: float) -> Iterator[logging.LogRecord]:
        _, window = self._windows.popitem(last=False)
        if window.last is not None:
            more, seconds = window.count - SHOWN, now - window.began_s
            yield _said(window.last, f"{window.last.getMessage()} (the last of {more:,} more like it in {seconds:.0f} s)")


class GuardedHandler(logging.StreamHandler[TextIO]):
    """Writes records to a stream as its guard lets them through."""

    def __init__(self, stream: TextIO, guard: FloodGuard) -> None:
        super().__init__(stream)
        self._guard = guard

    def emit(self, record: logging.LogRecord) -> None:
        """Write what is to be shown now."""
        for shown in self._guard.shown(record):
            super().emit(shown)

    def close(self) -> None:
        """Write the counts that are left; called at the end of the process."""
        self.acquire()
        try:
            for shown in self._guard.rest():
                super().emit(shown)
        finally:
            self.release()
        super().close()


def ours(record: logging.LogRecord) -> bool:
    """Whether this package's own code wrote the line, or its web server, and not the user's through one of our loggers."""
    return record.pathname.startswith(_OURS) or record.name == "uvicorn.error"


def _kind(record: logging.LogRecord) -> Kind:
    """A line that is nothing but one value is told by that value: its template says nothing. One handler hides no other's lines."""
    template = str(record.msg)
    text = record.getMessage() if template == "%s" else template
    return record.pathname, record.lineno, text[:_LONGEST], str(getattr(record, "handler", ""))


def _said(record: logging.LogRecord, text: str) -> logging.LogRecord:
    """The same record with this text; the record itself may go to other handlers, too."""
    said = copy.copy(record)
    said.msg, said.args = text, None
    return said
