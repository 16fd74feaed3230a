"""`odradek show`: one invocation, its journal as a timeline, who called it and what it has called."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import quote

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from odradek_runtime.cli import options
from odradek_runtime.cli.errors import err, out
from odradek_runtime.cli.operator import Operator
from odradek_runtime.cli.printable import one_line, printable
from odradek_runtime.cli.sighted import COLOURS, error, moment, print_table, waited
from odradek_runtime.cli.spans import span
from odradek_runtime.worker.upkeep.sightings import EntrySeen, JournalSeen, Roll, Sighting

CALLEES = 100
"""So many callees are looked up."""
CHARACTERS = 80
EXAMPLES = """
[bold]Examples[/]

  odradek show inv_aaaae26s7w2qyqxkgkqp54ay2m           its journal with times, its callers and callees
  odradek show inv_aaaae26s7w2qyqxkgkqp54ay2m --json    everything, for programs
  odradek ps --status paused -q | xargs -n1 odradek show
"""


def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help="As `odradek ps`, a log line or the header x-odradek-id tells it.")],
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
) -> None:
    """Show one invocation: how it stands, its journal as a timeline, then its callers and callees."""
    with Operator(options.settings(bootstrap_servers=bootstrap_servers, data_dir=data_dir)) as operator:
        seen = operator.ask("GET", f"/invocations/{quote(id_, safe='')}/journal", JournalSeen)
        if json:
            out().print(msgspec.json.encode(seen).decode(), markup=False)
            return
        related = _related(operator, seen)
    _head(seen.invocation)
    _timeline(seen.entries)
    _callers(operator.app, seen.invocation, related)
    _callees(seen.entries, related)


def _related(operator: Operator, seen: JournalSeen) -> dict[str, Sighting]:
    """Its caller and its callees, as far as they are of this app and there is something of them."""
    ids = [each.callee for each in seen.entries if each.callee and not each.app][:CALLEES]
    if seen.invocation.caller_id and seen.invocation.caller_app in ("", operator.app):
        ids.append(seen.invocation.caller_id)
    if not ids:
        return {}
    found = operator.ask("GET", "/invocations", Roll, query={"id": ids, "limit": len(ids)})
    return {each.id: each for each in found.invocations}


def _head(seen: Sighting) -> None:
    now_ms, console = time.time() * 1000, out()
    colour = COLOURS.get(seen.status, "bold")
    key = f" {one_line(seen.key)!r}" if seen.key is not None else ""
    console.print(f"[bold]{escape(seen.target)}[/]{escape(key)}  {seen.id}  [{colour}]{seen.status}[/]")
    lines = [f"began {moment(seen.created_ms)}, {span((now_ms - seen.created_ms) / 1000)} ago, in shard {seen.shard}"]
    if seen.topic:
        again = f", delivered again by {seen.replay}" if seen.replay else ""
        lines.append(f"started by {seen.topic}[{seen.partition}]@{seen.offset}{again}")
    if seen.attempts:
        lines.append(f"{seen.attempts} failed attempts since it last got further")
    lines += [f"waits for {waited(each, now_ms)}" for each in seen.waits_for]
    if error(seen):
        lines.append(("last error: " if seen.status not in ("completed", "failed") else "") + error(seen))
    for line in lines:
        console.print(f"  {escape(printable(line))}")


def _timeline(entries: Sequence[EntrySeen]) -> None:
    console = out()
    if not entries:
        console.print("\nits journal is empty")
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("#", "AT", "WHAT", "TOOK", "CAME OF IT"):
        shown.add_column(title, justify="right" if title in ("#", "TOOK") else "left", overflow="fold")
    for each in entries:
        key = f" {one_line(each.key)!r}" if each.key is not None else ""
        what = f"{each.kind} {each.name}".rstrip() + key
        took = f"{(each.ended_ms - each.at_ms) / 1000:,.3f} s" if each.ended_ms and each.at_ms else ""
        shown.add_row(str(each.ref), moment(each.at_ms), escape(one_line(what)), took, escape(one_line(_came_of(each))))
    console.print()
    print_table(shown)


def _came_of(entry: EntrySeen) -> str:
    if entry.code:
        return f"{entry.code} {entry.error}"
    if entry.size:
        more = "…" if len(entry.value) > CHARACTERS or entry.size > len(entry.value.encode()) else ""
        return entry.value[:CHARACTERS] + more
    return f"until {moment(entry.due_ms)}" if entry.due_ms and entry.kind == "sleep" and not entry.ended else ""


def _callers(own: str, seen: Sighting, related: dict[str, Sighting]) -> None:
    if seen.caller_id:
        out().print("\ncalled by")
        _line(seen.caller_id, "" if seen.caller_app == own else seen.caller_app, related.get(seen.caller_id))


def _callees(entries: Sequence[EntrySeen], related: dict[str, Sighting]) -> None:
    found = [each for each in entries if each.callee]
    if found:
        out().print("\nhas called")
    for each in found[:CALLEES]:
        _line(each.callee, each.app, related.get(each.callee), f"#{each.ref} {each.kind} {each.name}")
    if len(found) > CALLEES:
        err().print(f"and {len(found) - CALLEES:,} others")


def _line(id_: str, app: str, seen: Sighting | None, what: str = "") -> None:
    where = f" of the app {app}" if app else ""
    stands = f"{seen.target} {seen.status}" if seen is not None else "nothing of it is kept here"
    out().print(f"  {id_}{escape(where)}  {escape(one_line(what + '  ' if what else ''))}{escape(stands)}")
