"""Commands that do something with invocations, by id or by filter: shown first, then ordered, and watched until it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.markup import escape

from odradek_runtime.cli import filters, options
from odradek_runtime.cli.errors import FAILED, INTERRUPTED, USAGE, CommandError, counted, err, out
from odradek_runtime.cli.operator import Operator, asker
from odradek_runtime.cli.sighted import print_table, table
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.http.admin import wire
from odradek_runtime.worker.upkeep.sightings import ENDED, Roll, Sighting

LOOK_S = 0.1
DONE_S = 15.0
"""So long an order is watched; it is carried out in any case."""
AT_ONCE = 200
"""So many are ordered, and looked up, at a time."""
MOST = 10_000
SHOWN = 20
UNKNOWN = "there is none: it has ended and nothing of it is kept, or it never was"

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]…", help="These; or those that the filters find.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Of those that the filters find, ask nothing.")]

KILL_EXAMPLES = """
[bold]Examples[/]

  odradek kill inv_aaaae26s7w2qyqxkgkqp54ay2m             it ends where it stands, and so do the calls that it waits for
  odradek kill --service customer --key bob               shows which, and asks
  odradek kill --handler report --older 3h --yes          asks nothing

No code of it runs any more, not even clean-up; whoever waits for it gets a TerminalError of code 409; its key is free.
What it has sent goes on. A record that started it goes where its subscription says, by default to the dead letters.
"""
CANCEL_EXAMPLES = """
[bold]Examples[/]

  odradek cancel inv_aaaae26s7w2qyqxkgkqp54ay2m           its handler gets asyncio.CancelledError where it waits
  odradek cancel --service trip --key 7                   shows which, and asks

A handler may clean up, with steps and calls, and then return or raise. The calls that it waits for are cancelled, too. What has
not begun never does. Whoever waits for what is cancelled gets a TerminalError of code 409. odradek kill runs no code of it.
"""
PAUSE_EXAMPLES = """
[bold]Examples[/]

  odradek pause inv_aaaae26s7w2qyqxkgkqp54ay2m
  odradek pause --handler charge --yes                    all that have begun, or wait to begin
  odradek resume --handler charge                         after the fix is deployed

It keeps its key and its place in line, and nothing that it waits for is lost: a step that runs goes on, and its result is kept.
"""
RESUME_EXAMPLES = """
[bold]Examples[/]

  odradek resume inv_aaaae26s7w2qyqxkgkqp54ay2m           whatever has paused it
  odradek resume --status paused                          shows which, and asks
  odradek resume --status backing_off --yes               the next attempt now, of all that wait for one
"""
PURGE_EXAMPLES = """
[bold]Examples[/]

  odradek purge inv_aaaae26s7w2qyqxkgkqp54ay2m            what is kept of one that has ended goes now
  odradek purge --status failed --handler report

Nobody finds its result any more, and its idempotency key starts another one.
"""
RESTART_EXAMPLES = """
[bold]Examples[/]

  odradek restart inv_aaaae26s7w2qyqxkgkqp54ay2m             from its beginning, under a new id; the old one ends
  odradek restart inv_aaaae26s7w2qyqxkgkqp54ay2m --entry 3   results of entries 0 to 2 are kept; odradek show has the numbers
  odradek restart --status failed --handler report           those that have failed, and are kept

