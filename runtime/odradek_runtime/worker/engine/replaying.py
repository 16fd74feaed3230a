"""Replaying: batches of replays on their way into the machine. What the intake is for live records, this is for old ones.

It begins to read for every part of a replay that is to be delivered, keeps to its rate, and gives each a share of every turn, so
that live records go on beside it. What is read for a shard that has gone, or starts over, is dropped: it is read again.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from odradek_runtime.core.machine import Machine
from odradek_runtime.core.records.formats import Replay
from odradek_runtime.core.shard import Shard
from odradek_runtime.log.port import Message, Partition

from .pace import Pace

logger = logging.getLogger("odradek")

SHARE = 200
"""Records of all replays together in one turn, beside as many of everything else."""
READINGS = 8
"""So many parts are read at once: each has a reader of its own. Replays have places in turn; what has none waits for one."""


@dataclass(frozen=True, slots=True)
class Reread:
    """What has been read for a part. `next_offset`: all records before it are in this batch, or were in those before it.

    `gone`: offsets that had been deleted before they could be read; `broken`: why nothing more can be read.
    """

    reading: Reading
    messages: Sequence[Message]
    next_offset: int
    gone: int = 0
    broken: str = ""


class Rereader(Protocol):
    """Reads ranges beside the engine, and posts them as `Reread` events in order."""

    def begin(self, reading: Reading) -> None:
        """From `start` up to `stop`; the last event ends at `stop`. It keeps a few batches ahead of `Reading.taken`."""
        ...


@dataclass(eq=False, slots=True)
class Reading:
    """One part that is being read. `ended`: nobody wants any more of it."""

    partition: Partition
    topic_id: str
    start: int
    stop: int
    ended: bool = False
    taken: Callable[[], None] = lambda: None
    """Called for each batch that has been delivered."""


@dataclass(eq=False, slots=True)
class Course:
    """A part with its reading, and what of it waits here."""

    shard: Shard
    part: Replay
    reading: Reading
    pace: Pace
    batches: deque[Reread] = field(default_factory=deque["Reread"])
    at: int = 0
    """How many of the first batch's records are done."""

    def wait_ms(self, steady_ms: float) -> float:
        """In how many milliseconds it has something to do; 0: now."""
        if not self.batches or self.shard.phase != "open":
            return float("inf")
        return self.pace.wait_ms(steady_ms) if self.batches[0].messages else 0.0


