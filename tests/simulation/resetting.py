"""Resets of a world: somebody moves positions back, and what is read again is worked out.

At most one for each topic. What is read again is told apart as replays are: by the reset's id before the task's name.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from odradek_runtime.core.records.formats import COMMAND, Command
from odradek_runtime.log.port import Output, Partition

from .model import Wrong
from .program import Entry
from .replaying import TOPICS, renamed

if TYPE_CHECKING:
    from .world import World

OFTEN = 0.3


class Resets:
    """What is ordered in one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = Random(f"{world.seed}/resets")
        self._happen = self._rng.random() < OFTEN and not world.program.large
        self._left = list(TOPICS)
        self._ordered: dict[Partition, tuple[str, int, float]] = {}
        """Where each partition was moved: by which order, to which offset, when that was given."""
        self._written = 0

    def begin(self, within_ms: float) -> None:
        """Plan the first."""
        if self._happen:
            self._world.scheduler.later(self._rng.uniform(0.1, 0.8) * within_ms, "somebody resets", self._order)

    def _order(self) -> None:
        world, rng = self._world, self._rng
        if world.faults.calm or not self._left:
            return
        world.scheduler.later(rng.uniform(1_000.0, 15_000.0), "somebody resets", self._order)
        topic = self._left.pop(rng.randrange(len(self._left)))
        info = world.log.topic(topic)
        assert info is not None
        done = world.read_up_to()
        id_ = f"reset-{topic}"
        orders: list[Output] = []
        for number in range(info.partitions):
            where = Partition(topic, number)
            if where not in done:
                continue  # no shard has had it yet
            offset = rng.choice((0, rng.randint(0, done[where])))
            self._ordered[where] = id_, offset, world.scheduler.now_ms
            command = Command("reset", id=id_, topic=topic, partition=number, offset=offset, topic_id=info.id)
            commands = f"{world.main.name}.commands"
            orders.append(Output(commands, number % world.main.shards, None, COMMAND.encode(command)))
        self._give(orders)
        if rng.random() < 0.3:
            world.scheduler.later(rng.uniform(0.0, 5_000.0), f"{id_} is ordered again", lambda: self._give(orders))

    def _give(self, orders: list[Output]) -> None:
        self._written += 1
        self._world.log.write("resets", orders, self._written)

    def delivered(self) -> list[Entry]:
        """What has come in once more, with the names that it has then. Raises Wrong when an order was not carried out."""
        found: list[Entry] = []
        places = [place for each in self._world.main.audit.positions.values() for place in each.inputs]
        at = {Partition(place.topic, place.partition): place for place in places}
        for where, (id_, offset, ordered_ms) in self._ordered.items():
            place = at[where]
            if place.reset != id_:
                raise Wrong(f"{id_}: {where} was not moved: {place}")
            known = [self._world.entry_at.get((where.topic, where.partition, number)) for number in range(offset, place.until)]
            for entry in (entry for entry in known if entry is not None):
                at_ms = ordered_ms - self._world.start_ms
                found.append(replace(entry, task=renamed(entry.task, id_), replay=id_, at_ms=at_ms))
        return found
