"""The roll: invocations as operators ask for them, told from what the stores of a worker's shards hold.

Beside the engine, in the thread of whoever asks, page by page with rests between, so that the engine does not feel it. What is
committed and not in the store yet is laid over it: an operator sees what the last commit has left. One walk is bounded in time.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from odradek_runtime.core.operations.table import KINDS
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import CHUNK, INVOCATION, LOCK, TIMER, Entry, FormatError, Stored
from odradek_runtime.store.store import StoreError

from .sightings import ENDED, STATUSES, Awaited, EntrySeen, JournalSeen, RollPart, Sighting, Wanted

if TYPE_CHECKING:
    from odradek_runtime.clock import Clock
    from odradek_runtime.core.shard import Shard

logger = logging.getLogger("odradek")

SLICE_S = 0.003
REST = 2
"""It rests so many times as long as it has worked."""
WALK_S = 10.0
"""After so long what has been found by then is told."""
SHOWN_CHARACTERS = 200
"""Of a value."""
REASON_CHARACTERS = 500
"""Of an error, where many invocations are told of."""
WAITED = 20
"""So many things that one invocation waits for are told."""


class NotHere(Exception):
    """The shard is another worker's, or on its way."""


class Roll:
    """Of one worker. `shards`: those that can be read now; every method may be called from any thread."""

    def __init__(self, app: str, shards: Callable[[], Sequence[Shard]], clock: Clock, stopping: threading.Event) -> None:
        self._app = app
        self._shards = shards
        self._clock = clock
        self._stopping = stopping

    def call(self, wanted: Wanted) -> RollPart:
        """Those that are wanted, of all shards that are here: the oldest first."""
        part = RollPart([])
        until_s = time.monotonic() + WALK_S
        for shard in self._shards():
            walk = _Walk(self, shard, until_s)
            try:
                found, matching, whole = walk.find(wanted)
            except _Gone:
                continue
            part.shards.append(shard.number)
            part.matching += matching
            part.found += found
            part.partial = part.partial or not whole
        part.found = heapq.nsmallest(wanted.limit, part.found, key=lambda each: (each.created_ms, each.id))
        return part

    def journal(self, number: int, id_: str) -> JournalSeen | None:
        """One invocation and its journal; None: there is none. Raises NotHere."""
        for shard in self._shards():
            if shard.number == number:
                try:
                    return _Walk(self, shard, time.monotonic() + WALK_S).journal(id_)
                except _Gone:
                    break
        raise NotHere

    # --- for its walks ---

    @property
    def app(self) -> str:
        return self._app

    def wall_ms(self) -> float:
        return self._clock.wall_ms()

    def still(self, shard: Shard, rest_s: float = 0.0) -> bool:
        """Rest; whether the shard is still here after that."""
        return not self._stopping.wait(rest_s) and shard in self._shards()


