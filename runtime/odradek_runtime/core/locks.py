"""Locks: which object keys of a shard are held, by whom, and who waits for them, in the order in which they came.

Stands under a shard, whose journal has what must outlive a crash. A key that is taken and freed within one epoch is held in memory
alone, and so is who has come in this epoch: what is left of both when it closes is written then, once for each key.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import ENDED, INVOCATION, LOCK, SLOT, Lock, Slot, Stored

logger = logging.getLogger("odradek")


class Queued(Protocol):
    """An invocation, as far as a lock knows it; its id and its entry are made when they are asked for."""

    @property
    def id(self) -> str: ...

    def endure(self) -> Stored: ...


class Journaled(Protocol):
    """The shard: where locks and inboxes are kept."""

    @property
    def number(self) -> int: ...

    def read(self, key: bytes) -> bytes | None: ...

    def put(self, key: bytes, value: bytes | None) -> None: ...

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]: ...


@dataclass(slots=True)
class Held:
    """A key that is held.

    `holder`: the id of an invocation that the journal has, or will have, or one that may end within the epoch. `head` and `tail`:
    the inbox in the journal. `behind`: those that have come after all of it, in the open epoch.
    """

    holder: Queued | str
    head: int = 0
    tail: int = 0
    behind: deque[Queued] | None = None

    def is_of(self, invocation: Queued) -> bool:
        """Whether this invocation holds it."""
        return self.holder is invocation or (isinstance(self.holder, str) and self.holder == invocation.id)


class Locks:
    """Of one shard, by what the state keys of an object begin with (`Scope.base`)."""

    def __init__(self, shard: Journaled) -> None:
        self.held: dict[bytes, Held] = {}
        """To be looked at by anybody, and changed here alone."""
        self.lined_up = 0
        """How many have come in the open epoch and wait."""
        self.standing = 0
        """How many wait in the inboxes of the journal."""
        self._shard = shard
        self._written: set[bytes] = set()
        """Those that the journal has."""
        self._changed: dict[bytes, None] = {}
        self._queued: dict[bytes, None] = {}

    def take(self, base: bytes, holder: Queued | str) -> None:
        """Give a free key to an invocation."""
        assert base not in self.held, "a key has one holder"
        self.held[base] = Held(holder)
        if isinstance(holder, str):
            self._changed[base] = None

    def keep(self, base: bytes, invocation: Queued) -> None:
        """An invocation that has its key outlives this epoch: the key is held in the journal, too."""
        held = self.held[base]
        if held.holder is invocation:
            held.holder = invocation.id
            self._changed[base] = None

    def queue(self, base: bytes, invocation: Queued) -> None:
        """Put it behind all that wait for this key, which is held."""
        held = self.held[base]
        if held.behind is None:
            held.behind = deque()
        held.behind.append(invocation)
        self.lined_up += 1
        self._queued[base] = None

    def pass_on(self, base: bytes) -> Queued | str | None:
        """The holder has ended: the next of those that wait holds the key now and is returned; None: the key is free."""
        held = self.held[base]
        while held.head < held.tail:
            slot_key = keys.slot(keys.lock(base), held.head)
            raw = self._shard.read(slot_key)
            self._changed[base] = None
            if raw is None:
                self._pass_over(base, held)
                continue
            self._shard.put(slot_key, None)
            held.head += 1
            self.standing -= 1
            held.holder = SLOT.decode(raw).id
            if self._shard.read(keys.invocation(held.holder)) is not None:  # else it was killed in line
                return held.holder
            continue
        if held.behind:
            held.holder = held.behind.popleft()
            self.lined_up -= 1
            return held.holder
        del self.held[base]
        if base in self._written:
            self._changed[base] = None
        return None

    def _pass_over(self, base: bytes, held: Held) -> None:
        """A slot is not there, as only somebody else's record makes it: go on with the next that is."""
        lock_key = keys.lock(base)
        first, end = keys.slot(lock_key, held.head), keys.slot(lock_key, held.tail)
        logger.error("shard %d: place %d in the inbox of %r is empty: it is passed over", self._shard.number, held.head, base[1:])
        following = next(self._shard.scan(first, end), None)
        head = held.tail if following is None else int.from_bytes(following[0][-8:], "big")
        self.standing -= head - held.head
        held.head = head

    # --- the epoch ---

    def left_behind(self) -> Iterator[Queued]:
        """The epoch closes: those that came in it and still wait, which are in the inboxes of the journal from now on."""
        for base in self._queued:
            held = self.held.get(base)
            while held is not None and held.behind:
                invocation = held.behind.popleft()
                self.lined_up -= 1
                self._shard.put(keys.slot(keys.lock(base), held.tail), SLOT.encode(Slot(invocation.id)))
                held.tail += 1
                self.standing += 1
                self._changed[base] = None
                yield invocation
        self._queued.clear()

    def write(self) -> bool:
        """After that: what has changed is written. False: nothing has."""
        changed, self._changed = self._changed, {}
        for base in changed:
            held = self.held.get(base)
            if held is None:
                self._written.discard(base)
                self._shard.put(keys.lock(base), None)
            else:
                assert isinstance(held.holder, str), "who holds a key when the epoch closes is in the journal"
                self._written.add(base)
                self._shard.put(keys.lock(base), LOCK.encode(Lock(held.holder, held.head, held.tail)))
        return bool(changed)

    # --- after a restore ---

    def load(self, pairs: Iterator[tuple[bytes, bytes]]) -> None:
        """What the store has of them."""
        for key, value in pairs:
            lock, base = LOCK.decode(value), keys.STATE + key[1:]
            self.held[base] = Held(lock.holder, lock.head, lock.tail)
            self.standing += max(lock.tail - lock.head, 0)
            self._written.add(base)

    def free_of_strangers(self) -> list[str]:
        """A lock whose holder is not there, or has ended, is somebody else's record, and would never be free.

        Gives those that hold such keys now and are to begin.
        """
        found: list[str] = []
        for base, held in list(self.held.items()):
            assert isinstance(held.holder, str), "it comes from the journal"
            raw = self._shard.read(keys.invocation(held.holder))
            holder = INVOCATION.decode(raw) if raw is not None else None
            if holder is None or holder.status in ENDED:
                name = self._shard.number, held.holder, base[1:]
                logger.error("shard %d: %s, which is held to have %r, is not there: it is free", *name)
                following = self.pass_on(base)
                found += [following] if isinstance(following, str) else []
        return found
