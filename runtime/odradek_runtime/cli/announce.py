"""What a worker says on the terminal: a start-up block for people, then one line for each change."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.style import Style
from rich.table import Table
from rich.text import Text

from odradek import App
from odradek_runtime.cli.errors import out
from odradek_runtime.cli.release import installed_version
from odradek_runtime.cli.speech import Speech
from odradek_runtime.configuration.settings import Settings

if TYPE_CHECKING:
    from odradek_runtime.core.metrics import Restore, Snapshot
    from odradek_runtime.node.node import Node

HANDLERS_SHOWN = 12


class Announcer:
    """Speaks for one worker. With several workers only the first one prints the block, and lines carry the index."""

    def __init__(self, reference: str, app: App, settings: Settings, *, index: int, workers: int) -> None:
        self._reference = reference
        self._app = app
        self._settings = settings
        self._index = index
        self._prefix = f"[dim]worker {index}[/] " if workers > 1 else ""
        self._speech = Speech(settings, out)
        self._owned: set[int] = set()
        self._restored_percent: dict[int, int] = {}
        self._ready = False

    def started(self, node: Node) -> None:
        """Print the block; in a JSON log a line."""
        if self._speech.in_json:
            self._say(f"app {escape(self._app.name)} on {self._log()}, HTTP {escape(node.url)}, admin {escape(node.admin_url)}")
        elif self._index == 0:
            out().print(self._block(node))
        self.look(node)

    def waiting(self, reason: str, wait_s: float) -> None:
        """Say that the log cannot be reached."""
        self._say(f"[yellow]waiting for the log[/], again in {wait_s:g} s: {escape(reason)}", logging.WARNING)

    def look(self, node: Node) -> None:
        """Print what has changed since the last look: shards, restore, readiness."""
        snapshot = node.worker.snapshot()
        self._shards(snapshot, node.worker.shards)
        self._restore(dict(snapshot.get("restoring", {})))
        ready = node.worker.ready and bool(self._owned)
        if ready and not self._ready:
            self._say(f"[green]ready[/]: {_ranges(self._owned)} of {node.worker.shards} shards")
        self._ready = ready

    def _block(self, node: Node) -> Table:
        block = Table.grid(padding=(0, 2))
        block.add_row("[bold]odradek[/]", installed_version())
        block.add_row("app", f"[bold]{escape(self._app.name)}[/] ({escape(self._reference)})")
        block.add_row("log", self._log())
        for number, subscription in enumerate(self._app.subscriptions()):
            line = f"{escape(subscription.topic.name)} → [cyan]{escape(subscription.handler.target)}[/]"
            block.add_row("subscribed" if number == 0 else "", line)
        for number, line in enumerate(self._paths()):
            block.add_row("handlers" if number == 0 else "", line)
        block.add_row("HTTP", Text(node.url, style=Style(link=node.url)))
        block.add_row("admin", f"{escape(node.admin_url)}/health  /ready  /metrics")
        return block

    def _log(self) -> str:
        servers = self._settings.bootstrap_servers
        return f"Kafka at {escape(servers)}" if servers else f"embedded, in {escape(str(self._settings.data_dir))}"

    def _paths(self) -> list[str]:
        paths = [
            f"POST /{escape(handler.service)}/{'{key}/' if handler.keyed else ''}{escape(handler.name)}"
            for handler in self._app.handlers().values()
            if handler.public
        ]
        more = len(paths) - HANDLERS_SHOWN
        return [*paths[:HANDLERS_SHOWN], f"[dim]… and {more} more[/]"] if more > 0 else paths

    def _shards(self, snapshot: Snapshot, total: int) -> None:
        owned = set(snapshot.get("shards_owned", ()))
        gained, lost = owned - self._owned, self._owned - owned
        if lost:
            self._say(f"[yellow]shards {_ranges(lost)} moved away[/], {len(owned)} of {total} left")
        if gained:
            self._say(f"shards {_ranges(gained)} gained, {len(owned)} of {total}")
        self._owned = owned

    def _restore(self, progress: dict[int, Restore]) -> None:
        for shard, restore in progress.items():
            percent = 100 * restore["done_records"] // max(restore["total_records"], 1)
            if restore["total_records"] and percent >= self._restored_percent.get(shard, -25) + 25:
                self._restored_percent[shard] = percent
                self._say(f"restoring shard {shard}: {percent} % of {restore['total_records']:,} records")
        for shard in [one for one in self._restored_percent if one not in progress]:
            del self._restored_percent[shard]

    def _say(self, line: str, level: int = logging.INFO) -> None:
        self._speech.say(self._prefix + line, level)


def _ranges(numbers: Iterable[int]) -> str:
    """Shard numbers as a person writes them.

    >>> _ranges([0, 1, 2, 5])
    '0-2, 5'
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(_run(run) for run in runs)


def _run(run: Sequence[int]) -> str:
    return str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}"