class _Walk:
    """One look at one shard."""

    def __init__(self, roll: Roll, shard: Shard, until_s: float) -> None:
        self._roll = roll
        self._shard = shard
        self._until_s = until_s
        self._whole = True
        self._working = {id_ for id_, _ in list(shard.running)}
        self._begun_s = time.monotonic()

    def find(self, wanted: Wanted) -> tuple[list[Sighting], int, bool]:
        """The oldest, how many there are, and whether all were looked at."""
        oldest: list[tuple[int, str, Stored]] = []
        matching = 0
        for stored in self._named(wanted.ids) if wanted.ids else self._all():
            if not self._fits(stored, wanted):
                continue
            matching += 1
            heapq.heappush(oldest, (-stored.created_ms, stored.id, stored))
            if len(oldest) > wanted.limit:
                heapq.heappop(oldest)
        found = [self._sighting(stored) for _, _, stored in sorted(oldest, key=lambda each: (-each[0], each[1]))]
        self._time_retries(found)
        return found, matching, self._whole

    def journal(self, id_: str) -> JournalSeen | None:
        stored = next(iter(self._named([id_])), None)
        if stored is None:
            return None
        sighting = self._sighting(stored, whole=True)
        self._time_retries([sighting])
        return JournalSeen(sighting, self._entries(stored.id))

    # --- which ---

    def _named(self, ids: Sequence[str]) -> Iterator[Stored]:
        for id_ in ids:
            raw = self._value(keys.invocation(id_))
            if raw is not None:
                yield from _decoded(raw)

    def _all(self) -> Iterator[Stored]:
        for _, raw in self._pairs(b"i", b"j"):
            yield from _decoded(raw)

    def _fits(self, stored: Stored, wanted: Wanted) -> bool:
        service, _, handler = stored.target.partition("/")
        age_s = (self._roll.wall_ms() - stored.created_ms) / 1000
        return (
            (not wanted.service or wanted.service == service)
            and (not wanted.handler or wanted.handler in (handler, stored.target))
            and (wanted.key is None or wanted.key == _text(stored.key))
            and (bool(wanted.ids and not wanted.statuses) or self._status(stored) in (wanted.statuses or STATUSES))
            and (not wanted.older_s or age_s >= wanted.older_s)
            and (not wanted.younger_s or age_s <= wanted.younger_s)
        )

    def _status(self, stored: Stored) -> str:
        if stored.status == "running":
            return "running" if stored.id in self._working else "suspended"
        return stored.status

    # --- how it stands ---

    def _sighting(self, stored: Stored, *, whole: bool = False) -> Sighting:
        seen = Sighting(
            stored.id, stored.target, self._status(stored), self._shard.number, _text(stored.key) if stored.key else None,
            stored.created_ms, stored.created_ms, stored.due_ms, [], stored.attempts, stored.reason, 0, stored.pause,
            stored.caller_app, stored.caller_id, stored.topic, stored.partition, stored.offset, stored.replay, stored.python,
        )  # fmt: skip
        seen.input = stored.payload is not None or stored.status not in ENDED
        if stored.failure is not None:
            seen.code, seen.error = stored.failure.code, stored.failure.message
        if not whole:
            seen.error = seen.error[:REASON_CHARACTERS]
        if seen.status in ENDED or time.monotonic() > self._until_s:
            return seen
        seen.waits_for = self._waits_for(stored, seen)
        return seen

    def _waits_for(self, stored: Stored, seen: Sighting) -> list[Awaited]:
        due_ms = stored.due_ms
        match stored.unbegun or stored.status:
            case "scheduled":
                waits = [Awaited("start", due_ms=due_ms) if due_ms else Awaited("turn", name=stored.target)]
            case "inboxed":
                waits = [Awaited("key", key=seen.key, id=self._holder(stored))]
            case _:
                waits = self._operations(stored, seen)
                if stored.status == "backing_off":
                    seen.since_ms = stored.failed_ms or seen.since_ms
                    waits.insert(0, Awaited("attempt", due_ms=due_ms))
        if stored.status == "paused":
            waits.insert(0, Awaited("operator", name=stored.pause))
        return waits

    def _holder(self, stored: Stored) -> str:
        """Who has the key that it waits for."""
        base = keys.state_prefix(stored.target.partition("/")[0]) + keys.escape(stored.key)
        raw = self._value(keys.lock(base))
        try:
            return "" if raw is None else LOCK.decode(raw).holder
        except FormatError:
            return ""

    def _operations(self, stored: Stored, seen: Sighting) -> list[Awaited]:
        """What it has begun and has no result of."""
        entries = self._entries(stored.id)
        seen.entries = len(entries)
        if entries:
            seen.since_ms = max(max(each.at_ms, each.ended_ms) for each in entries) or seen.since_ms
        return [
            Awaited(each.kind, each.name, each.key, each.ref, each.callee, each.app, each.at_ms, each.due_ms)
            for each in entries
            if not each.ended and (kind := KINDS.get(each.kind)) is not None and kind.word
        ][:WAITED]

    def _time_retries(self, found: Sequence[Sighting]) -> None:
        """When steps run again that have failed: their timers are found by a walk over all, where there are such steps."""
        steps = {
            (each.id, awaited.ref): awaited
            for each in found
            if each.status == "suspended"
            for awaited in each.waits_for
            if awaited.kind == "step"
        }
        if not steps:
            return
        for key, raw in self._pairs(b"t", b"u"):
            due_ms, id_, ref = keys.split_timer(key)
            awaited = steps.get((id_, ref))
            if awaited is not None:
                try:
                    awaited.due_ms, awaited.attempt = due_ms, TIMER.decode(raw).attempt
                except FormatError:
                    continue

    # --- its journal ---

    def _entries(self, id_: str) -> list[EntrySeen]:
        prefix = keys.chunks(id_)
        seen: list[EntrySeen] = []
        for _, raw in sorted(self._pairs(prefix, prefix[:-1] + b"0")):
            try:
                chunk = CHUNK.decode(raw)
            except FormatError as error:
                logger.debug("a part of the journal of %s is left out: %s", id_, error)
                continue
            for entry in chunk.entries:
                if entry.kind != "completion":
                    seen.append(self._entry(id_, entry, chunk.at_ms))
                elif 0 <= entry.ref < len(seen) and not seen[entry.ref].ended:
                    _end(seen[entry.ref], entry, chunk.at_ms)
        return seen

    def _entry(self, id_: str, entry: Entry, at_ms: int) -> EntrySeen:
        key = None if entry.key is None else _text(entry.key)
        seen = EntrySeen(entry.ref, entry.kind, entry.name, key, at_ms, int(entry.at_ms))
        kind = KINDS.get(entry.kind)
        callee = kind.callee(self._roll.app, id_, entry) if kind is not None else None
        if callee is not None:
            seen.app, seen.callee = callee
        elif entry.value is not None:
            seen.value, seen.size = _shown(entry.value), len(entry.value)
        if entry.failure is not None:
            _end(seen, entry, at_ms)
        return seen

    # --- the store ---

    def _value(self, key: bytes) -> bytes | None:
        return next((value for found, value in self._pairs(key, key + b"\0") if found == key), None)

    def _pairs(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """What is committed, in no order, with rests. Raises _Gone when the shard is not here any more."""
        shard = self._shard
        over = {key: value for key, value in dict(shard.unstored).items() if start <= key < stop}
        while start < stop:
            try:
                pairs, start = shard.store.page(start, stop)
            except StoreError as error:
                shard.store_error = shard.store_error or error  # the engine starts it over, unless it has gone
                raise _Gone from error
            for key, value in pairs:
                if key not in over:
                    yield key, value
            now_s = time.monotonic()
            if now_s > self._until_s:
                self._whole = False
                break
            if now_s - self._begun_s >= SLICE_S:
                if not self._roll.still(shard, min((now_s - self._begun_s) * REST, 0.1)):
                    raise _Gone
                self._begun_s = time.monotonic()
        if not self._roll.still(shard):  # a store that was closed meanwhile has nothing more
            raise _Gone
        yield from ((key, value) for key, value in over.items() if value is not None)


def _decoded(raw: bytes) -> Iterator[Stored]:
    try:
        yield INVOCATION.decode(raw)
    except FormatError as error:
        logger.debug("an entry is left out of the roll: %s", error)


def _end(seen: EntrySeen, entry: Entry, at_ms: int) -> None:
    seen.ended, seen.ended_ms = True, at_ms
    if entry.failure is not None:
        seen.code, seen.error = entry.failure.code, entry.failure.message
    elif entry.value is not None:
        seen.value, seen.size = _shown(entry.value), len(entry.value)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _shown(value: bytes) -> str:
    return _text(value[: SHOWN_CHARACTERS * 4])[:SHOWN_CHARACTERS]


class _Gone(Exception):
    """The shard is not here any more, or the worker stops."""
