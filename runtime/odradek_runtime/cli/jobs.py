"""`odradek verify` and `odradek rebuild`: a running app's shards held against the log, and built anew from it.

The worker of this data folder is asked; it passes on what is another worker's.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from odradek_runtime.cli import options
from odradek_runtime.cli.errors import FAILED, counted, err, out
from odradek_runtime.cli.operator import Operator, asker
from odradek_runtime.cli.printable import printable
from odradek_runtime.http.admin import wire
from odradek_runtime.log.port import LogError
from odradek_runtime.worker.upkeep.jobs import Findings, Job

LOOK_S = 0.2
"""How often the worker is asked how far it is."""

VERIFY_EXAMPLES = """
[bold]Examples[/]

  odradek verify                                     every shard of the app that runs here
  odradek verify --shard 3 --shard 7                 these two
  kubectl exec shop-worker-0 -- odradek verify       in Kubernetes: any worker answers for the whole app
"""
REBUILD_EXAMPLES = """
[bold]Examples[/]

  odradek rebuild --shard 3
  kubectl exec shop-worker-0 -- odradek rebuild --shard 3
"""


def verify(
    shard: Annotated[
        list[int] | None, typer.Option("--shard", metavar="N", min=0, help="This shard; repeatable. Default: all of the app.")
    ] = None,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
) -> None:
    """Hold the stores of a running app against the log, byte by byte.

    Each shard is restored from its changelogs into a folder beside its store, up to the position that the store has reached, while
    the app goes on. Differences are shown as a table; the exit code is then 1.
    """
    with Operator(options.settings(bootstrap_servers=bootstrap_servers, data_dir=data_dir)) as operator:
        wanted = wire.WantedVerifications(shard, asker())
        jobs = operator.ask("POST", "/verifications", wire.Jobs, wanted).verifications
        done = _follow(operator, "/verifications", jobs)
    differing = [job for job in done if job.findings is not None and job.findings.differences]
    _show_differences(differing)
    if differing:
        numbers = " ".join(f"--shard {job.shard}" for job in differing[:1])
        err().print(f"  [cyan]→[/] the log is what counts: odradek rebuild {numbers} builds a store anew from it")
    if differing or any(job.status == "failed" for job in done):
        raise typer.Exit(FAILED)


def rebuild(
    shard: Annotated[int, typer.Option("--shard", metavar="N", min=0, help="The shard whose store is built anew.")],
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
) -> None:
    """Have a running worker drop the store of a shard, and restore it from the log.

    As for a store that is damaged: what runs is dropped and done again, the shard's keys wait until it is back, nothing is lost.
    The old store is kept beside the new one, as N.damaged-TIME.
    """
    with Operator(options.settings(bootstrap_servers=bootstrap_servers, data_dir=data_dir)) as operator:
        job = operator.ask("POST", "/rebuilds", Job, wire.WantedRebuild(shard, asker()))
        (done,) = _follow(operator, "/rebuilds", [job])
    if done.status == "failed":
        raise typer.Exit(FAILED)


def _follow(operator: Operator, path: str, jobs: Sequence[Job]) -> list[Job]:
    """Until all are over: bars for those at work, a line for each that is done."""
    done: list[Job] = []
    waiting = {job.id: job for job in jobs}
    with _bars() as progress:
        bars: dict[str, TaskID] = {}
        while waiting:
            for id_, before in list(waiting.items()):
                job = _asked(operator, path, before)
                _draw(progress, bars, job)
                if job.over:
                    del waiting[id_]
                    done.append(job)
                    _tell(job)
            time.sleep(LOOK_S if waiting else 0)
    return done


def _asked(operator: Operator, path: str, job: Job) -> Job:
    """How far it is; a job that nobody knows any more has come to nothing."""
    if job.over:
        return job
    try:
        return operator.ask("GET", f"{path}/{job.id}", Job)
    except LogError as error:
        job.status, job.reason = "failed", str(error)
        return job


@contextmanager
def _bars() -> Generator[Progress]:
    console = err()
    columns = (
        TextColumn("shard {task.fields[shard]}  {task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.fields[of]} records"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress


def _draw(progress: Progress, bars: dict[str, TaskID], job: Job) -> None:
    if job.status == "waiting":
        return
    if job.id not in bars:
        bars[job.id] = progress.add_task(job.status, total=None, shard=job.shard, of="?")
    total = job.total_records or None
    of = f"{total:,}" if total else "?"
    progress.update(
        bars[job.id], description=job.status, completed=job.done_records, total=total, of=of, visible=not job.over
    )


def _tell(job: Job) -> None:
    if job.status == "failed":
        said = "not verified" if job.kind == "verify" else "not rebuilt"
        err().print(f"shard {job.shard}: [bold red]{said}[/]: {escape(printable(job.reason))}")
    elif job.findings is not None:
        out().print(_found(job, job.findings))
    else:
        out().print(f"shard {job.shard}: rebuilt from {counted(job.total_records, 'record')} of the log")


def _found(job: Job, found: Findings) -> str:
    if found.differences:
        verdict = f"[bold red]{counted(found.differences, 'difference')}[/]"
    else:
        verdict = "[green]the store is what the log says[/]"
    where = f"journal {found.journal_offset}, state {found.state_offset}"
    notes = [f"{counted(found.keys, 'key')} at {where}, {found.seconds:.1f} s"]
    if found.written_since:
        notes.append(f"{counted(found.written_since, 'key')} left out: written again meanwhile")
    if found.unknown:
        notes.append(f"{counted(found.unknown, 'key')} left out: another version's")
    for topic, records in found.foreign.items():
        notes.append(f"{counted(records, 'record')} of {escape(topic)} left out: not the app's own")
    return f"shard {job.shard}: {verdict} ({'; '.join(notes)})"


def _show_differences(jobs: Sequence[Job]) -> None:
    if not jobs:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("SHARD", "KIND", "KEY", "IN THE STORE", "IN THE LOG"):
        table.add_column(title, justify="left" if title in ("KIND", "KEY") else "right", overflow="fold")
    hidden = 0
    for job in jobs:
        assert job.findings is not None, "those that differ have been verified"
        for each in job.findings.shown:
            sizes = [_size(each.store_bytes), _size(each.log_bytes)]
            table.add_row(str(job.shard), each.kind, escape(printable(each.key)), *sizes)
        hidden += job.findings.differences - len(job.findings.shown)
    out().print(table)
    if hidden:
        out().print(f"and {counted(hidden, 'other')}")


def _size(size: int | None) -> str:
    return "-" if size is None else f"{size:,} bytes"
