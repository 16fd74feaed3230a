"""`odradek publish`: rows of a file into a topic, in transactions that also hold how far the file has been read."""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from odradek import Topic
from odradek_runtime.cli import connect, options
from odradek_runtime.cli.appref import load_topics
from odradek_runtime.cli.errors import INTERRUPTED, USAGE, CommandError, counted, err, near, out
from odradek_runtime.cli.printable import printable
from odradek_runtime.cli.record import CASTS, BadField, Options, Rows
from odradek_runtime.cli.source import BadRow, Row, Source
from odradek_runtime.cli.topics import SUFFIXES, internal, of_users
from odradek_runtime.core.topics.targets import limit_of
from odradek_runtime.log.port import Log, LogError, Output
from odradek_runtime.log.sizes import BARE_BYTES, record_bytes

BATCH_RECORDS = 2_000
"""Records of one transaction: what an interruption costs at most, and no more memory than this."""
BATCH_BYTES = 4 * 1024 * 1024
RETRIES_S = (0.1, 0.3, 1.0, 3.0)
"""Waits between tries of one transaction."""
RESUME = "the same command with --resume goes on from there"

EXAMPLES = """
[bold]Examples[/]

  odradek publish orders orders.jsonl --key customer            keys from a field
  odradek publish departures flights.csv.zip --key tailnum --null NA --app flights:app
  tail -f events.log | odradek publish events -                 JSON lines from standard input
  odradek publish orders big.csv --create --partitions 16       make the topic first
  odradek publish orders big.csv --resume                       go on after an interruption, nothing twice
"""


@dataclass(slots=True)
class Tally:
    """What one run has done. `position` counts rows of the source, bad ones included."""

    position: int = 0
    published: int = 0
    without_key: int = 0
    bad: int = 0


def publish(
    topic: Annotated[str, typer.Argument(help="The topic to write to.")],
    file: Annotated[str, typer.Argument(help="JSON lines or CSV, also .gz and .zip; - is standard input.", metavar="FILE|-")],
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="FIELD", help="The field that becomes the record's key; null or absent: no key."),
    ] = None,
    null: Annotated[str | None, typer.Option("--null", metavar="TEXT", help="A cell with this text is null, e.g. NA.")] = None,
    app: Annotated[
        str | None,
        typer.Option("--app", metavar="MODULE:APP", help="Check and convert by this app's type of the topic."),
    ] = None,
    format: Annotated[Literal["jsonl", "csv"] | None, typer.Option("--format", help="When the file's name does not tell.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="NAME=TYPE", help="Type of a CSV column: int, float, bool or str. Repeatable."),
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="Make the topic if it does not exist.")] = False,
    partitions: Annotated[int, typer.Option("--partitions", min=1, help="Of the topic that --create makes.")] = 8,
    resume: Annotated[bool, typer.Option("--resume", help="Go on exactly where an interrupted run stopped.")] = False,
    name: Annotated[
        str | None, typer.Option("--name", help="What --resume recognises the run by; default: topic and file.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Count rows that cannot be read and go on.")] = False,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
    kafka: options.Kafka = None,
) -> None:
    """Publish the rows of a file: JSON lines or CSV, one record a row."""
    settings = options.settings(bootstrap_servers=bootstrap_servers, data_dir=data_dir, kafka=kafka)
    with Source(file, format) as source, connect.log(settings, must_exist=not create) as log:
        run = name or (f"publish:{topic}:{source.identity}" if source.identity else None)
        if run is None and resume:
            raise CommandError(
                f"--resume cannot recognise {source.name}, which is read as it comes",
                "name the run: --name NAME, at the first run too",
                code=USAGE,
            )
        declared = _declared(app or connect.app_reference(settings), topic, required=app is not None)
        rows = Rows(source.rows(), declared, Options(key, null, _columns(column)))
        if topic.endswith(SUFFIXES) and topic in internal(log.topics()):
            raise CommandError(
                f"topic {topic!r} is internal to an app: only its workers write it",
                "publish to a topic that the app reads (odradek topics), or call its handlers: odradek call",
                code=USAGE,
            )
        place = f"{counted(_find_topic(log, topic, partitions if create else None), 'partition')}, {connect.where(settings)}"
        for line in rows.said:
            err().print(f"[dim]{escape(printable(line))}[/]")
        info = log.topic(topic)
        largest = min(limit_of(info), settings.max_record_bytes + BARE_BYTES) if info is not None else settings.max_record_bytes
        sending = Sending(log, topic, place, run or f"publish:{topic}:stdin:{time.time_ns()}", source, rows, largest)
        sending.run(resume=resume, skip_bad=skip_bad)


