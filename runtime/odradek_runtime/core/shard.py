"""A shard: the unit of ownership. Its store below the changes of the epochs in flight, its positions, locks and timers.

Reads look through the open epoch, the one that is being committed, what was committed last, then the store. The store is written
after the commit, that of several epochs at once (invariant 3); what an epoch that failed had changed is dropped with the whole
in-memory shard.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import (
    REPLAY,
    REPLAY_TALLY,
    STORE_POSITION,
    TIMER,
    Replay,
    ReplayTally,
    StorePosition,
    Timer,
)
from odradek_runtime.log.port import ChangelogPosition, Partition
from odradek_runtime.store.store import Store, StoreError

from .locks import Locks
from .timers import Timers

if TYPE_CHECKING:
    from odradek_runtime.core.records.request import Answer

logger = logging.getLogger("odradek")


class StoreLost(BaseException):
    """The shard's store has failed: what runs now is dropped, and the shard starts over. Handlers let it pass.

    No Exception, so that nobody's `except Exception` takes it for a failure of his own. Who catches even this changes nothing:
    the shard is marked, and no epoch of a worker with such a shard is ever committed.
    """


ABSENT: bytes = b"\x00absent"
"""Stands for a key that a dictionary does not have; None is a deletion."""
_CHUNK, _WAITER = ord("j"), ord("y")
Changes = dict[bytes, bytes | None]
Bases = dict[bytes, bytes]
RECENT_KEYS = 50_000
AT_ONCE_BYTES = 1024 * 1024
"""The store is written before so much has gathered: the library holds the interpreter's lock meanwhile, some 6 ms a MiB."""
WRITE_BACK_MS = 500
"""How long what is committed may wait for the store: a crash costs far more of it, for the store has no log of its own."""


class Reset(NamedTuple):
    """An order that moved a position. `until`: the highest it had come to before; what lies below was read before."""

    id: str
    until: int


class Running(NamedTuple):
    """A step that runs (`run` says which run of it), of an invocation that was begun then: another may have its id by its end."""

    run: object
    created_ms: int


