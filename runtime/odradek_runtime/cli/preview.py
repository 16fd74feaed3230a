"""The preview of a replay: what would be delivered again, before anything is. Reads the range once, and shows how far it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from odradek_runtime.cli.errors import counted, err
from odradek_runtime.log.parts import headers_of
from odradek_runtime.log.port import Log, Message, Partition

Ranges = Mapping[Partition, tuple[int, int]]
DISTINCT = 1_000_000
"""So many different keys are told apart."""


@dataclass(slots=True)
class Preview:
    """What a range holds. `gone`: partition -> offsets at its beginning that have been deleted; `empty`: others with no record."""

    records: int = 0
    passed: int = 0
    keys: set[bytes | None] = field(default_factory=set["bytes | None"])
    first_ms: int | None = None
    last_ms: int | None = None
    letters: int = 0
    handlers: set[str] = field(default_factory=set[str])
    gone: dict[int, int] = field(default_factory=dict[int, int])
    empty: int = 0

    def see(self, message: Message, keys: Sequence[bytes]) -> None:
        """One record of the range."""
        if keys and message.key() not in keys:
            self.passed += 1
            return
        self.records += 1
        if len(self.keys) < DISTINCT:
            self.keys.add(message.key())
        kind, time_ms = message.timestamp()
        if kind:
            self.first_ms = time_ms if self.first_ms is None else min(self.first_ms, time_ms)
            self.last_ms = time_ms if self.last_ms is None else max(self.last_ms, time_ms)

    def table(self, letters_of: str) -> Table:
        """For people."""
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_row("records", f"{self.records:,}" + (f" ({self.passed:,} of other keys are passed over)" if self.passed else ""))
        more = " or more" if len(self.keys) >= DISTINCT else ""
        table.add_row("keys", f"{len(self.keys):,}{more}")
        if self.first_ms is not None and self.last_ms is not None:
            table.add_row("time span", f"{_time(self.first_ms)} to {_time(self.last_ms)}")
        if letters_of:
            table.add_row("dead letters", f"{self.letters:,} of these records lie in {letters_of}")
        table.add_row("handlers", ", ".join(sorted(self.handlers)) or "-")
        for number, offsets in sorted(self.gone.items()):
            table.add_row(*_gone(number, offsets))
        if self.empty:
            why = "compacted, aborted, or marks of transactions"
            table.add_row("empty", f"{counted(self.empty, 'offset')} without a record: {why}")
        return table


def preview(log: Log, ranges: Ranges, keys: Sequence[bytes], letters: str) -> Preview:
    """Read the ranges. `letters`: the app's dead-letter topic; empty when dead letters are what is replayed."""
    found = Preview()
    total = sum(stop - start for start, stop in ranges.values())
    with _progress("reading the range", total) as bar:
        task = bar.add_task("", total=total)
        for partition, (start, stop) in ranges.items():
            first, _ = log.offsets(partition)
            begin = min(max(start, first), stop)
            if begin > start:
                found.gone[partition.partition] = begin - start
            bar.advance(task, begin - start)
            found.empty += stop - begin
            at = begin
            for batch in log.scan(partition, begin, stop):
                for message in batch:
                    found.see(message, keys)
                    if not letters:
                        _letter(found, message)
                found.empty -= len(batch)
                bar.advance(task, batch[-1].offset() + 1 - at)
                at = batch[-1].offset() + 1
            bar.advance(task, stop - at)
    if letters:
        _count_letters(found, log, letters, ranges)
    return found


def outline(log: Log, ranges: Ranges, handlers: Sequence[str]) -> Table:
    """What can be said without reading the ranges."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("offsets", f"{sum(stop - start for start, stop in ranges.values()):,}, not looked at")
    if handlers:
        table.add_row("handlers", ", ".join(sorted(handlers)))
    for partition, (start, stop) in sorted(ranges.items()):
        gone = min(log.offsets(partition)[0], stop) - start
        if gone > 0:
            table.add_row(*_gone(partition.partition, gone))
    return table


def _gone(number: int, offsets: int) -> tuple[str, str]:
    return "[yellow]gone[/]", f"{counted(offsets, 'offset')} at the beginning of partition {number}: deleted"


def _letter(found: Preview, message: Message) -> None:
    told = dict(headers_of(message))
    found.handlers.add((told.get("odradek-handler") or b"(none: it is left out)").decode("utf-8", "replace"))


def _count_letters(found: Preview, log: Log, letters: str, ranges: Ranges) -> None:
    info = log.topic(letters)
    for number in range(info.partitions if info is not None else 0):
        here = Partition(letters, number)
        for batch in log.scan(here, *log.offsets(here)):
            found.letters += sum(_of_range(message, ranges) for message in batch)


def _of_range(letter: Message, ranges: Ranges) -> bool:
    told = dict(headers_of(letter))
    try:
        number, offset = int(told["odradek-partition"] or b""), int(told["odradek-offset"] or b"")
        where = Partition((told["odradek-topic"] or b"").decode(), number)
    except (KeyError, ValueError):
        return False
    start, stop = ranges.get(where, (0, 0))
    return start <= offset < stop


def _progress(what: str, total: int) -> Progress:
    console = err()
    shown = console.is_terminal and total > 0
    columns = (TextColumn(what), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not shown)


def _time(time_ms: int) -> str:
    try:
        return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"
