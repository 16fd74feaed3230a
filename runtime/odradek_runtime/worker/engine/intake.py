"""The intake: fetched batches on their way into the machine. The first station of a record inside a worker.

It knows which shard reads which partition and from where, drops what is stale or already processed, and moves the positions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from odradek_runtime.core.machine import Machine
from odradek_runtime.core.records.inward import Again
from odradek_runtime.core.shard import Shard
from odradek_runtime.log.port import Member, Message, Partition, Records

PASSED_MS = 2_000
"""Between two epochs that do nothing but commit positions behind markers: each costs a transaction."""


@dataclass(slots=True)
class Batch:
    """A fetched batch and how much of it has been processed."""

    records: Records
    done: int = 0
    sifted: bool = False
    """Its commands are elsewhere, and the member has been told that it is taken."""


class Intake:
    """The batches that wait, and the partitions that are read."""

    def __init__(self, machine: Machine, member: Member) -> None:
        self._machine = machine
        self._member = member
        self._backlog: deque[Batch] = deque()
        self._commands: deque[Batch] = deque()
        """Out of batches whose other records have to wait."""
        self._readers: dict[Partition, Shard] = {}
        self._generation = 0
        self._paused = False
        self._passed: set[Shard] = set()
        self._passed_ms = 0.0
        self.done_commands: dict[Partition, int] = {}
        """Up to where commands are committed and done with."""

    @property
    def waiting(self) -> bool:
        return bool(self._backlog or self._commands)

    @property
    def has_commands(self) -> bool:
        """Some that need not wait for the records that were fetched with them."""
        return bool(self._commands)

    def add(self, records: Records) -> None:
        self._backlog.append(Batch(records))

    def clear(self) -> None:
        """Drop what waits: it will be fetched again."""
        self._commands.clear()
        while self._backlog:
            self._taken(self._backlog.popleft())

    def _taken(self, batch: Batch) -> None:
        if not batch.sifted:
            batch.sifted = True
            batch.records.taken()

    def sift(self) -> None:
        """Records have to wait for long: commands that were fetched among them go before, and what comes next is fetched."""
        for batch in self._backlog:
            if batch.sifted:
                continue
            self._taken(batch)
            records, topic = batch.records, self._machine.commands_topic
            left = records.messages[batch.done :]
            commands = [message for message in left if message.topic() == topic]
            if commands:
                self._commands.append(Batch(Records(commands, records.generation, _nothing), sifted=True))
                others = [message for message in left if message.topic() != topic]
                batch.records, batch.done = replace(records, messages=others), 0

    def positions(self) -> dict[Partition, int]:
        """Next offset of every partition that is read; safe from any thread."""
        return {p: shard.positions.get(p, 0) for p, shard in list(self._readers.items())}

    def times(self, positions: Mapping[Partition, int]) -> dict[Partition, int]:
        """Of the first record from each position on its Unix milliseconds, where it waits here; safe from any thread."""
        found: dict[Partition, int] = {}
        for batch in (*list(self._commands), *list(self._backlog)):
            for message in batch.records.messages[batch.done :]:
                partition = Partition(message.topic(), message.partition())
                position = positions.get(partition)
                if position is not None and partition not in found and message.offset() >= position:
                    kind, time_ms = message.timestamp()
                    if kind:
                        found[partition] = time_ms
        return found

    def _inputs(self) -> list[Partition]:
        """The partitions that may be paused: commands never are, what is in flight needs them to end."""
        return [p for p in self._readers if p.topic != self._machine.commands_topic]

    def open(self, shards: Sequence[Shard]) -> None:
        """Begin to read for these shards, from their positions."""
        positions: dict[Partition, int] = {}
        for shard in shards:
            readable = {p: o for p, o in shard.positions.items() if self.reads(shard, p)}
            shard.generations = dict.fromkeys(readable, self._generation + 1)
            positions.update(readable)
            self._readers.update(dict.fromkeys(readable, shard))
        self._read(positions)

    def _read(self, positions: Mapping[Partition, int]) -> None:
        """In a new generation: of these partitions what was fetched before is stale."""
        self._generation += 1
        self._member.read(positions, self._generation)
        if self._paused:
            self._member.pause(self._inputs())  # what is read from a new position is not paused

    def _read_elsewhere(self) -> None:
        """Go where a command has moved positions to."""
        moved = {p: shard for p, shard in self._machine.resets.taken() if self._readers.get(p) is shard}
        for partition, shard in moved.items():
            shard.generations[partition] = self._generation + 1
        if moved:
            self._read({partition: shard.positions[partition] for partition, shard in moved.items()})

    def pause(self, *, paused: bool) -> None:
        """Have the inputs deliver nothing, or go on."""
        self._paused = paused
        (self._member.pause if paused else self._member.resume)(self._inputs())

    def close(self, shard: Shard) -> None:
        """Read no more for this shard."""
        gone = [p for p, reader in self._readers.items() if reader is shard]
        for partition in gone:
            del self._readers[partition]
        if gone:
            self._member.stop_reading(gone)

    def forget(self, shard: Shard) -> None:
        """Read no more for it, and say no more how far its commands are."""
        self.close(shard)
        self.done_commands.pop(Partition(self._machine.commands_topic, shard.number), None)

    def reads(self, shard: Shard, partition: Partition) -> bool:
        """Whether the app of today reads it: positions of former subscriptions are kept, but nothing is fetched or committed."""
        if partition.topic == self._machine.commands_topic:
            return partition.partition == shard.number
        return partition.topic in self._machine.subscriptions

    def process(self, budget: int) -> int:
        """Feed up to `budget` records of the first batch to the machine; gives how many were taken from it."""
        waiting = self._commands or self._backlog
        batch = waiting[0]
        messages = batch.records.messages
        start = batch.done
        end = batch.done = min(start + budget, len(messages))
        if end == len(messages):
            waiting.popleft()
            self._taken(batch)
        self._feed(messages[start:end], batch.records.generation)
        if batch.records.reached and end == len(messages):
            self._pass(batch.records)
        return max(end - start, 1)

    def _pass(self, records: Records) -> None:
        """The last offsets of a partition hold no record: the position moves behind them, to be committed with the next epoch."""
        for partition, offset in records.reached.items():
            shard = self._readers.get(partition)
            if shard is None or records.generation < shard.generations[partition] or offset <= shard.positions[partition]:
                continue
            shard.positions[partition] = offset
            shard.advanced.add(partition)
            self._passed.add(shard)

    def commit_passed(self) -> None:
        """Where no other epoch has committed such positions, one of their own does, so that an idle app has no lag."""
        if not self._passed or self._machine.steady_ms - self._passed_ms < PASSED_MS:
            return
        self._passed_ms = self._machine.steady_ms
        for shard in self._passed:
            if shard.advanced and shard.phase == "open" and self._machine.shards.get(shard.number) is shard:
                self._machine.touch(shard)
        self._passed.clear()

    def _feed(self, messages: Sequence[Message], generation: int) -> None:
        """Split into runs of one partition: the look-ups are per run, not per record."""
        if not messages:
            return
        self._machine.epoch.begin(self._machine.steady_ms)
        kind = type(messages[0])
        for number, of_number in groupby(messages, kind.partition):
            for topic, run in groupby(of_number, kind.topic):
                partition = Partition(topic, number)
                shard = self._readers.get(partition)
                if shard is not None and generation >= shard.generations[partition]:
                    self._run(shard, partition, list(run))

    def _run(self, shard: Shard, partition: Partition, messages: Sequence[Message]) -> None:
        machine = self._machine
        expected = shard.positions[partition]
        if messages[0].offset() < expected:  # read again after a repositioning
            messages = [message for message in messages if message.offset() >= expected]
            if not messages:
                return
        machine.touch(shard)
        shard.advanced.add(partition)
        lane = machine.lane(partition.topic)
        reset = shard.resets.get(partition)
        if reset is not None and messages[0].offset() < reset.until:
            lane = None
            messages = [Again(each, reset.id) if each.offset() < reset.until else each for each in messages]
        size = lane.run(shard, messages) if lane is not None else self._one_by_one(shard, partition.topic, messages)
        shard.positions[partition] = messages[-1].offset() + 1
        if machine.resets.moved:
            self._read_elsewhere()
        machine.epoch.events += len(messages)
        machine.epoch.bytes += size

    def _one_by_one(self, shard: Shard, topic: str, messages: Sequence[Message]) -> int:
        """The general way, of commands too; gives the bytes of their values."""
        machine = self._machine
        handle = machine.command if topic == machine.commands_topic else machine.record
        size = 0
        for message in messages:
            size += len(message.value() or b"")
            handle(shard, message)
            if machine.splitting:
                machine.suspect(message)  # last: what it ran is suspected before the record itself
            if machine.busy:
                machine.settle()
        return size


def _nothing() -> None:
    """The member has been told already."""
