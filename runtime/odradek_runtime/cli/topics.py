"""`odradek topics`: what topics there are and how much is in them; makes one, too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer
from rich.table import Table

from odradek_runtime.cli import connect, options
from odradek_runtime.cli.errors import out
from odradek_runtime.log.port import Log, Partition
from odradek_runtime.startup import INTERNAL

EXAMPLES = """
[bold]Examples[/]

  odradek topics
  odradek topics --create invoices --partitions 16
"""
SUFFIXES = tuple(f".{kind}" for kind in INTERNAL)
"""How the topics of an app's own bookkeeping end."""


def internal(names: Iterable[str]) -> set[str]:
    """Those that are apps' own bookkeeping, which only their workers may write. Each app has all: one alone is a user's."""
    known = set(names)
    apps = {name.removesuffix(SUFFIXES[0]) for name in known if name.endswith(SUFFIXES[0])}
    families = [{app + suffix for suffix in SUFFIXES} for app in apps]
    return {name for family in families if family <= known for name in family}


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
    """List the topics with their partitions and the offsets in them."""
    settings = options.settings(bootstrap_servers=bootstrap_servers, data_dir=data_dir, kafka=kafka)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("TOPIC")
    for title in ("PARTITIONS", "OFFSETS"):
        table.add_column(title, justify="right")
    with connect.log(settings, must_exist=create is None) as log:
        if create is not None:
            log.create_topic(create, partitions, {})
        for name in log.topics() if all else of_users(log):
            table.add_row(name, *_figures(log, name))
    if table.row_count:
        out().print(table)
    else:
        out().print("no topics yet: [bold]odradek publish TOPIC FILE --create[/] makes one")


def _figures(log: Log, name: str) -> tuple[str, str]:
    info = log.topic(name)
    if info is None:
        return "gone", ""
    ends = [log.offsets(Partition(name, one)) for one in range(info.partitions)]
    return str(info.partitions), f"{sum(end - first for first, end in ends):,}"
