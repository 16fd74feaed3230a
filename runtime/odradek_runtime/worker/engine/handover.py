"""The hand-over: shards that come to this worker and shards that go, one at a time and only when nothing holds them.

Stands between the group's events and the ownership: a shard is let go of once every epoch that touches it has ended (invariant 1).
"""

from __future__ import annotations

from collections.abc import Iterable

from odradek_runtime.core.epoch import Epoch
from odradek_runtime.core.machine import Machine
from odradek_runtime.log.port import Gained, Losing
from odradek_runtime.worker.restore.ownership import Asked, Ownership

from .flags import Flags
from .intake import Intake
from .replaying import Replaying


class Handover:
    """The shards on their way in and out. Used in the engine's thread."""

    def __init__(
        self, machine: Machine, ownership: Ownership, intake: Intake, replaying: Replaying, asked: Asked, flags: Flags
    ) -> None:
        self._machine = machine
        self._ownership = ownership
        self._intake = intake
        self._replaying = replaying
        self._asked = asked
        self._flags = flags
        self._losing: list[Losing] = []
        self._gained: dict[int, int] = {}

    @property
    def losing(self) -> bool:
        """Somebody waits for shards: no epoch gathers any longer."""
        return bool(self._losing)

    def gain(self, event: Gained) -> None:
        """Shards are ours, or will be once they have been let go of here."""
        self._flags.joined = True
        self._gained.update(event.shards)
        self._take_gained()

    def leaving(self) -> set[int]:
        """Shards that the group has asked for and does not have yet."""
        return {number for event in self._losing for number in event.shards}

    def lose(self, event: Losing) -> None:
        """The group asks for shards (or has taken them): nothing more is read for them."""
        self._losing.append(event)
        for number in event.shards:
            self._gained.pop(number, None)
            shard = self._machine.shards.get(number)
            if shard is not None:
                shard.phase = "leaving"
                self._intake.close(shard)
        if event.lost:
            self._flags.start_over = "shards were lost"

    def release(self, inflight: Epoch | None) -> None:
        """Let go of shards once every epoch that touches them has ended."""
        for event in list(self._losing):
            if self._flags.start_over or self._touched(event.shards, inflight):
                continue
            for number in event.shards:
                if number in self._machine.shards:
                    self.forget(number)
                self._ownership.give_up(number)
                for pending in self._asked.of(number):
                    pending.turn_away()
            self._losing.remove(event)
            event.release()
            self._machine.limits.resume()
            self._machine.settle()  # last: it may raise StoreLost
        if self._gained:
            self._take_gained()

    def forget(self, number: int) -> None:
        """The shard leaves the memory: what is committed goes into its store, the rest is dropped."""
        shard = self._machine.shards[number]
        shard.write_back()
        self._intake.forget(shard)
        self._replaying.forget(number)
        self._machine.drop(number)

    def let_go(self) -> None:
        """Everything is committed: drop all shards."""
        for number in list(self._machine.shards):
            self.forget(number)
        for number in self._ownership.numbers:
            self._ownership.give_up(number)
        self.turn_away()

    def turn_away(self) -> None:
        """Whoever still waits for an answer asks the shard's next owner, under the same id."""
        for pending in self._asked.all():
            pending.turn_away()

    def _take_gained(self) -> None:
        """A shard that comes back before it has been let go of (the group does not wait for ever) is taken after that."""
        leaving = self.leaving()
        for number in [number for number in self._gained if number not in leaving]:
            stamp = self._gained.pop(number)
            if not self._flags.stopping:
                self._ownership.take(number, stamp)

    def _touched(self, shards: Iterable[int], inflight: Epoch | None) -> bool:
        """Whether an epoch that has not ended has anything of these shards. Others never stop under load: they do not count."""
        open_, sent = self._machine.epoch.touched, inflight.touched if inflight is not None else ()
        return any(number in open_ or number in sent for number in shards)
