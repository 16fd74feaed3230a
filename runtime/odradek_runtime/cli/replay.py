"""`odradek replay` and `odradek replays`: a range, or dead letters, delivered again; what runs, and what has run."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from odradek_runtime.cli import connect, options
from odradek_runtime.cli.errors import FAILED, INTERRUPTED, USAGE, CommandError, counted, err, near, out
from odradek_runtime.cli.operator import Operator, asker
from odradek_runtime.cli.places import FORMS, moves, place
from odradek_runtime.cli.preview import outline, preview
from odradek_runtime.cli.printable import printable
from odradek_runtime.cli.topics import of_users
from odradek_runtime.http.admin import wire
from odradek_runtime.log.port import Log, Partition, TopicInfo
from odradek_runtime.recovery.replay_report import ReplayReport, summed_up

LOOK_S = 0.3
"""Between two looks at how far it is."""
PIPED_WIDTH = 160
"""Of a table that no terminal shows."""
UNSEEN_S = 30.0
"""So long an order that has been given may wait for its shards to take it."""

EXAMPLES = """
[bold]Examples[/]

  odradek replay orders --from 2h                        what came in the last two hours, once more
  odradek replay orders --partition 3 --from 1200 --to 1300 --handler customer/ordered
  odradek replay orders --from 2026-11-27T14:30 --key bob --key ann --rate 500
  odradek replay shop.dead-letters                       each dead letter back to where it failed
  odradek replay orders --resume replay-7f3a             watch one that runs; it goes on by itself

Records are delivered in order within their key and partition; new records of a key come before, between and after them,
in the order in which they arrive. Each record is processed once in a replay, whatever dies meanwhile.
"""
LIST_EXAMPLES = """
[bold]Examples[/]

  odradek replays
  odradek replays --cancel replay-7f3a        stop delivering; what has been delivered goes on
  odradek replays --json
