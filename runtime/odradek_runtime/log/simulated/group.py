"""The consumer group of one app, as its coordinator sees it: who owns which shard now, and which offsets are committed.

Cooperative: a shard moves when its owner has released it, or when the owner is evicted; under the classic protocol, when all
owners have released what they were asked for. A member learns what was decided
some time later, and until then goes on as if nothing had happened: that is what makes zombies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from odradek_runtime.log.port import Gained, Losing, Partition, Peer
from odradek_runtime.log.simulated.scheduler import Scheduler

DEADLINE_MS = 60_000.0
"""A member that does not release what it was asked for within so long is evicted (Kafka: max.poll.interval.ms)."""


class Attendant(Protocol):
    """A member, as its group knows it."""

    name: str
    url: str | None

    def hear(self, event: Gained | Losing) -> None:
        """What was decided is on its way to it."""
        ...

    def released(self, shards: Sequence[int]) -> None:
        """It has given these back, as it was asked to."""
        ...

    def evict(self) -> None:
        """It has taken too long: it is a member no more."""
        ...


class Pending(Protocol):
    """A transaction whose offsets are with the coordinator. `decision` None: open."""

    owner: str
    decision: bool | None

    def decide(self, *, commit: bool) -> None:
        """End it."""
        ...


class Group:
    """Members, their shards, and the group's offsets with those that a transaction holds pending."""

    def __init__(self, app: str, shards: int, scheduler: Scheduler, *, classic: bool = False) -> None:
        self.app = app
        self.shards = shards
        self.classic = classic
        """The classic protocol: a shard is given out when everybody has let go of what they were asked for."""
        self.members: list[Attendant] = []
        self.owners: dict[int, Attendant] = {}
        self.leaving: dict[int, Attendant] = {}
        self.committed: dict[Partition, int] = {}
        self.pending: dict[Pending, tuple[int, dict[Partition, int]]] = {}
        self._held = 0
        self._written: dict[Partition, int] = {}
        self.stamps = 0
        self._heirs: dict[int, Attendant] = {}
        self._given: dict[int, int] = {}
        """The stamp with which each shard was given out last."""
        self._scheduler = scheduler

    # --- offsets ---

    def hold(self, transaction: Pending, offsets: dict[Partition, int]) -> None:
        """Offsets of a transaction whose outcome is open: a stable reader waits for it."""
        self._held += 1
        self.pending[transaction] = self._held, offsets

    def mark(self, transaction: Pending, *, commit: bool) -> None:
        """The coordinator's own marker has arrived."""
        at, offsets = self.pending.pop(transaction, (0, {}))
        for partition, offset in offsets.items() if commit else ():
            if at > self._written.get(partition, 0):  # a marker that is late does not undo what was written after
                self._written[partition] = at
                self.committed[partition] = offset

    def pending_on(self, partition: Partition) -> list[Pending]:
        return [transaction for transaction, (_, offsets) in self.pending.items() if partition in offsets]

    # --- members ---

    def join(self, member: Attendant) -> None:
        if member not in self.members:
            self.members.append(member)
            self.balance()
            if len(self.members) > self.shards and not any(owner is member for owner in self.owners.values()):
                member.hear(Gained({}))

    def leave(self, member: Attendant) -> None:
        """It goes of its own will, or its session has expired: its shards are free at once."""
        if member not in self.members:
            return
        self.members.remove(member)
        for number in [n for n, owner in self.owners.items() if owner is member]:
            del self.owners[number]
            self.leaving.pop(number, None)
        self.balance()

    def peers(self) -> list[Peer]:
        return [Peer(m.url, tuple(sorted(n for n, owner in self.owners.items() if owner is m))) for m in self.members]

    def balance(self, *, shuffle: bool = False) -> None:
        """Give the free shards out, and ask for those that are with one member too many."""
        if not self.members or (self.classic and self.leaving):
            return
        quotas = self._quotas()
        free = [n for n in range(self.shards) if n not in self.owners]
        for member, quota in quotas:
            staying = [n for n, owner in self.owners.items() if owner is member and n not in self.leaving]
            room = max(quota - len(staying), 0)
            given, free = free[:room], free[room:]
            self._give(member, given)
        if shuffle:
            self._scheduler.rng.shuffle(quotas)
        for member, quota in quotas:
            staying = sorted(n for n, owner in self.owners.items() if owner is member and n not in self.leaving)
            if shuffle and staying and len(self.members) > 1:
                self._ask(member, self._scheduler.rng.sample(staying, self._scheduler.rng.randint(1, len(staying))))
                return
            self._ask(member, staying[quota:])

    def move(self, number: int, heir: Attendant) -> None:
        """Ask its owner for one shard, for another member."""
        if number not in self.leaving and not (self.classic and self.leaving):
            self._heirs[number] = heir
            self._ask(self.owners[number], [number])

    def _quotas(self) -> list[tuple[Attendant, int]]:
        least, odd = divmod(self.shards, len(self.members))
        held = {m: sum(owner is m for n, owner in self.owners.items() if n not in self.leaving) for m in self.members}
        richest = sorted(self.members, key=lambda member: -held[member])
        return [(member, least + (place < odd)) for place, member in enumerate(richest)]

    def _give(self, member: Attendant, shards: list[int]) -> None:
        gained: dict[int, int] = {}
        for number in shards:
            self.stamps += 1
            self.owners[number] = member
            gained[number] = self._given[number] = self.stamps
        if gained:
            member.hear(Gained(gained))

    def _ask(self, member: Attendant, shards: list[int]) -> None:
        if not shards:
            return
        self.leaving.update(dict.fromkeys(shards, member))
        asked = {number: self._given[number] for number in shards}
        released = False

        def release() -> None:
            nonlocal released
            if not released:
                released = True
                mine = [number for number in shards if self._given[number] == asked[number]]  # not what has moved on meanwhile
                member.released(mine)
                free = f"{member.name} has released {mine}"
                self._scheduler.later(self._scheduler.delay_ms(3.0), free, lambda: self._free(member, mine))

        def overdue() -> None:
            if not released and member in self.members and any(self.leaving.get(n) is member for n in shards):
                member.evict()

        self._scheduler.later(DEADLINE_MS, f"{member.name} must have released {shards}", overdue)
        member.hear(Losing(tuple(shards), lost=False, release=release))

    def _free(self, member: Attendant, shards: list[int]) -> None:
        for number in shards:
            if self.leaving.get(number) is member and self.owners.get(number) is member:
                del self.owners[number]
                del self.leaving[number]
        self._after(member, shards)

    def _after(self, member: Attendant, shards: list[int]) -> None:
        """Released shards go to somebody else than the one who had them, where there is somebody else."""
        others = [m for m in self.members if m is not member]
        if self.classic and self.leaving:
            return
        if len(others) == 0 or member not in self.members:
            self.balance()
            return
        for number in shards:
            if number not in self.owners:
                poorest = min(others, key=lambda m: sum(owner is m for owner in self.owners.values()))
                heir = self._heirs.pop(number, poorest)
                self._give(heir if heir in others else poorest, [number])
        self.balance()
