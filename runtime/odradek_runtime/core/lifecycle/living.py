"""The living: invocations of the worker's shards that have a coroutine, or are about to have one, and outlive their epoch.

Stands between the shards, whose stores have everybody's entry, and all that asks for an invocation by its id.
"""

from __future__ import annotations

from collections import defaultdict

from odradek_runtime.core.locks import Queued
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import INVOCATION, Stored
from odradek_runtime.core.running.invocation import Live
from odradek_runtime.core.shard import Shard


class Living:
    """By shard, and by id."""

    def __init__(self) -> None:
        self._shards: defaultdict[int, dict[str, Live]] = defaultdict(dict)
        self._queued: defaultdict[int, dict[str, Live]] = defaultdict(dict)

    def add(self, live: Live) -> None:
        """It is there from now on."""
        self._shards[live.shard.number][live.id] = live

    def remove(self, live: Live) -> None:
        """It has ended, or its coroutine is of no use any more."""
        self._shards[live.shard.number].pop(live.id, None)

    def queue(self, live: Live) -> None:
        """It waits for its key, and has no entry in the store yet."""
        if live.named:
            self._queued[live.shard.number][live.id] = live

    def unqueue(self, shard: Shard, queued: Queued) -> None:
        """It begins, or is written."""
        if self._queued:
            self._queued[shard.number].pop(queued.id, None)

    def find(self, shard: Shard, id_: str) -> Live | None:
        """None: it has no coroutine here, whether or not there is such an invocation."""
        return self._shards[shard.number].get(id_)

    def in_line(self, shard: Shard, id_: str) -> Live | None:
        """One that waits for its key, and has no entry in the store yet."""
        return self._queued[shard.number].get(id_)

    def of(self, number: int) -> list[Live]:
        """All of one shard."""
        return list(self._shards[number].values())

    def drop(self, number: int) -> None:
        """The shard goes, and those that wait for a key there with it."""
        self._queued.pop(number, None)

    def __len__(self) -> int:
        return sum(len(each) for each in list(self._shards.values()))

    def stored(self, shard: Shard, id_: str) -> Stored | None:
        """The entry of an invocation as it is now; None: there is none."""
        live = self._shards[shard.number].get(id_)
        if live is not None:
            return live.endure()
        in_line = self._queued[shard.number].get(id_)
        if in_line is not None:
            stored = in_line.endure()
            if stored.status == "running":  # as it was made
                stored.status = "inboxed"
            return stored
        raw = shard.read(keys.invocation(id_))
        return INVOCATION.decode(raw) if raw is not None else None