class Sending:
    """One run: rows in, transactions out, progress on stderr, a summary at the end that says where they went (`place`)."""

    def __init__(self, log: Log, topic: str, place: str, name: str, source: Source, rows: Rows, max_bytes: int) -> None:
        self._topic = topic
        self._place = place
        self._source = source
        self._rows = rows
        self._max_bytes = max_bytes
        self._publisher = log.publisher(name)
        self._tally = Tally()

    def run(self, *, resume: bool, skip_bad: bool) -> None:
        """Publish what is left of the source. Raises CommandError at a bad row unless `skip_bad`, and at Ctrl-C."""
        started = time.monotonic()
        try:
            stored = self._publisher.position()
            self._tally.position = stored if resume else 0
            if resume and stored:
                err().print(f"[dim]resuming after {counted(stored, 'row')}[/]")
            elif stored:
                # An earlier, longer run under this name must not be what a later --resume finds.
                self._publisher.publish([], 0)
            with _progress(self._source) as bar:
                self._send_all(skip_bad, bar)
        except KeyboardInterrupt:
            said = f"interrupted: {counted(self._tally.published, 'record')} went into {self._topic} ({self._place})"
            raise CommandError(said, RESUME, code=INTERRUPTED) from None
        except LogError as error:
            sent = f"{counted(self._tally.published, 'record')} went into {self._topic} ({self._place})"
            raise CommandError(str(error), f"{sent}: {RESUME}") from error
        finally:
            with suppress(LogError):
                self._publisher.close()
        self._summary(time.monotonic() - started)

    def _send_all(self, skip_bad: bool, bar: Bar) -> None:
        tally, batch, size = self._tally, list[Output](), 0
        position = tally.position
        for row in itertools.islice(self._rows.rows, tally.position, None):
            output = self._output(row)
            if isinstance(output, BadRow):
                if not skip_bad:
                    self._send(batch, position)
                    raise self._bad(output)
                tally.bad += 1
            else:
                batch.append(output)
                size += len(output.value or b"")
            position += 1
            if len(batch) >= BATCH_RECORDS or size >= BATCH_BYTES:
                self._send(batch, position)
                batch, size = [], 0
                bar.show(tally.published, self._source.done_bytes())
        self._send(batch, position)
        bar.show(tally.published, self._source.done_bytes())

    def _output(self, row: Row | BadRow) -> Output | BadRow:
        if isinstance(row, BadRow):
            return row
        try:
            key, value = self._rows.convert(row)
        except BadField as error:
            return BadRow(row.line, error.name, error.reason)
        size = record_bytes(key, value)
        if size > self._max_bytes:
            limit = f"{self._topic} takes {self._max_bytes:,} (its max.message.bytes, or the setting max_record_bytes)"
            return BadRow(row.line, "", f"a record of {size:,} bytes, and {limit}")
        return Output(self._topic, None, key, value)

    def _send(self, batch: list[Output], position: int) -> None:
        if position > self._tally.position:
            self._publish(batch, position)
            self._tally.position = position
            self._tally.published += len(batch)
            self._tally.without_key += sum(output.key is None for output in batch)

    def _publish(self, batch: list[Output], position: int) -> None:
        """Past a hiccup of the log: its error leaves the outcome open, and the position that it stored settles it."""
        for wait_s in (*RETRIES_S, None):
            try:
                self._publisher.publish(batch, position)
            except LogError as error:
                if not error.retriable or wait_s is None:
                    raise
            else:
                return
            time.sleep(wait_s)
            if self._stored_position() == position:
                return

    def _stored_position(self) -> int | None:
        try:
            return self._publisher.position()
        except LogError:
            return None

    def _bad(self, row: BadRow) -> CommandError:
        where = f"{self._source.name}, line {row.line:,}" + (f", field {row.field}" if row.field else "")
        sent = f"published before it: {counted(self._tally.published, 'record')}; "
        return CommandError(f"{where}: {row.reason}", f"{sent}correct it and --resume, or go on without it: --resume --skip-bad")

    def _summary(self, seconds: float) -> None:
        tally = self._tally
        where = f"{escape(self._topic)} [dim]({escape(self._place)})[/]"
        parts = [f"[green]✓[/] published [bold]{counted(tally.published, 'record')}[/] to {where}"]
        if tally.without_key:
            parts.append(f"{tally.without_key:,} without key")
        if tally.bad:
            parts.append(f"[yellow]{counted(tally.bad, 'bad row')} left out[/]")
        parts.append(f"{seconds:.1f} s, {tally.published / max(seconds, 1e-6):,.0f} records/s")
        out().print(", ".join(parts))
        missed = self._rows.key_missed()
        if tally.published and tally.without_key == tally.published and missed:
            err().print(f"[yellow]warning:[/] {escape(printable(missed))}")