class Replaying:
    """Of one engine. `full`: the epoch has no room; `one_by_one`: a culprit is looked for; `held`: too much is under way."""

    def __init__(
        self,
        machine: Machine,
        rereader: Rereader,
        full: Callable[[], bool],
        one_by_one: Callable[[], bool],
        held: Callable[[], bool],
    ) -> None:
        self._machine = machine
        self._rereader = rereader
        self._full = full
        self._one_by_one = one_by_one
        self._held = held
        self._turns: deque[Course] = deque()
        self._paces: dict[str, Pace] = {}

    def add(self, event: Reread) -> None:
        """What has been read, if it is still wanted."""
        for course in self._turns:
            if course.reading is event.reading:
                course.batches.append(event)

    def wait_ms(self, steady_ms: float) -> float:
        """In how many milliseconds there is something to do; 0: now."""
        if self._machine.replays.changed:
            return 0.0
        if not self._turns or self._held():
            return float("inf")
        return min(course.wait_ms(steady_ms) for course in self._turns)

    def turn(self) -> None:
        """A share of each replay."""
        if self._machine.replays.changed:
            self._look()
        if not self._turns or self._held():
            return
        left = 1 if self._one_by_one() else SHARE
        self._turns.rotate(-1)  # who comes first may take all that the pace of a replay allows
        for _ in range(len(self._turns)):
            if left <= 0 or self._full():
                return
            course = self._turns.popleft()
            self._turns.append(course)
            left -= self._deliver(course, course.pace.allowed(self._machine.steady_ms, left))

    def forget(self, number: int) -> None:
        """The shard leaves the memory."""
        self._machine.replays.changed = True  # its parts have no share of the paces any more
        for course in [course for course in self._turns if course.shard.number == number]:
            self._end(course)

    def _look(self) -> None:
        """Read for the parts that have a place, and for no others: they have begun or ended, have come here or gone."""
        self._machine.replays.changed = False
        shards = [shard for shard in self._machine.shards.values() if shard.phase == "open"]
        parts = [(shard, part) for shard in shards for part in shard.replays.values()]
        self._set_paces([part for _, part in parts])
        read = {id(course.part) for course in self._turns}
        running = [(shard, part) for shard, part in parts if part.status == "running"]
        running.sort(key=lambda each: (id(each[1]) not in read, each[1].begun_ms))  # who has a place keeps it, if it can
        placed = in_turn(running, READINGS)
        wanted = {id(part) for _, part in placed}
        for course in [course for course in self._turns if id(course.part) not in wanted]:
            self._end(course)
        for shard, part in placed:
            if id(part) not in read:
                self._begin(shard, part)

    def _set_paces(self, parts: Sequence[Replay]) -> None:
        """Each replay's is what all of its parts that are here have together, whether they run or have ended."""
        rates: dict[str, float] = {}
        for part in parts:
            rates[part.id] = rates.get(part.id, 0.0) + part.rate
        steady_ms = self._machine.steady_ms
        self._paces = {id_: self._paces.get(id_) or Pace(rate, steady_ms) for id_, rate in rates.items()}
        for id_, rate in rates.items():
            self._paces[id_].rate = rate

    def _begin(self, shard: Shard, part: Replay) -> None:
        reading = Reading(Partition(part.topic, part.partition), part.topic_id, part.next, part.stop)
        self._turns.append(Course(shard, part, reading, self._paces[part.id]))
        self._rereader.begin(reading)

    def _end(self, course: Course) -> None:
        course.reading.ended = True
        course.reading.taken()
        self._turns.remove(course)

    def _deliver(self, course: Course, most: int) -> int:
        """Up to so many records; gives how many."""
        shard, part, done = course.shard, course.part, 0
        if not course.batches or shard.phase != "open" or part.status != "running":
            return 0
        if most <= 0 and course.batches[0].messages:
            return 0
        machine = self._machine
        epoch = machine.epoch
        epoch.begin(machine.steady_ms)
        batch = course.batches[0]
        if course.at == 0:
            part.gone += batch.gone  # with its first record: `next` goes past them then, and whoever goes on from there sees none
        for message in batch.messages[course.at : course.at + most]:
            machine.replays.deliver(shard, part, message)
            part.next = message.offset() + 1
            done += 1
            epoch.events += 1
            epoch.bytes += len(message.value() or b"")
            if machine.splitting:
                machine.suspect(message)
            if machine.busy:
                machine.settle()
            if self._full():
                break
        course.at += done
        course.pace.take(done)
        if course.at >= len(batch.messages):
            self._finish(course, batch)
        machine.replays.put(shard, part)
        return done

    def _finish(self, course: Course, batch: Reread) -> None:
        """The batch is done, and perhaps the part."""
        part = course.part
        course.batches.popleft()
        course.at = 0
        part.next = max(part.next, batch.next_offset)
        course.reading.taken()
        if batch.broken:
            self._machine.replays.end(course.shard, part, "broken", batch.broken)
        elif part.next >= part.stop:
            self._machine.replays.end(course.shard, part, "done")


def in_turn(running: Sequence[tuple[Shard, Replay]], places: int) -> list[tuple[Shard, Replay]]:
    """Those that have a place: one of each replay, then the next of each, as long as there are places.

    One that is slow, by its rate, has many parts for long: it would keep others from all of them.
    """
    waiting: dict[str, list[tuple[Shard, Replay]]] = {}
    for each in running:
        waiting.setdefault(each[1].id, []).append(each)
    ranks = [(rank, each) for of_one in waiting.values() for rank, each in enumerate(of_one)]
    return [each for _, each in sorted(ranks, key=lambda ranked: ranked[0])[:places]]