What it has written to state, published and sent stays, and happens again where its code does it again.
"""


@dataclass(frozen=True, slots=True)
class Verb:
    """What is done. `done`: whether it is, as an invocation is seen then; None: there is nothing of it any more."""

    name: str
    past: str
    done: Callable[[Sighting | None], bool]


def _over(seen: Sighting | None) -> bool:
    return seen is None or seen.status in ENDED


KILL = Verb("kill", "killed", _over)
CANCEL = Verb("cancel", "cancelled", _over)
PAUSE = Verb("pause", "paused", lambda seen: _over(seen) or (seen is not None and seen.status == "paused"))
PURGE = Verb("purge", "purged", lambda seen: seen is None)
RESTART = Verb("restart", "restarted", _over)
RESUME = Verb("resume", "resumed", lambda seen: seen is None or seen.status not in ("paused", "backing_off"))


def kill(
    ids: Ids = None,
    service: filters.Service = "",
    handler: filters.Handler = "",
    key: filters.Key = None,
    status: filters.Status = None,
    older: filters.Older = None,
    younger: filters.Younger = None,
    yes: Yes = False,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
) -> None:
    """End invocations without running any more of their code, whatever they wait for, and free their keys."""
    which = filters.Filters(service, handler, key, status or [], older, younger)
    carry_out(KILL, ids or [], which, options.settings(bootstrap_servers=bootstrap_servers, data_dir=data_dir), yes=yes)


def cancel(
    ids: Ids = None,
    service: filters.Service = "",
    handler: filters.Handler = "",
    key: filters.Key = None,
    status: filters.Status = None,
    older: filters.Older = None,
    younger: filters.Younger = None,
    yes: Yes = False,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
) -> None:
    """Have invocations end: their handlers get asyncio.CancelledError where they wait, and may clean up."""
    which = filters.Filters(service, handler, key, status or [], older, younger)
    carry_out(CANCEL, ids or [], which, options.settings(bootstrap_servers=bootstrap_servers, data_dir=data_dir), yes=yes)


def pause(
    ids: Ids = None,
    service: filters.Service = "",
    handler: filters.Handler = "",
    key: filters.Key = None,
    status: filters.Status = None,
    older: filters.Older = None,
    younger: filters.Younger = None,
    yes: Yes = False,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
) -> None:
    """Have invocations stand still until they are resumed; they keep their keys."""
    which = filters.Filters(service, handler, key, status or [], older, younger)
    carry_out(PAUSE, ids or [], which, options.settings(bootstrap_servers=bootstrap_servers, data_dir=data_dir), yes=yes)


def resume(
    ids: Ids = None,
    service: filters.Service = "",
    handler: filters.Handler = "",
    key: filters.Key = None,
    status: filters.Status = None,
    older: filters.Older = None,
    younger: filters.Younger = None,
    yes: Yes = False,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
) -> None:
    """Have invocations go on that are paused, whatever the reason, or that wait for their next attempt."""
    which = filters.Filters(service, handler, key, status or [], older, younger)
    carry_out(RESUME, ids or [], which, options.settings(bootstrap_servers=bootstrap_servers, data_dir=data_dir), yes=yes)


def purge(
    ids: Ids = None,
    service: filters.Service = "",
    handler: filters.Handler = "",
    key: filters.Key = None,
    status: filters.Status = None,
    older: filters.Older = None,
    younger: filters.Younger = None,
    yes: Yes = False,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
) -> None:
    """Forget what is kept of invocations that have ended."""
    which = filters.Filters(service, handler, key, status or [], older, younger)
    carry_out(PURGE, ids or [], which, options.settings(bootstrap_servers=bootstrap_servers, data_dir=data_dir), yes=yes)


def restart(
    ids: Ids = None,
    service: filters.Service = "",
    handler: filters.Handler = "",
    key: filters.Key = None,
    status: filters.Status = None,
    older: filters.Older = None,
    younger: filters.Younger = None,
    entry: Annotated[
        int, typer.Option("--entry", "-e", min=-1, metavar="N", help="Keep its id, and the results before this entry.")
    ] = -1,
    yes: Yes = False,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
) -> None:
    """Run invocations again: as new ones, or from an entry of their journals on."""
    which = filters.Filters(service, handler, key, status or [], older, younger)
    settings = options.settings(bootstrap_servers=bootstrap_servers, data_dir=data_dir)
    carry_out(RESTART, ids or [], which, settings, yes=yes, entry=entry)


def carry_out(verb: Verb, ids: Sequence[str], which: filters.Filters, settings: Settings, *, yes: bool, entry: int = -1) -> None:
    """Find them, show them where nobody has named them, order it, and watch. Raises CommandError."""
    if bool(ids) == bool(which):
        said = "ids and filters" if ids else f"nothing says which are to be {verb.past}"
        raise CommandError(said, f"either ids, or filters: odradek {verb.name} --help", code=USAGE)
    with Operator(settings) as operator:
        wanted = list(dict.fromkeys(ids)) or _found(operator, verb, which, yes=yes)
        if wanted:
            _order(operator, verb, wanted, entry)


def _found(operator: Operator, verb: Verb, which: filters.Filters, *, yes: bool) -> list[str]:
    """What the filters find, shown; empty: there is none. Raises CommandError unless somebody says yes."""
    roll = operator.ask("GET", "/invocations", Roll, query=which.query(MOST))
    if not roll.invocations:
        out().print("no such invocations")
        return []
    console = err()
    if not yes:
        print_table(table(roll.invocations[:SHOWN]), console)
    if roll.matching > SHOWN:
        console.print(f"and {roll.matching - SHOWN:,} others" if not yes else counted(roll.matching, "invocation"))
    if roll.matching > len(roll.invocations) or roll.partial:
        console.print(f"[yellow]only the oldest {len(roll.invocations):,} at once[/]: then give the same command again")
    if not yes and not typer.confirm(f"{verb.name} {counted(len(roll.invocations), 'invocation')}?", err=True):
        raise CommandError(f"nothing was {verb.past}", "answer y, or give --yes", code=USAGE)
    return [each.id for each in roll.invocations]


def _order(operator: Operator, verb: Verb, ids: Sequence[str], entry: int) -> None:
    refused: dict[str, str] = {}
    ordered: list[str] = []
    new: dict[str, str] = {}
    for first in range(0, len(ids), AT_ONCE):
        wanted = wire.WantedControl(list(ids[first : first + AT_ONCE]), asker(), entry=entry)
        told = operator.ask("POST", f"/invocations/{verb.name}", wire.Controlled, wanted)
        ordered += told.ordered
        new |= told.becomes
        refused |= told.refused | dict.fromkeys(told.unknown, UNKNOWN)
    undone = {} if entry >= 0 else _watch(operator, verb, ordered)
    done = len(ordered) - len(undone)
    if done:
        out().print(f"{counted(done, 'invocation')} {verb.past}")
    for old, id_ in new.items():
        if old not in undone:
            out().print(f"{old} is now {id_}")
    _tell("", refused)
    _tell(f"not {verb.past} yet: ", {id_: f"{seen.status}; its worker's log says why" for id_, seen in undone.items()})
    if refused or undone:
        raise typer.Exit(FAILED)


def _tell(what: str, of: Mapping[str, str]) -> None:
    for id_, why in list(of.items())[:SHOWN]:
        err().print(f"[yellow]{escape(id_)}[/]: {escape(what + why)}")
    if len(of) > SHOWN:
        err().print(f"and {len(of) - SHOWN:,} others")


def _watch(operator: Operator, verb: Verb, ids: Sequence[str]) -> dict[str, Sighting]:
    """Until it is done with all; those that it is not done with in time, as they stand then."""
    until_s, waiting = time.monotonic() + DONE_S, list(ids)
    undone: dict[str, Sighting] = {}
    try:
        while waiting:
            undone = {}
            for first in range(0, len(waiting), AT_ONCE):
                some = waiting[first : first + AT_ONCE]
                seen = {e.id: e for e in operator.ask("GET", "/invocations", Roll, query=_by_id(some)).invocations}
                undone |= {id_: seen[id_] for id_ in some if not verb.done(seen.get(id_)) and id_ in seen}
            waiting = list(undone)
            if not waiting or time.monotonic() > until_s:
                break
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        raise CommandError("what is ordered is carried out all the same", "odradek ps shows it", code=INTERRUPTED) from None
    return undone


def _by_id(ids: Sequence[str]) -> Mapping[str, int | Sequence[str]]:
    return {"id": ids, "limit": len(ids)}
