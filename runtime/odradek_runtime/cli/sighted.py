"""How commands show invocations: a table of many, and in words what one waits for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from odradek_runtime.cli.errors import out
from odradek_runtime.cli.printable import one_line
from odradek_runtime.cli.spans import span
from odradek_runtime.worker.upkeep.sightings import Awaited, Sighting

PIPED_WIDTH = 220
"""Of a table that no terminal shows."""
ERROR_CHARACTERS = 100
COLOURS = {"paused": "yellow", "backing_off": "red", "failed": "red", "running": "green", "completed": "green"}


def table(found: Sequence[Sighting], now_ms: float | None = None) -> Table:
    """One line for each."""
    now_ms = time.time() * 1000 if now_ms is None else now_ms
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("ID", "HANDLER", "KEY", "STATUS", "AGE", "SINCE", "TRIES", "WAITS FOR", "LAST ERROR"):
        number = title in ("AGE", "SINCE", "TRIES")
        shown.add_column(title, justify="right" if number else "left", no_wrap=title == "ID", overflow="fold")
    for each in found:
        colour = COLOURS.get(each.status)
        status = f"[{colour}]{each.status}[/]" if colour else each.status
        waits = "; ".join(waited(awaited, now_ms) for awaited in each.waits_for)
        shown.add_row(
            escape(each.id), escape(each.target), escape(one_line(each.key or "")), status,
            span((now_ms - each.created_ms) / 1000), span((now_ms - each.since_ms) / 1000), str(each.attempts or ""),
            escape(one_line(waits)), escape(one_line(error(each))[:ERROR_CHARACTERS]),
        )  # fmt: skip
    return shown


def print_table(shown: Table, console: Console | None = None) -> None:
    """As wide as the terminal; wide enough for a line each where there is none."""
    console = console or out()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    console.print(shown)


def error(seen: Sighting) -> str:
    """What went wrong with it, in a line."""
    return f"{seen.code} {seen.error}" if seen.code else seen.error


def waited(awaited: Awaited, now_ms: float) -> str:
    """What it waits for, in words.

    >>> waited(Awaited("sleep", due_ms=61_000), 1_000), waited(Awaited("key", key="bob", id="inv_a"), 0)
    ('sleep, 1 min more', 'its key, held by inv_a')
    """
    left = span((awaited.due_ms - now_ms) / 1000)
    match awaited.kind:
        case "start":
            return f"its time, in {left}"
        case "turn":
            return f"its turn: concurrency of {awaited.name}"
        case "key":
            return f"its key, held by {awaited.id}" if awaited.id else "its key"
        case "attempt":
            return f"another attempt, in {left}"
        case "operator":
            return f"odradek resume ({awaited.name})"
        case "sleep":
            return f"sleep, {left} more"
        case "step" if awaited.due_ms > now_ms:
            return f"step {awaited.name}, failed {awaited.attempt} times, again in {left}"
        case _:
            what = f"{awaited.kind} {awaited.name}".rstrip()
            return f"{what} ({awaited.id})" if awaited.id else what


def moment(at_ms: float) -> str:
    """A time to the millisecond.

    >>> moment(1_700_000_000_123)
    '2023-11-14 22:13:20.123 UTC'
    """
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}.{int(at_ms) % 1000:03d} UTC" if at_ms else "-"
