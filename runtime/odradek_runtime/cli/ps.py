"""`odradek ps`: the invocations of a running app that have not ended, what each waits for, and since when."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
import typer
from rich.live import Live

from odradek_runtime.cli import filters, options
from odradek_runtime.cli.errors import INTERRUPTED, counted, err, out
from odradek_runtime.cli.operator import Operator
from odradek_runtime.cli.sighted import print_table, table
from odradek_runtime.http.admin.client import Query
from odradek_runtime.worker.upkeep.sightings import Roll

EXAMPLES = """
[bold]Examples[/]

  odradek ps                                          the hundred oldest that have not ended
  odradek ps --service customer --key bob             those of one key, those that wait for it too
  odradek ps --status paused --status backing_off     what needs somebody's help
  odradek ps --older 1h --watch                       those that take long, again every two seconds
  odradek ps --status failed                          ended, and kept for those who ask
  odradek ps --key bob -q | xargs -n1 odradek show
  kubectl exec shop-worker-0 -- odradek ps            any worker answers for the whole app
"""


def ps(
    service: filters.Service = "",
    handler: filters.Handler = "",
    key: filters.Key = None,
    status: filters.Status = None,
    older: filters.Older = None,
    younger: filters.Younger = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="At most so many, the oldest.")] = 100,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again and again, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option("--every", metavar="SECONDS", min=0.1, help="Between two looks of --watch.")] = 2.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Ids alone, one a line.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
) -> None:
    """List invocations: what each waits for, how often it was tried, its last error, and since when.

    Those that have not ended, unless a status is asked for; the oldest first. What a worker shows is what it has committed.
    """
    wanted = filters.Filters(service, handler, key, status or [], older, younger).query(limit)
    with Operator(options.settings(bootstrap_servers=bootstrap_servers, data_dir=data_dir)) as operator:
        roll = operator.ask("GET", "/invocations", Roll, query=wanted)
        if watch:
            try:
                _watch(operator, wanted, roll, every)
            except KeyboardInterrupt:
                raise typer.Exit(INTERRUPTED) from None
            return
    if json:
        out().print(msgspec.json.encode(roll.invocations).decode(), markup=False)
    elif quiet:
        for each in roll.invocations:
            out().print(each.id, markup=False)
    else:
        _show(roll)
    _note(roll)


def _watch(operator: Operator, wanted: Query, roll: Roll, every_s: float) -> None:
    console = out()
    if not console.is_terminal:
        while True:
            _show(roll)
            time.sleep(every_s)
            roll = operator.ask("GET", "/invocations", Roll, query=wanted)
    with Live(table(roll.invocations), console=console, auto_refresh=False) as live:
        while True:
            live.update(table(roll.invocations), refresh=True)
            time.sleep(every_s)
            roll = operator.ask("GET", "/invocations", Roll, query=wanted)


def _show(roll: Roll) -> None:
    if roll.invocations:
        print_table(table(roll.invocations))
    else:
        out().print("no such invocations")


def _note(roll: Roll) -> None:
    """What is not in the table."""
    console = err()
    if roll.matching > len(roll.invocations):
        console.print(f"the oldest {len(roll.invocations):,} of {counted(roll.matching, 'invocation')}: --limit shows more")
    if roll.partial:
        console.print("[yellow]there are so many that not all were looked at[/]: narrow it down")
    if roll.unknown_shards:
        console.print(f"[yellow]shards {', '.join(map(str, roll.unknown_shards))} are being taken over[/]: theirs are missing")