class Shard:
    """One owned shard after its restore. `local`: commands may be handed over within an epoch (invariant 11)."""

    def __init__(self, number: int, stamp: int, incarnation: int, sequence: int, store: Store, at: StorePosition) -> None:
        self.number = number
        self.stamp = stamp
        self.incarnation = incarnation
        self.sequence = sequence
        self.store = store
        self.at = at
        self.phase: Literal["opening", "open", "leaving"] = "opening"
        self.positions: dict[Partition, int] = {}
        self.topic_ids: dict[str, str] = {}
        self.resets: dict[Partition, Reset] = {}
        """What moved positions last, where something has."""
        self.generations: dict[Partition, int] = {}
        self.advanced: set[Partition] = set()
        self.changes: Changes = {}
        self.committing: Changes = {}
        self._chunks: dict[bytes, list[bytes]] = {}
        self._chunks_committing: dict[bytes, list[bytes]] = {}
        self.unstored: Changes = {}
        """Committed and not yet in the store: a busy key is not written at every commit."""
        self._unstored_bytes = 0
        self._stored_ms = 0.0
        self.store_error: StoreError | None = None
        """Why the store could not be read or written: the shard has to start over. Set from any thread."""
        self.recent: Changes = {}
        """What is unstored, and values of the last commits: a busy key is not read from the store at every event."""
        self._recent_bytes = 0
        self.bases: dict[str, Bases] = {}
        """By service: what the state keys of a key begin with, as the lanes remember it."""
        self.locks = Locks(self)
        self.timers = Timers()
        self.running: dict[tuple[str, int], Running] = {}
        """Steps, by invocation id and ref, that this worker has started and not heard of, of invocations in the journal."""
        self.waiters: dict[str, list[Answer]] = {}
        self.attached: set[str] = set()
        """Invocations that have attached callers: most have none, and a scan for each that ends would cost more than it."""
        self.foreign: Mapping[str, int] = {}
        """By changelog: records that its restore has left out, since they are not the app's own."""
        self.replays: dict[bytes, Replay] = {}
        """The parts of replays that are, or were, delivered here, by their keys in the journal."""
        self.replay_tallies: dict[str, ReplayTally] = {}
        self.replay_rows: dict[bytes, bytes] = {}
        """Of both what is committed, as the journal has it: what other threads may see."""
        self.outboxes: set[str] = set()
        """Other apps that commands wait for."""
        self.barrier = ""
        self.local = False
        self.flushed_ms = 0.0

    # --- what it holds ---

    def read(self, key: bytes) -> bytes | None:
        value = self.changes.get(key, ABSENT)
        if value is ABSENT:
            value = self.committing.get(key, ABSENT)
            if value is ABSENT:
                value = self.recent.get(key, ABSENT)
                if value is ABSENT:
                    try:
                        return self.store.get(key)
                    except StoreError as error:
                        raise self._lost(error) from error
        return value

    def _lost(self, error: StoreError) -> StoreLost:
        self.store_error = self.store_error or error
        return StoreLost(str(error))

    def put(self, key: bytes, value: bytes | None) -> None:
        self.changes[key] = value
        if key[0] == _CHUNK:
            self._chunks.setdefault(key[:-8], []).append(key)
        elif key[0] == _WAITER:
            self._chunks.setdefault(key[: -keys.WAITER_BYTES], []).append(key)

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start <= key < stop in order, the epochs in flight laid over the store."""
        laid = {k: v for k, v in self.committing.items() if start <= k < stop}
        laid.update((k, v) for k, v in self.changes.items() if start <= k < stop)
        return self._over_store(start, stop, laid)

    def scan_prefix(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self.scan(prefix, prefix[:-1] + bytes([prefix[-1] + 1]))

    def scan_chunks(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """As `scan_prefix`, for an invocation's journal or a promise's waiters: asked so often that it must not walk the epoch."""
        found = [*self._chunks_committing.get(prefix, ()), *self._chunks.get(prefix, ())]
        laid = {key: self.changes[key] if key in self.changes else self.committing[key] for key in found}
        return self._over_store(prefix, prefix[:-1] + bytes([prefix[-1] + 1]), laid)

    def _over_store(self, start: bytes, stop: bytes, laid: Changes) -> Iterator[tuple[bytes, bytes]]:
        self.write_back()
        unstored = {k: v for k, v in self.unstored.items() if start <= k < stop}  # what the store has refused
        over = sorted((unstored | laid).items())
        index = 0
        for key, value in self._stored(start, stop):
            while index < len(over) and over[index][0] < key:
                yield from _present(over[index])
                index += 1
            if index < len(over) and over[index][0] == key:
                yield from _present(over[index])
                index += 1
            else:
                yield key, value
        for pair in over[index:]:
            yield from _present(pair)

    def _stored(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        try:
            yield from self.store.scan(start, stop)
        except StoreError as error:
            raise self._lost(error) from error

    def next_sequence(self) -> int:
        self.sequence += 1
        return self.sequence

    # --- after a restore ---

    def free_locks(self) -> None:
        """Keys that somebody else's record holds are free: they would be held for ever. Raises StoreError."""
        try:
            following = self.locks.free_of_strangers()
        except StoreLost:
            assert self.store_error is not None, "it says why"
            raise self.store_error from None
        for id_ in following:
            self.set_timer(keys.timer(0, id_, keys.REF_START), Timer("start"))

    def load_locks(self) -> None:
        """From the store: held keys, who has attached callers, what apps are owed. Raises StoreError."""
        self.locks.load(iter(self.store.scan(b"l", b"m")))
        self.attached.update(keys.attached_id(key) for key, _ in self.store.scan(b"a", b"b"))
        owed = next(iter(self.store.scan(b"o", b"p")), None)
        while owed is not None:  # from app to app: one may be owed very much
            app = keys.outbox_app(owed[0])
            self.outboxes.add(app)
            owed = next(iter(self.store.scan(keys.outbox(app)[:-1] + b"0", b"p")), None)

    def load_replays(self) -> None:
        """From the store. Raises StoreError."""
        orders = dict(self.store.scan(b"k", b"l"))
        self.replay_rows.update(orders)
        for key, value in (*self.store.scan(b"r", b"s"), *self.store.scan(b"u", b"v")):
            self.replay_rows[key] = value
            if key[:1] == b"r":
                part = self.replays[key] = REPLAY.decode(value)
                order = orders.get(keys.replay_order(part.id, part.partition))
                part.keys = part.keys if order is None else REPLAY.decode(order).keys
            else:
                tally = REPLAY_TALLY.decode(value)
                self.replay_tallies[tally.id] = tally

    # --- timers ---

    def set_timer(self, key: bytes, timer: Timer) -> None:
        timer.clock = self.timers.clock
        self.put(key, TIMER.encode(timer))
        self.timers.add(key)

    # --- epochs ---

    def close_epoch(self) -> None:
        """The open changes go into the commit; the next epoch starts with none."""
        assert not self.committing, "one commit at a time"
        self.committing, self.changes = self.changes, {}
        self._chunks_committing, self._chunks = self._chunks, {}
        self.advanced = set()

    def committed(self, position: ChangelogPosition, time_ms: int, steady_ms: float, recent_bytes: int) -> None:
        """The commit, sent at that time by either clock, is durable: from now on it may go into the store.

        `recent_bytes`: so much may be kept of what is not in it yet, and so much of what is and may be read again.
        """
        if position.journal is not None:
            self.at.journal_offset = position.journal
        if position.state is not None:
            self.at.state_offset = position.state
        self.at.time_ms = time_ms
        if not self.unstored:
            self._stored_ms = steady_ms
        self._remember(self.committing, recent_bytes)
        self.committing = {}
        self._chunks_committing = {}
        if self._unstored_bytes > min(recent_bytes, AT_ONCE_BYTES) or len(self.unstored) > RECENT_KEYS:
            self.write_back()

    def overdue(self, steady_ms: float) -> bool:
        """Whether something committed has waited long enough for the store."""
        return bool(self.unstored) and steady_ms - self._stored_ms >= WRITE_BACK_MS

    def write_back(self) -> None:
        """Write what is committed to the store, with the changelog positions, in one batch."""
        if not self.unstored or self.store_error is not None:
            return
        try:
            self.store.write([*self.unstored.items(), (keys.STORE_POSITION, STORE_POSITION.encode(self.at))])
        except StoreError as error:
            self.store_error = error
        else:
            self.unstored = {}
            self._unstored_bytes = 0

    def _remember(self, changes: Changes, recent_bytes: int) -> None:
        size = sum(map(len, changes)) + sum(map(len, filter(None, changes.values())))
        self._unstored_bytes += size
        self.unstored.update(changes)
        self._recent_bytes += size
        if self._recent_bytes > recent_bytes or len(self.recent) > RECENT_KEYS:
            self.recent, self._recent_bytes = dict(self.unstored), self._unstored_bytes
        else:
            self.recent.update(changes)


def _present(pair: tuple[bytes, bytes | None]) -> Iterator[tuple[bytes, bytes]]:
    key, value = pair
    if value is not None:
        yield key, value
