"""What a command says when it cannot go on: a line, and the remedy; no stack trace unless asked."""

from __future__ import annotations

import traceback
from difflib import get_close_matches
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from odradek_runtime.cli.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

FAILED = 1
"""Exit code: the command ran and did not succeed."""
USAGE = 2
"""Exit code: it was asked for something that does not exist or makes no sense."""
UNUSABLE = 78
"""Exit code of a worker, which its supervisor tells as USAGE: what it needs (port, folder, log) cannot be had."""
DEFECT = 70
"""Exit code: a fault of odradek itself."""
INTERRUPTED = 130
"""Exit code: Ctrl-C."""


class CommandError(Exception):
    """A command cannot go on: `message` says what is wrong, `remedy` what to do about it, `code` is the exit code."""

    def __init__(self, message: str, remedy: str = "", *, code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.code = code


def out() -> Console:
    """The console of results; made anew each time, so that it follows a redirected stdout."""
    return Console(highlight=False, soft_wrap=True)


def err() -> Console:
    """The console of errors, progress and notes."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def explain(error: BaseException, *, debug: bool) -> int:
    """Print an error to stderr in one or two lines and give the exit code; with `debug` the stack trace comes first."""
    console = err()
    if debug:
        console.print(printable("".join(traceback.format_exception(error))), markup=False, end="")
    if isinstance(error, CommandError):
        message, remedy, code = error.message, error.remedy, error.code
    else:
        message = f"{type(error).__name__}: {error}"
        remedy = "" if debug else "--debug shows the stack trace; if odradek is to blame, report it with that"
        code = DEFECT
    console.print(f"[bold red]error:[/] {escape(printable(message))}")
    if remedy:
        console.print(f"  [cyan]→[/] {escape(printable(remedy))}")
    return code


def counted(number: int, noun: str) -> str:
    """A number and what it counts.

    >>> counted(1, "record"), counted(2_000, "record")
    ('1 record', '2,000 records')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def near(name: str, known: Iterable[str]) -> str:
    """`did you mean ...` with the names nearest to this one; the first few that exist when none is near; else empty.

    >>> near("departure", ["departures", "arrivals"])
    'did you mean departures?'
    """
    names = list(known)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there are: {', '.join(names[:8])}{' …' if len(names) > 8 else ''}" if names else ""