class Bar:
    """The progress bar of one run: share of the file read (when its size is known), records, records/s."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def show(self, records: int, done_bytes: int) -> None:
        """Bring the bar up to date."""
        seconds = self._progress.tasks[0].elapsed or 1e-6
        self._progress.update(self._task, completed=done_bytes, records=f"{records:,}", rate=f"{records / seconds:,.0f}")


@contextmanager
def _progress(source: Source) -> Generator[Bar]:
    console = err()
    columns = (
        TextColumn("publishing"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %") if source.size_bytes else TextColumn(""),
        TextColumn("{task.fields[records]} records  {task.fields[rate]}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Bar(progress, progress.add_task("publishing", total=source.size_bytes, records="0", rate="0"))


def _find_topic(log: Log, topic: str, partitions: int | None) -> int:
    """Its number of partitions; with `partitions` it is made if need be."""
    if not options.is_text(topic):
        raise CommandError(f"topic {topic!r} is not UTF-8 text", "names are of letters, digits, '.', '_' and '-'", code=USAGE)
    if (found := log.topic(topic)) is not None:
        return found.partitions
    if partitions is None:
        hint = near(topic, of_users(log))
        raise CommandError(f"topic {topic!r} does not exist", f"{hint + '; ' if hint else ''}--create makes it", code=USAGE)
    made = log.create_topic(topic, partitions, {})
    err().print(f"[dim]created {escape(topic)} with {counted(made.partitions, 'partition')}[/]")
    return made.partitions


def _declared(reference: str | None, name: str, *, required: bool) -> Topic[Any, Any] | None:
    """The app's own declaration of the topic. Absent: an error if the user named the app, else types are guessed."""
    if reference is None:
        return None
    try:
        topics = load_topics(reference)
    except CommandError:
        if required:
            raise
        return None
    if name not in topics and required:
        raise CommandError(f"{reference} declares no topic {name!r}", near(name, topics), code=USAGE)
    return topics.get(name)


def _columns(flags: list[str] | None) -> dict[str, str]:
    columns: dict[str, str] = {}
    for flag in flags or []:
        name, _, kind = flag.rpartition("=")
        if not name or kind not in CASTS:
            raise CommandError(f"--column {flag!r} is not NAME=TYPE", f"TYPE is one of {', '.join(CASTS)}", code=USAGE)
        columns[name] = kind
    return columns
