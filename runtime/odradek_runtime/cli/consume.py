"""`odradek consume`: records of a topic on stdout, oldest first, for people and for pipes."""

from __future__ import annotations

import base64
import heapq
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
import typer

from odradek_runtime.cli import connect, options
from odradek_runtime.cli.errors import INTERRUPTED, USAGE, CommandError, counted, near
from odradek_runtime.cli.printable import one_line, printable
from odradek_runtime.cli.topics import of_users
from odradek_runtime.log.parts import headers_of
from odradek_runtime.log.port import Log, Message, Partition

POLL_S = 0.2
"""How often --follow looks for new records."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

EXAMPLES = """
[bold]Examples[/]

  odradek consume arrivals --max 10                       the ten oldest records
  odradek consume arrivals --follow --key                 all of them, and those to come, with their keys
  odradek consume orders --from latest                    only those to come
  odradek consume orders --from 1200 --partition 3        from an offset of one partition
  odradek consume orders | odradek publish copy - --create
"""


def consume(
    topic: Annotated[str, typer.Argument(help="The topic to read.")],
    start: Annotated[str, typer.Option("--from", metavar="earliest|latest|OFFSET", help="Where to begin.")] = "earliest",
    max: Annotated[int | None, typer.Option("--max", "-n", min=1, help="End after so many records.")] = None,
    follow: Annotated[
        bool | None, typer.Option("--follow/--no-follow", "-f", help="Wait for new records; --from latest does.")
    ] = None,
    partition: Annotated[int | None, typer.Option("--partition", min=0, help="Only this one.")] = None,
    format: Annotated[
        Literal["json", "table", "raw"],
        typer.Option("--format", help="json: one a line; table: with partition, offset, time, key; raw: the bytes."),
    ] = "json",
    key: Annotated[bool, typer.Option("--key", help="Wrap each value with its key.")] = False,
    headers: Annotated[bool, typer.Option("--headers", help="Wrap each value with its headers.")] = False,
    meta: Annotated[bool, typer.Option("--meta", help="Wrap each value with partition, offset and time.")] = False,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
    kafka: options.Kafka = None,
) -> None:
    """Print the records of a topic, oldest first."""
    settings = options.settings(bootstrap_servers=bootstrap_servers, data_dir=data_dir, kafka=kafka)
    with connect.log(settings, must_exist=True) as log:
        info = log.topic(topic) if options.is_text(topic) else None
        if info is None:
            raise CommandError(f"topic {topic!r} does not exist", near(topic, of_users(log)), code=USAGE)
        if partition is not None and partition >= info.partitions:
            raise CommandError(
                f"{topic} has {counted(info.partitions, 'partition')}, counted from 0",
                "leave --partition out to read all",
                code=USAGE,
            )
        wanted = [Partition(topic, one) for one in (range(info.partitions) if partition is None else [partition])]
        reading = Reading(log, {one: _position(log, one, start) for one in wanted})
        show = _printer(format, Wrap(key, headers, meta))
        try:
            for count, message in enumerate(reading.messages(follow=start == "latest" if follow is None else follow), 1):
                show(message)
                if count == max:
                    break
            sys.stdout.flush()
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader of the pipe (head, less) has seen enough; Python would complain once more when it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Reading:
    """Positions in partitions, and the records from there on, merged by time."""

    def __init__(self, log: Log, positions: dict[Partition, int]) -> None:
        self._log = log
        self._positions = positions

    def messages(self, *, follow: bool) -> Iterator[Message]:
        """What is there now; with `follow` also what comes, without end."""
        while True:
            streams = [self._partition(one) for one in self._positions]
            yield from heapq.merge(*streams, key=lambda message: message.timestamp()[1])
            if not follow:
                return
            sys.stdout.flush()
            time.sleep(POLL_S)

    def _partition(self, partition: Partition) -> Iterator[Message]:
        first, end = self._log.offsets(partition)
        start = max(first, self._positions[partition])
        if start >= end:
            return
        for batch in self._log.scan(partition, start, end):
            yield from batch
        self._positions[partition] = end


@dataclass(frozen=True, slots=True)
class Wrap:
    """What is shown beside the value."""

    key: bool
    headers: bool
    meta: bool


_ONE_LINE = bytes.maketrans(b"\n\r\t", b"   ")
"""What JSON may have between its parts, and nowhere else."""


def _position(log: Log, partition: Partition, start: str) -> int:
    if start == "earliest":
        return 0
    if start == "latest":
        return log.offsets(partition)[1]
    if not start.isdecimal():
        raise CommandError(f"--from {start!r} is neither earliest, latest nor an offset", "e.g. --from 1200", code=USAGE)
    return int(start)


def _printer(format: str, wrap: Wrap) -> Callable[[Message], None]:
    write = sys.stdout.write
    if format == "raw":
        return lambda message: write_raw(message.value())
    if format == "json":
        return lambda message: _discard(write(_json(message, wrap) + "\n"))
    write(f"{'PART':>4} {'OFFSET':>9}  {'TIME (UTC)':<23}  {'KEY':<16}  VALUE\n")
    return lambda message: _discard(write(_table_line(message, wrap) + "\n"))


def write_raw(value: bytes | None) -> None:
    """The value's bytes and a line feed, past the text layer."""
    sys.stdout.flush()
    sys.stdout.buffer.write((value or b"") + b"\n")


def _discard(_written: int) -> None:
    return None


def _json(message: Message, wrap: Wrap) -> str:
    value = _readable(message.value())
    if not (wrap.key or wrap.headers or wrap.meta):
        return printable(msgspec.json.encode(value).decode())
    shown: dict[str, Any] = {}
    if wrap.meta:
        shown.update(partition=message.partition(), offset=message.offset(), timestamp=_time(message))
    if wrap.key:
        shown["key"] = _text(message.key())
    if wrap.headers:
        shown["headers"] = _headers(message)
    return printable(msgspec.json.encode({**shown, "value": value}).decode())


def _table_line(message: Message, wrap: Wrap) -> str:
    key = _text(message.key())
    value = msgspec.json.encode(_readable(message.value())).decode()
    headers = "  " + msgspec.json.encode(_headers(message)).decode() if wrap.headers else ""
    shown = "-" if key is None else one_line(str(key))
    rest = printable(value + headers)
    return f"{message.partition():>4} {message.offset():>9}  {_time(message) or '-':<23}  {shown:<16}  {rest}"


def _readable(value: bytes | None) -> Any:
    """JSON as it is (its text kept exactly), other text as a string, other bytes in base64."""
    if value is None:
        return None
    try:
        msgspec.json.decode(value)
        return msgspec.Raw(value.translate(_ONE_LINE))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _text(value)


def _text(data: bytes | None) -> str | Mapping[str, str] | None:
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _headers(message: Message) -> Sequence[tuple[str, Any]]:
    return [(name, _text(value)) for name, value in headers_of(message)]


def _time(message: Message) -> str | None:
    """As people read it; what is no date of the years 1 to 9999 (microseconds, for one) as the number that it is."""
    kind, ms = message.timestamp()
    if not kind:
        return None
    try:
        return (_EPOCH + timedelta(milliseconds=ms)).isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
    except OverflowError:
        return f"{ms} ms"
