"""Concurrency limits of handlers: how many invocations of one may be under way in this worker at once.

What is over the limit is persisted as a start that is due, keeps its place here in memory, and begins when another one ends; after
a restart its timer brings it back. An invocation that ends without waiting is never counted.
"""

from __future__ import annotations

from collections import deque

from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import Stored
from odradek_runtime.core.running.invocation import Live
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import Shard


class Limits:
    """The handlers with `concurrency=`, what runs of each and what waits."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._limits = {h.target: h.concurrency for h in scope.handlers.values() if h.concurrency is not None}
        self._busy: dict[str, set[tuple[int, str]]] = {target: set() for target in self._limits}
        self._waiting: dict[str, deque[tuple[Shard, str]]] = {target: deque() for target in self._limits}
        self._waits: set[tuple[int, str]] = set()

    def __bool__(self) -> bool:
        return bool(self._limits)

    @property
    def backlog(self) -> int:
        """How many wait for their turn, of all handlers together: past a bound the inputs pause."""
        return sum(len(waiting) for waiting in self._waiting.values())

    def full(self, target: str) -> bool:
        """Whether another one would be too many."""
        limit = self._limits.get(target)
        return limit is not None and len(self._busy[target]) >= limit

    def queue(self, live: Live) -> None:
        """It has its place from now on, as it is persisted: a start that is due."""
        self._waiting[live.handler.target].append((live.shard, live.id))
        self._waits.add((live.shard.number, live.id))

    def waits(self, shard: Shard, id_: str) -> bool:
        """Whether it has its place in memory already: its timer, loaded late, must not start it a second time."""
        return (shard.number, id_) in self._waits

    def leave(self, shard: Shard, stored: Stored) -> None:
        """It does not wait for its turn any more, if it did."""
        place = shard.number, stored.id
        if place in self._waits:
            self._waits.discard(place)
            self._waiting[stored.target].remove((shard, stored.id))

    def began(self, live: Live) -> None:
        """It has to wait for something, so it counts."""
        busy = self._busy.get(live.handler.target)
        if busy is not None:
            busy.add((live.shard.number, live.id))

    def ended(self, live: Live) -> None:
        """It has ended, or has been set aside: the next may begin."""
        target = live.handler.target
        busy = self._busy.get(target)
        if busy is None:
            return
        busy.discard((live.shard.number, live.id))
        if self._waiting[target] and not self.full(target):
            self._next(target)

    def resume(self) -> None:
        """After shards have gone, and what ran there with them: those that wait here take the places."""
        for target, limit in self._limits.items():
            for _ in range(min(limit - len(self._busy[target]), len(self._waiting[target]))):
                self._next(target)

    def _next(self, target: str) -> None:
        shard, id_ = self._waiting[target].popleft()
        self._waits.discard((shard.number, id_))
        shard.put(keys.timer(0, id_, keys.REF_START), None)
        self._scope.touch(shard)
        self._scope.ready.append((shard, id_))

    def drop(self, shard: Shard) -> None:
        """The shard goes; what waits there is in its journal."""
        for target, busy in self._busy.items():
            busy.difference_update([slot for slot in busy if slot[0] == shard.number])
            self._waiting[target] = deque(slot for slot in self._waiting[target] if slot[0] is not shard)
        self._waits.difference_update([slot for slot in self._waits if slot[0] == shard.number])