"""


def replay(
    topic: Annotated[str, typer.Argument(help="A topic that the app subscribes to, or its dead letters.")],
    start: Annotated[
        str | None, typer.Option("--from", metavar=FORMS, help="Where to begin. Of dead letters: where the last replay ended.")
    ] = None,
    stop: Annotated[str, typer.Option("--to", metavar=FORMS, help="Where to end; this offset is left out.")] = "latest",
    partition: Annotated[list[int] | None, typer.Option("--partition", "-p", min=0, help="Only this one. Repeatable.")] = None,
    key: Annotated[list[str] | None, typer.Option("--key", "-k", help="Only records with this key. Repeatable.")] = None,
    handler: Annotated[str, typer.Option("--handler", metavar="SERVICE/HANDLER", help="Only to this one.")] = "",
    rate: Annotated[float, typer.Option("--rate", min=0.0, metavar="N", help="At most so many records a second.")] = 0.0,
    name: Annotated[str | None, typer.Option("--id", help="Its id; the same id again does nothing. Default: made up.")] = None,
    resume: Annotated[str | None, typer.Option("--resume", metavar="ID", help="Watch this one, which has begun.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Watch it to its end.")] = True,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing, and do not read the range before to count what is in it.")
    ] = False,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
    kafka: options.Kafka = None,
) -> None:
    """Deliver a range of a topic to the running app again, or its dead letters to where they failed.

    First the range is read and counted, which of a large one takes its time (a bar shows how far it is), then you are asked.
    """
    settings = options.settings(bootstrap_servers=bootstrap_servers, data_dir=data_dir, kafka=kafka)
    with Operator(settings) as operator:
        if resume is not None:
            _watch(operator, resume)
            return
        keys = [text.encode("utf-8", "surrogateescape") for text in key or ()]
        order = wire.WireReplay(name or f"replay-{secrets.token_hex(4)}", topic, [], handler, keys, rate, asker())
        with connect.log(settings, must_exist=True) as log:
            begun = _named(_all(operator), order.id) if name is not None else None
            _fill(order, operator, log, _numbers(_topic(log, topic), partition), (start, stop), begun, counting=not yes)
        if not order.parts:
            err().print("there is nothing to deliver")
            return
        if not yes and begun is None and not typer.confirm("deliver these again?", err=True):
            raise CommandError("nothing was delivered", "answer y, or give --yes", code=USAGE)
        if not operator.ask("POST", "/replays", wire.Begun, order).new:
            err().print(f"[yellow]{escape(order.id)} has begun before[/]: nothing is delivered twice; watching it")
        if wait:
            _watch(operator, order.id)
        else:
            out().print(order.id, markup=False)


def replays(
    cancel: Annotated[str | None, typer.Option("--cancel", metavar="ID", help="Stop this one cleanly.")] = None,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
    kafka: options.Kafka = None,
) -> None:
    """List the replays that run, and those of the last seven days."""
    settings = options.settings(bootstrap_servers=bootstrap_servers, data_dir=data_dir, kafka=kafka)
    with Operator(settings) as operator:
        if cancel is not None:
            _cancel(operator, cancel)
            return
        told = _all(operator)
    if json:
        out().print(msgspec.json.encode(told.replays).decode(), markup=False)
    elif told.replays:
        console = out()
        console.print(_table(told.replays), width=None if console.is_terminal else PIPED_WIDTH)
    else:
        out().print("no replays within the last seven days")
    if told.unknown_shards:
        err().print(f"[yellow]shards {', '.join(map(str, told.unknown_shards))} are being taken over: what they know is missing[/]")


def _cancel(operator: Operator, id_: str) -> None:
    told = _all(operator)
    if _named(told, id_) is None:
        raise _unknown(told, id_)
    operator.ask("DELETE", f"/replays/{quote(id_, safe='')}", wire.Begun, query={"by": asker()})
    _watch(operator, id_, failing=False)


# --- the range ---


def _topic(log: Log, name: str) -> TopicInfo:
    info = log.topic(name) if options.is_text(name) else None
    if info is None:
        raise CommandError(f"topic {name!r} does not exist", near(name, of_users(log)), code=USAGE)
    return info


def _fill(
    order: wire.WireReplay, operator: Operator, log: Log, numbers: Sequence[int], places: tuple[str | None, str],
    begun: ReplayReport | None, *, counting: bool,
) -> None:  # fmt: skip
    """Find the ranges, and show what they hold; no parts where there is nothing. Raises CommandError, LogError.

    `begun`: the replay of this id, if there is one: the same command means its ranges, though they end elsewhere by now.
    """
    order.parts = [wire.WirePart(number, 0, 0) for number in numbers]
    checked = operator.ask("POST", "/replays", wire.Begun, msgspec.structs.replace(order, dry_run=True))
    sent_back = _sent_back(operator, log, order.topic) if checked.letters else {}
    known = {part.partition: (part.first, part.stop) for part in begun.parts} if begun is not None else {}
    ranges = _ranges(log, order.topic, numbers, places, sent_back, known)
    there = begun is not None or any(start < stop for start, stop in ranges.values())
    if begun is None:
        err().print(
            f"[bold]{escape(order.topic)}[/], {counted(len(ranges), 'partition')}, for the app [bold]{escape(operator.app)}[/]"
        )
        if counting:
            letters = "" if checked.letters else f"{operator.app}.dead-letters"
            found = preview(log, ranges, order.keys, letters)
            found.handlers |= set(checked.handlers)
            err().print(found.table(letters))
            there = found.records > 0
        else:
            err().print(outline(log, ranges, checked.handlers))
    order.parts = [wire.WirePart(at.partition, *range_) for at, range_ in ranges.items()] if there else []


def _numbers(info: TopicInfo, wanted: Sequence[int] | None) -> list[int]:
    """The partitions that are meant. Raises CommandError."""
    amiss = [number for number in wanted or () if number >= info.partitions]
    if amiss:
        has = f"{info.name} has {counted(info.partitions, 'partition')}, counted from 0"
        raise CommandError(f"there is no partition {amiss[0]}: {has}", "leave --partition out for all", code=USAGE)
    return sorted(set(wanted or range(info.partitions)))


def _ranges(
    log: Log,
    topic: str,
    numbers: Sequence[int],
    places: tuple[str | None, str],
    sent_back: Mapping[int, int],
    known: Mapping[int, tuple[int, int]],
) -> dict[Partition, tuple[int, int]]:
    """Of each partition. `sent_back`: where to begin unless it is said; `known`: what was meant by places that move."""
    start, stop = places
    begin, end = place("--from", start or "earliest"), place("--to", stop)
    ranges: dict[Partition, tuple[int, int]] = {}
    for number in numbers:
        at = Partition(topic, number)
        first = sent_back[number] if start is None and number in sent_back else begin(log, at)
        until = end(log, at)
        if number in known:
            first = known[number][0] if moves(start or "earliest") else first
            until = known[number][1] if moves(stop) else until
        ranges[at] = min(first, until), until
    return ranges


def _sent_back(operator: Operator, log: Log, topic: str) -> dict[int, int]:
    """Up to where all of a dead-letter topic has been sent back already, or is about to be, by partition."""
    spans: dict[int, list[tuple[int, int]]] = {}
    for each in _all(operator).replays:
        if each.topic == topic and not each.handler and not each.keys:
            for part in each.parts:
                end = part.stop if part.status == "running" else part.next
                spans.setdefault(part.partition, []).append((part.first, end))
    return {number: _prefix(log.offsets(Partition(topic, number))[0], found) for number, found in spans.items()}


def _prefix(first: int, spans: Sequence[tuple[int, int]]) -> int:
    """Up to where these cover everything from the first on.

    >>> _prefix(2, [(0, 5), (9, 10), (4, 7)])
    7
    """
    for start, end in sorted(spans):
        if start <= first:
            first = max(first, end)
    return first


# --- watching ---


def _all(operator: Operator) -> wire.Replays:
    return operator.ask("GET", "/replays", wire.Replays)


def _named(told: wire.Replays, id_: str) -> ReplayReport | None:
    return next((each for each in told.replays if each.id == id_), None)


def _unknown(told: wire.Replays, id_: str) -> CommandError:
    known = [each.id for each in told.replays]
    return CommandError(f"there is no replay {id_!r}", near(id_, known) or "odradek replays lists them", code=USAGE)


def _watch(operator: Operator, id_: str, *, failing: bool = True) -> None:
    """To its end, then say what has become of it. Raises CommandError when it is not there, or broken."""
    console = err()
    columns = (
        TextColumn("replaying"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[said]}"),
        TimeRemainingColumn(),
    )
    began_s = time.monotonic()
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("", total=None, said="")
            report = _until_ended(operator, id_, lambda report: bar.update(task, **_shown(report)), began_s)
    except KeyboardInterrupt:
        raise CommandError(
            f"{id_} goes on by itself", f"odradek replays shows it; odradek replays --cancel {id_} stops it", code=INTERRUPTED
        ) from None
    _audit(report)
    reasons = {part.reason for part in report.parts if part.status == "broken"}
    if reasons and failing:
        raise CommandError(f"{id_} could not be read to its end: {'; '.join(sorted(reasons))}", code=FAILED)


def _until_ended(operator: Operator, id_: str, show: Callable[[ReplayReport], None], began_s: float) -> ReplayReport:
    while True:
        told = _all(operator)
        report, whole = _named(told, id_), not told.unknown_shards
        if report is not None:
            show(report)
            if whole and report.over:
                return report
        elif whole and time.monotonic() - began_s > UNSEEN_S:
            raise _unknown(told, id_)
        time.sleep(LOOK_S)


def _shown(report: ReplayReport) -> dict[str, Any]:
    done, total = report.offsets
    waiting = f", {report.under_way:,} under way" if report.under_way else ""
    if (unbegun := report.parts_due - len(report.parts)) > 0:  # its shard is busy, or has refused it: a dead letter says why
        waiting += f", {counted(unbegun, 'partition')} not begun"
    return {"completed": done, "total": max(total, 1), "said": f"{report.records:,} records{waiting}"}


def _audit(report: ReplayReport) -> None:
    """One line that adds up."""
    lasted_s = max(report.ended_ms - report.begun_ms, 0) / 1000
    said = "" if report.status == "done" else f" [yellow]{report.status}[/]"
    out().print(f"[bold]{escape(report.id)}[/]{said}: {' · '.join(summed_up(report))}; delivered in {lasted_s:,.1f} s")


def _table(found: Sequence[ReplayReport]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("ID", "TOPIC", "STATUS", "RECORDS", "ENDED WELL", "DEAD LETTERS", "UNDER WAY", "BEGAN", "BY"):
        number = title in ("RECORDS", "ENDED WELL", "DEAD LETTERS", "UNDER WAY")
        table.add_column(title, justify="right" if number else "left", no_wrap=title == "ID", overflow="fold")
    for each in found:
        done, total = each.offsets
        status = f"{each.status} {done * 100 // max(total, 1)} %" if each.status == "running" else each.status
        began = f"{datetime.fromtimestamp(each.begun_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
        numbers = (each.records, each.ended_well, each.dead_letters, each.under_way)
        texts = (each.id, each.topic, status, *(f"{number:,}" for number in numbers), began, printable(each.asked_by))
        table.add_row(*map(escape, texts))
    return table
