"""`odradek reset`: an app's positions in a topic, moved. Shown first; done with --yes, by the workers or, while none runs, here."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from odradek_runtime.cli import connect, options
from odradek_runtime.cli.errors import FAILED, INTERRUPTED, USAGE, CommandError, counted, err, near, out
from odradek_runtime.cli.operator import asker
from odradek_runtime.cli.places import FORMS, place
from odradek_runtime.cli.topics import apps_of
from odradek_runtime.core.epoch import RESET
from odradek_runtime.http.admin import wire
from odradek_runtime.http.admin.client import RemoteLog
from odradek_runtime.log.port import Log, LogError, Partition
from odradek_runtime.recovery.clearing import objects_in
from odradek_runtime.recovery.orders import give
from odradek_runtime.recovery.repositioning import reposition
from odradek_runtime.recovery.reset_plan import Carried, Move, NoSuchPosition, plan

TAKEN_S = 60.0
"""So long an order that has been given may wait for its shards to take it: some may be on their way to another worker."""
LOOK_S = 0.2

EXAMPLES = """
[bold]Examples[/]

  odradek reset --topic orders --to 2h                       what would be read again since two hours ago
  odradek reset --topic orders --to 2h --yes                 do it
  odradek reset --topic orders --partition 3 --to 1200 --yes
  odradek reset --topic orders --to latest --yes             leave out what has not been read
  odradek reset --topic orders --to earliest --clear-state customer --yes     begin anew, of an app that stands still
  odradek reset --topic orders --to 2026-11-27T14:30 --app shop -b kafka:9092

The app may run or stand still. State and invocations stay as they are. A record that is read a second time starts another
invocation; its handler can tell by ctx.record.replay. To deliver a range again and read on where the app is: odradek replay.
"""


def reset(
    topic: Annotated[str, typer.Option("--topic", "-t", help="A topic that the app subscribes to.")],
    to: Annotated[str, typer.Option("--to", metavar=FORMS, help="Where to read on. 2h: what came since two hours ago.")],
    partition: Annotated[int | None, typer.Option("--partition", "-p", min=0, help="Only this one.")] = None,
    app: Annotated[str | None, typer.Option("--app", metavar="NAME", help="Whose positions, where several apps read it.")] = None,
    clear_state: Annotated[
        list[str] | None,
        typer.Option(
            "--clear-state", metavar="OBJECT", help="Delete all state of this object, of an app that stands still. Repeatable."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Move them. Without, it is only shown.")] = False,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
    kafka: options.Kafka = None,
) -> None:
    """Move an app's positions in a topic, back or forth. Without --yes nothing is moved."""
    settings = options.settings(bootstrap_servers=bootstrap_servers, data_dir=data_dir, kafka=kafka)
    target = place("--to", to)
    with connect.log(settings, must_exist=True) as log:
        try:
            name = _app(log, topic, app)
            moves = plan(log, name, topic, partition, target)
            out().print(f"[bold]{escape(topic)}[/], as the app [bold]{escape(name)}[/] reads it ({connect.where(settings)})")
            out().print(_table(moves))
            moves = [move for move in moves if move.to != move.now]
            cleared = _to_clear(log, name, clear_state or ())
            if not moves and not cleared:
                out().print("all of it is there already: nothing to move")
            elif not yes:
                out().print("nothing was moved: [bold]--yes[/] does it")
            else:
                _carry_out(log, name, moves, cleared)
        except NoSuchPosition as error:
            raise CommandError(str(error), near(topic, error.known) if error.known else "", code=USAGE) from None


def _app(log: Log, topic: str, given: str | None) -> str:
    """Whose positions are meant. Raises CommandError."""
    apps = apps_of(log.topics())
    if given is not None:
        if given not in apps:
            raise CommandError(f"there is no app {given!r} here", near(given, apps), code=USAGE)
        return given
    info = log.topic(topic) if options.is_text(topic) else None
    if info is None:
        raise CommandError(f"topic {topic!r} does not exist", near(topic, log.topics()), code=USAGE)
    partitions = [Partition(topic, number) for number in range(info.partitions)]
    readers = [name for name in apps if log.committed_offsets(name, partitions)] or apps
    if len(readers) != 1:
        said = f"{', '.join(readers)} read {topic}" if readers else "no app has run here"
        raise CommandError(said, "name one: --app NAME" if readers else "start it once", code=USAGE)
    return readers[0]


