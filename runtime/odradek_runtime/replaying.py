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

from .formats import Replay
from .log.port import Message, Partition
from .machine import Machine
from .shard import Shard

logger = logging.getLogger("odradek")

SHARE = 200
"""Records of all replays together in one turn, beside as many of everything else."""
READINGS = 8
"""So many parts are read at once: each has a reader of its own. The others wait."""
ROUNDING = 1e-6
"""What subtraction may take from a whole record."""
BURST_S = 0.5
"""A part with a rate may make up so much of what it has missed."""


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
    began_ms: float
    batches: deque[Reread] = field(default_factory=deque["Reread"])
    at: int = 0
    """How many of the first batch's records are done."""
    delivered: float = 0.0
    """Records, reckoned since `began_ms`."""

    def allowed(self, steady_ms: float) -> int:
        """How many records its rate allows now."""
        rate = self.part.rate
        if rate <= 0:
            return SHARE
        due = rate * (steady_ms - self.began_ms) / 1000
        missed = min(due - self.delivered, max(rate * BURST_S, 2.0))
        self.delivered = due - missed
        return int(missed + ROUNDING)

    def wait_ms(self, steady_ms: float) -> float:
        """In how many milliseconds it has something to do; 0: now."""
        if not self.batches or self.shard.phase != "open":
            return float("inf")
        if self.part.rate <= 0 or self.allowed(steady_ms) > 0:
            return 0.0
        return (self.delivered + 1) * 1000 / self.part.rate - (steady_ms - self.began_ms)


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
        for _ in range(len(self._turns)):
            if left <= 0 or self._full():
                return
            course = self._turns.popleft()
            self._turns.append(course)
            left -= self._deliver(course, min(left, course.allowed(self._machine.steady_ms)))

    def forget(self, number: int) -> None:
        """The shard leaves the memory."""
        for course in [course for course in self._turns if course.shard.number == number]:
            self._end(course)

    def _look(self) -> None:
        """Begin to read for parts that have begun or come here, and read no more for those that have ended."""
        self._machine.replays.changed = False
        for course in [course for course in self._turns if course.part.status != "running"]:
            self._end(course)
        for shard in self._machine.shards.values():
            if shard.phase == "open":
                for part in shard.replays.values():
                    if part.status == "running" and len(self._turns) < READINGS:
                        self._begin(shard, part)

    def _begin(self, shard: Shard, part: Replay) -> None:
        if any(course.part is part for course in self._turns):
            return
        reading = Reading(Partition(part.topic, part.partition), part.topic_id, part.next, part.stop)
        self._turns.append(Course(shard, part, reading, self._machine.steady_ms))
        self._rereader.begin(reading)

    def _end(self, course: Course) -> None:
        course.reading.ended = True
        course.reading.taken()
        self._turns.remove(course)
        self._machine.replays.changed = True  # another may have waited for its place

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
        course.delivered += done
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
