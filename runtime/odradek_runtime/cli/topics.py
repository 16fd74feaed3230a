"""`odradek topics`: what topics there are and how much is in them; makes one, too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import typer
from rich.table import Table

from odradek_runtime.cli import connect, options
from odradek_runtime.cli.errors import out
from odradek_runtime.log.port import Log, LogError, Partition, TopicInfo
from odradek_runtime.worker.restore.startup import INTERNAL

COUNTED = 10_000
"""So many unread records of a topic are counted one by one."""

EXAMPLES = """
[bold]Examples[/]

  odradek topics
  odradek topics --create invoices --partitions 16
"""
SUFFIXES = tuple(f".{kind}" for kind in INTERNAL)
"""How the topics of an app's own bookkeeping end."""


def apps_of(names: Iterable[str]) -> list[str]:
    """The apps whose bookkeeping is among these topics. Each has all of it: one alone is a user's."""
    known = set(names)
    candidates = {name.removesuffix(SUFFIXES[0]) for name in known if name.endswith(SUFFIXES[0])}
    return sorted(app for app in candidates if {app + suffix for suffix in SUFFIXES} <= known)


def internal(names: Iterable[str]) -> set[str]:
    """Those that are apps' own bookkeeping, which only their workers may write."""
    return {app + suffix for app in apps_of(names) for suffix in SUFFIXES}


def of_users(log: Log) -> list[str]:
    """The topics without those that are internal to an app."""
    names = log.topics()
    hidden = internal(names)
    return [name for name in names if name not in hidden]


def topics(
    all: Annotated[bool, typer.Option("--all", "-a", help="Also each app's commands, journal and state.")] = False,
    create: Annotated[str | None, typer.Option("--create", metavar="NAME", help="Make this topic first.")] = None,
    partitions: Annotated[int, typer.Option("--partitions", min=1, help="Of the topic that --create makes.")] = 8,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
    kafka: options.Kafka = None,
) -> None:
    """List the topics with their partitions, the offsets in them, and what each app has yet to read of them."""
    settings = options.settings(bootstrap_servers=bootstrap_servers, data_dir=data_dir, kafka=kafka)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("TOPIC", "PARTITIONS", "OFFSETS", "READ BY", "UNREAD"):
        table.add_column(title, justify="left" if title in ("TOPIC", "READ BY") else "right")
    with connect.log(settings, must_exist=create is None) as log:
        if create is not None:
            log.create_topic(create, partitions, {})
        found = [info for name in (log.topics() if all else of_users(log)) if (info := log.topic(name)) is not None]
        progress = Progress(log, found)
        for info in found:
            first, *others = progress.readers(info) or [("", "")]
            table.add_row(info.name, str(info.partitions), progress.offsets(info), *first)
            for reader in others:
                table.add_row("", "", "", *reader)
    if table.row_count:
        out().print(table)
    else:
        out().print("no topics yet: [bold]odradek publish TOPIC FILE --create[/] makes one")


class Progress:
    """How far the apps of a log have read these topics."""

    def __init__(self, log: Log, topics: Sequence[TopicInfo]) -> None:
        self._log = log
        partitions = [Partition(info.name, number) for info in topics for number in range(info.partitions)]
        self._bounds = {partition: log.offsets(partition) for partition in partitions}
        self._committed = {app: log.committed_offsets(app, partitions) for app in apps_of(log.topics())}

    def offsets(self, info: TopicInfo) -> str:
        """How many offsets lie between the beginning and the end: records, and on Kafka the markers of transactions."""
        bounds = [self._bounds[partition] for partition in _partitions(info)]
        return f"{sum(end - first for first, end in bounds):,}"

    def readers(self, info: TopicInfo) -> list[tuple[str, str]]:
        """(app, unread records) of each that reads the topic."""
        partitions = _partitions(info)
        apps = [app for app, offsets in self._committed.items() if any(p in offsets for p in partitions)]
        # Of a partition where none has been read nothing is committed: all of it is unread.
        return [(app, self._unread({p: self._committed[app].get(p, 0) for p in partitions})) for app in apps]

    def _unread(self, committed: Mapping[Partition, int]) -> str:
        """Counted, not reckoned from offsets, which markers take up, too; about, where there is too much to count."""
        spans = {p: (max(at, self._bounds[p][0]), self._bounds[p][1]) for p, at in committed.items()}
        at_most = sum(max(end - start, 0) for start, end in spans.values())
        if at_most > COUNTED:
            return f"~{at_most:,}"
        try:
            counts = [len(batch) for p, (start, end) in spans.items() if start < end for batch in self._log.scan(p, start, end)]
        except LogError:  # an open transaction stands in the way, or what was to be counted has just been deleted
            return f"~{at_most:,}"
        return f"{sum(counts):,}"


def _partitions(info: TopicInfo) -> list[Partition]:
    return [Partition(info.name, number) for number in range(info.partitions)]