def _table(moves: Sequence[Move]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("PARTITION", "NOW", "THEN", "READ AGAIN", "SKIPPED", "GONE"):
        table.add_column(title, justify="right")
    for move in moves:
        numbers = (move.again, move.skipped, move.gone)
        shown = (f"{number:,}" if number else "" for number in numbers)
        table.add_row(str(move.partition.partition), str(move.now), str(move.to), *shown)
    return table


def _to_clear(log: Log, app: str, wanted: Sequence[str]) -> list[str]:
    """The objects whose state is to go, with how much it is. Raises CommandError."""
    if not wanted:
        return []
    if isinstance(log, RemoteLog) or log.peers(app):
        raise CommandError(
            "--clear-state is for an app that stands still: a worker would meet records before all of its state has gone",
            "stop its workers, then give the same command",
            code=USAGE,
        )
    console = err()
    with Progress(TextColumn("reading the state: {task.completed:,} records"), console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        found = objects_in(log, app, lambda records: bar.advance(task, records))
    for name in wanted:
        if name not in found:
            raise CommandError(f"the app {app} has no state of {name!r}", near(name, found), code=USAGE)
        out().print(f"the state of [bold]{escape(name)}[/]: {counted(found[name], 'value')} will be deleted")
    return list(dict.fromkeys(wanted))


def _carry_out(log: Log, app: str, moves: Sequence[Move], cleared: Sequence[str]) -> None:
    """By the worker that runs here, by those on Kafka, or by this process. Raises CommandError, NoSuchPosition, LogError."""
    id_, by = f"{RESET}{secrets.token_hex(4)}", asker()
    if isinstance(log, RemoteLog):
        parts = [wire.WireTarget(move.partition.partition, move.to) for move in moves]
        log.ask("POST", "/resets", wire.Ordered, wire.WireReset(id_, app, moves[0].partition.topic, parts, by))
        _follow(log, app, id_, moves)
    elif log.peers(app):
        give(log, app, id_, [move.order(id_, by) for move in moves])
        _follow(log, app, id_, moves)
    else:
        reposition(log, app, id_, moves, by, cleared=cleared)
    again, skipped = sum(move.again for move in moves), sum(move.skipped for move in moves)
    told = [text for number, text in ((again, f"{again:,} read again"), (skipped, f"{skipped:,} skipped")) if number]
    if cleared:
        told.append(f"the state of {', '.join(cleared)} cleared")
    out().print(f"[bold]{id_}[/]: {counted(len(moves), 'partition')} moved{': ' if told else ''}{', '.join(told)}")


def _follow(log: Log, app: str, id_: str, moves: Sequence[Move]) -> None:
    """Until every shard has carried it out. Raises CommandError when one does not take it in time, NoSuchPosition."""
    console, until_s = err(), time.monotonic() + TAKEN_S
    columns = (TextColumn("moving"), BarColumn(), MofNCompleteColumn(), TextColumn("partitions"))
    carried = Carried(log, app, id_, moves)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=len(moves))
        try:
            while not _done(carried):
                bar.update(task, completed=len(moves) - len(carried.open))
                if time.monotonic() > until_s:
                    raise _open(app, id_, carried, f"within {TAKEN_S:g} s", FAILED)
                time.sleep(LOOK_S)
        except KeyboardInterrupt:
            raise _open(app, id_, carried, "yet", INTERRUPTED) from None


def _open(app: str, id_: str, carried: Carried, when: str, code: int) -> CommandError:
    numbers = ", ".join(str(move.partition.partition) for move in carried.open)
    return CommandError(
        f"{id_}: no worker has moved partition {numbers} {when}",
        f"the order stands in {app}.commands: a worker that has the shard carries it out (its log says why not)",
        code=code,
    )


def _done(carried: Carried) -> bool:
    """A worker that restarts is asked again."""
    try:
        return carried.done()
    except LogError as error:
        if not error.retriable:
            raise
        return False
