"""The census: what is running, suspended, backing off, paused or queued now, by handler; the oldest of each; timers; outboxes.

Beside the engine, for metrics alone. A thread of its own goes through what the stores hold of each shard, page by page, and rests
for far longer than a page takes, so that the engine does not feel it: a million sleepers take minutes to count, and the age of
the figures is told with them. A store is written a moment after its commit; once an app is quiet the figures are exact.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from odradek_runtime.core.metrics import Standing
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import COMMAND, INVOCATION, TIMER, FormatError
from odradek_runtime.store.store import StoreError

from .sightings import STATUSES

if TYPE_CHECKING:
    from odradek_runtime.clock import Clock
    from odradek_runtime.core.shard import Shard

logger = logging.getLogger("odradek")

KINDS: tuple[str, ...] = ("sleep", "step", "retry", "start", "timeout", "purge")
"""Of timers. `step`: the next attempt of a step; a step that is at work has none."""
EVERY_S = 2.0
"""A shard is counted no more often."""
TURN_S = 0.5
SLICE_S = 0.003
"""So long it goes on without a rest: other threads may have to wait for it."""
REST = 9
"""It rests so many times as long as it has worked."""

_KIND_OF_REF = {
    keys.REF_RETRY: "retry",
    keys.REF_START: "start",
    keys.REF_PURGE: "purge",
    keys.REF_TIMEOUT: "timeout",
}


@dataclass(slots=True)
class Group:
    """Invocations of one handler in one status."""

    number: int = 0
    oldest_ms: float = 0.0
    """When the oldest began, by the wall clock."""

    def add(self, number: int, oldest_ms: float) -> None:
        if number:
            self.oldest_ms = min(self.oldest_ms, oldest_ms) if self.number else oldest_ms
            self.number += number


@dataclass(slots=True)
class Count:
    """What one shard holds. `began_ms`: by the steady clock; `stamp`: of the ownership it was counted under."""

    stamp: int
    began_ms: float
    done: bool = False
    """False: it is still to be counted, and has been here since `began_ms`."""
    invocations: dict[tuple[str, str], Group] = field(default_factory=dict[tuple[str, str], Group])
    """(`service/handler`, status) -> how many."""
    pending: dict[str, int] = field(default_factory=dict[str, int])
    due: dict[str, int] = field(default_factory=dict[str, int])
    """Timers by kind; those whose time had come."""
    outboxes: dict[str, Group] = field(default_factory=dict[str, Group])
    """App -> commands that wait until it can be told."""


class Census:
    """Counts each shard again and again. `shards` gives those that are here, in any thread."""

    def __init__(self, shards: Callable[[], Sequence[Shard]], clock: Clock, stopping: threading.Event) -> None:
        self._shards = shards
        self._clock = clock
        self._stopping = stopping
        self._counts: dict[int, Count] = {}
        self._thread = threading.Thread(target=self._run, name="odradek-census", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        if self._thread.is_alive():
            self._thread.join(10.0)

    def standing(self, stamps: Mapping[int, int], targets: Iterable[str]) -> Standing:
        """The sum over the shards that are owned now (their stamps by number); handlers without any are in it. From any thread."""
        counts = [count for number, count in list(self._counts.items()) if stamps.get(number) == count.stamp]
        groups = {(target, status): Group() for target in targets for status in STATUSES}
        pending, due = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
        outboxes = dict[str, Group]()
        for count in counts:
            for place, group in count.invocations.items():
                groups.setdefault(place, Group()).add(group.number, group.oldest_ms)
            for kind in KINDS:
                pending[kind] += count.pending.get(kind, 0)
                due[kind] += count.due.get(kind, 0)
            for app, group in count.outboxes.items():
                outboxes.setdefault(app, Group()).add(group.number, group.oldest_ms)
        now_ms, steady_ms = self._clock.wall_ms(), self._clock.steady_ms()
        invocations = {
            place: (group.number, max(now_ms - group.oldest_ms, 0.0) / 1000 if group.number else 0.0)
            for place, group in groups.items()
        }
        oldest_ms = min((count.began_ms for count in counts), default=steady_ms)
        owed = {app: (group.number, max(now_ms - group.oldest_ms, 0.0) / 1000) for app, group in outboxes.items()}
        return Standing(invocations, pending, due, max(steady_ms - oldest_ms, 0.0) / 1000, owed)

    # --- its thread ---

    def _run(self) -> None:
        while not self._stopping.wait(TURN_S):
            self.round()

    def round(self) -> None:
        """Count the shards whose turn it is: first the new ones, then those that have waited longest."""
        here, now_ms = self._shards(), self._clock.steady_ms()
        for shard in here:
            if shard.number not in self._counts or self._counts[shard.number].stamp != shard.stamp:
                self._counts[shard.number] = Count(shard.stamp, now_ms)
        latest = [(self._counts[shard.number], shard) for shard in here]
        for count, shard in sorted(latest, key=lambda each: (each[0].done, each[0].began_ms)):
            if not count.done or now_ms - count.began_ms >= EVERY_S * 1000:
                self._count(shard)

    def _count(self, shard: Shard) -> None:
        count = Count(shard.stamp, self._clock.steady_ms())
        working = {id_ for id_, _ in list(shard.running)}
        try:
            for key, raw in self._pairs(shard, b"i", b"j"):
                self._invocation(count, key, raw, working)
            for key, raw in self._pairs(shard, b"o", b"p"):
                self._waiting(count, key, raw)
            for key, raw in self._pairs(shard, b"t", b"u"):
                self._timer(count, key, raw)
        except StoreError as error:
            shard.store_error = shard.store_error or error  # the engine starts it over, unless it has gone
        except _Gone:
            pass
        else:
            count.done = True
            self._counts[shard.number] = count

    def _pairs(self, shard: Shard, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """What the store holds, with rests. Raises _Gone when the shard is not here any more."""
        begun_s = time.monotonic()
        while start < stop:
            pairs, start = shard.store.page(start, stop)
            yield from pairs
            worked_s = time.monotonic() - begun_s
            if worked_s >= SLICE_S:
                if self._stopping.wait(min(worked_s * REST, 1.0)) or shard not in self._shards():
                    raise _Gone
                begun_s = time.monotonic()
        if shard not in self._shards():  # a store that was closed meanwhile has nothing more
            raise _Gone

    def _invocation(self, count: Count, key: bytes, raw: bytes, working: set[str]) -> None:
        try:
            stored = INVOCATION.decode(raw)
        except FormatError as error:
            logger.debug("%s is left out of the census: %s", key, error)
            return
        status = stored.status
        if status == "running":
            status = "running" if stored.id in working else "suspended"
        if status in STATUSES:
            count.invocations.setdefault((stored.target, status), Group()).add(1, stored.created_ms)

    def _waiting(self, count: Count, key: bytes, raw: bytes) -> None:
        try:
            command = COMMAND.decode(raw)
        except FormatError as error:
            logger.debug("%s is left out of the census: %s", key, error)
            return
        count.outboxes.setdefault(keys.outbox_app(key), Group()).add(1, command.timestamp_ms)

    def _timer(self, count: Count, key: bytes, raw: bytes) -> None:
        due_ms, _, ref = keys.split_timer(key)
        kind = _KIND_OF_REF.get(ref)
        if kind is None:
            if not due_ms:  # a step that is at work
                return
            try:
                kind = TIMER.decode(raw).kind
            except FormatError:
                return
        count.pending[kind] = count.pending.get(kind, 0) + 1
        if 0 < due_ms <= self._clock.wall_ms():
            count.due[kind] = count.due.get(kind, 0) + 1


class _Gone(Exception):
    """The shard is not here any more, or the worker stops."""
