"""The simulated log beside a real broker: the same random operations on both, and everything that can be seen compared.

Seen are: what a committed read gives from any position, with offsets; where a partition begins and ends (uncommitted, markers
counted); which transactions hold readers back; what commits and refusals say; the group's offsets; errors, by their kind.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from confluent_kafka import TopicPartition

from odradek_runtime.log.port import Log, LogError, Output, Partition
from odradek_runtime.log.simulated.partition import PartitionLog
from tests.contract.station import Station
from tests.kafka.raw import DEADLINE_S, reader, transactional

from .live import SimulatedHarness

SHARDS = 2
PARTITIONS = 2
AGREE_S = 20.0
Seen = object


class Side(Protocol):
    """One of the two logs."""

    log: Log
    station: Station

    def begin(self, name: str) -> None:
        """Open a transaction of nobody's."""
        ...

    def append(self, name: str, partition: Partition, values: list[bytes]) -> None: ...

    def end(self, name: str, *, commit: bool) -> None: ...

    def committed(self, partition: Partition) -> list[tuple[int, bytes | None]]:
        """What a reader of committed records sees now, up to the first open transaction."""
        ...


class Simulated:
    """The simulated log, in real time."""

    def __init__(self, harness: SimulatedHarness, app: str) -> None:
        self.log = harness.open()
        self._harness = harness
        self._open: dict[str, tuple[object, set[PartitionLog]]] = {}
        self.station = prepared(self.log, app)

    def begin(self, name: str) -> None:
        self._open[name] = object(), set()

    def append(self, name: str, partition: Partition, values: list[bytes]) -> None:
        transaction, touched = self._open[name]
        with self._harness.held() as log:
            target = log.brokers.partition(partition)
            touched.add(target)
            for value in values:
                target.append(Output(partition.topic, partition.partition, b"k", value), transaction, time.time() * 1000)

    def end(self, name: str, *, commit: bool) -> None:
        transaction, touched = self._open.pop(name)
        with self._harness.held() as log:
            for target in touched:
                target.mark(transaction, commit=commit)
            log.brokers.grown()

    def committed(self, partition: Partition) -> list[tuple[int, bytes | None]]:
        with self._harness.held() as log:
            found = log.brokers.partition(partition)
            return [(m.offset(), m.value()) for m in found.read(found.first, found.end, found.end + 1)]


class Real:
    """A broker."""

    def __init__(self, log: Log, servers: str, app: str) -> None:
        self.log = log
        self._servers = servers
        self._app = app
        self._producers: dict[str, Any] = {name: transactional(servers, f"{app}-{name}") for name in ("x", "y")}
        self.station = prepared(log, app)

    def begin(self, name: str) -> None:
        self._producers[name].begin_transaction()

    def append(self, name: str, partition: Partition, values: list[bytes]) -> None:
        for value in values:
            self._producers[name].produce(partition.topic, value, b"k", partition.partition)
        self._producers[name].flush(DEADLINE_S)

    def end(self, name: str, *, commit: bool) -> None:
        producer = self._producers[name]
        (producer.commit_transaction if commit else producer.abort_transaction)(DEADLINE_S)

    def committed(self, partition: Partition) -> list[tuple[int, bytes | None]]:
        consumer = reader(self._servers)
        consumer.assign([TopicPartition(*partition, self.log.offsets(partition)[0])])
        found: list[tuple[int, bytes | None]] = []
        while (message := consumer.poll(DEADLINE_S)) is not None and message.error() is None:
            found.append((message.offset(), message.value()))
        consumer.close()
        assert message is not None, f"{partition} has not ended within {DEADLINE_S} s"
        return found


def prepared(log: Log, app: str) -> Station:
    """The topics, and a member that owns all shards."""
    for name, config in (("commands", {}), ("journal", {"cleanup.policy": "compact"}), ("state", {"cleanup.policy": "compact"})):
        log.create_topic(f"{app}.{name}", SHARDS, config)
    log.create_topic(f"{app}-in", PARTITIONS, {})
    log.create_topic(f"{app}-picky", 1, {})
    return Station(log, app, SHARDS).join().own(set(range(SHARDS)))


class Comparison:
    """A sequence of operations, carried out on both sides; after each one both must look the same."""

    def __init__(self, seed: int, app: str, simulated: Side, real: Side) -> None:
        self._rng = Random(f"{seed}/differential")
        self._app = app
        self._sides = (simulated, real)
        self._open: set[str] = set()
        self._values = 0
        self._inputs = [Partition(f"{app}-in", n) for n in range(PARTITIONS)]
        self._changelogs = [Partition(f"{app}.{name}", n) for name in ("journal", "state", "commands") for n in range(SHARDS)]
        self.done: list[str] = []

    def run(self, steps: int) -> None:
        """Raises AssertionError for the first difference."""
        kinds = [
            self._publish, self._publish, self._append, self._append, self._append, self._finish, self._commit, self._commit,
            self._poison, self._stale, self._trim, self._create, self._scan, self._scan, self._at_time, self._settle, self._reopen,
        ]  # fmt: skip
        for _ in range(steps):
            self._rng.choice(kinds)()
            self._compare()
        for name in sorted(self._open):
            self._both(f"end {name}", lambda side, name=name: side.end(name, commit=True))
        self._open.clear()
        self._compare()

    # --- both sides ---

    def _both(self, what: str, operation: Callable[[Side], Seen]) -> None:
        """Carry it out once on each side; what it gives must be the same."""
        self.done.append(what)
        given = [outcome(side, operation) for side in self._sides]
        assert given[0] == given[1], f"{what}: simulated {given[0]}, real {given[1]}; after {self.done}"

    def _agree(self, what: str, look: Callable[[Side], Seen]) -> None:
        """Both come to look the same: markers take their time."""
        end_s = time.monotonic() + AGREE_S
        while (seen := [outcome(side, look) for side in self._sides])[0] != seen[1]:
            assert time.monotonic() < end_s, f"{what}: simulated {seen[0]}, real {seen[1]}; after {self.done}"
            time.sleep(0.02)

    def _compare(self) -> None:
        for partition in (*self._inputs, *self._changelogs):
            self._agree(f"offsets of {partition}", lambda side, p=partition: side.log.offsets(p))
        for partition in self._inputs:
            self._agree(f"records of {partition}", lambda side, p=partition: side.committed(p))

    # --- operations ---

    def _fresh(self, most: int = 4) -> list[bytes]:
        count = self._rng.randint(1, most)
        self._values += count
        return [b"v%d" % (self._values - n) for n in range(count)]

    def _publish(self) -> None:
        topic = f"{self._app}-in"
        by_key = self._rng.random() < 0.5
        outputs = [
            Output(topic, None if by_key else self._rng.randrange(PARTITIONS), b"k%d" % self._rng.randrange(9), value)
            for value in self._fresh()
        ]

        def publish(side: Side) -> Seen:
            publisher = side.log.publisher(f"{self._app}-outside")
            position = publisher.position()
            publisher.publish(outputs, position + len(outputs))
            publisher.close()
            return position

        self._both(f"publish {len(outputs)}", publish)

    def _append(self) -> None:
        name, partition, values = self._rng.choice("xy"), self._rng.choice(self._inputs), self._fresh()
        if name not in self._open:
            self._open.add(name)
            self._both(f"begin {name}", lambda side: side.begin(name))
        self._both(f"append {values} to {partition.partition} in {name}", lambda side: side.append(name, partition, values))

    def _finish(self) -> None:
        if self._open:
            name, commit = self._rng.choice(sorted(self._open)), self._rng.random() < 0.6
            self._open.discard(name)
            self._both(f"{'commit' if commit else 'abort'} {name}", lambda side: side.end(name, commit=commit))

    def _commit(self) -> None:
        shards = sorted(self._rng.sample(range(SHARDS), self._rng.randint(1, SHARDS)))
        partition, values, offset = self._rng.choice(self._inputs), self._fresh(), self._rng.randrange(100)

        def commit(side: Side) -> Seen:
            outputs = [Output(*partition, b"k", value) for value in values]
            commands = {Partition(f"{self._app}.commands", shard): offset for shard in shards}
            transaction = side.station.transaction(shards, outputs, offsets={**commands, partition: offset})
            for shard in shards:
                transaction.state[shard] = [(b"s", value) for value in values]
                transaction.journal[shard] = [(b"j", None), (b"p", values[0])]
            return side.station.committed(transaction).positions

        self._both(f"commit for {shards}", commit)
        self._settle()

    def _poison(self) -> None:
        """Refused, and nothing of it is left. Only in a topic of its own: how much a broker had taken is not told."""

        def commit(side: Side) -> Seen:
            records = [Output(*picky, b"k", value) for value in (b"good", os.urandom(2_000_000))]
            offsets = {Partition(f"{self._app}.commands", 0): 777}
            refused = side.station.refused(side.station.transaction([0], records, offsets=offsets))
            left = [m for batch in side.log.scan(picky, 0, side.log.offsets(picky)[1]) for m in batch]
            return refused.reason, refused.poison, left

        picky = Partition(f"{self._app}-picky", 0)
        self._both("poison", commit)
        self._settle()

    def _stale(self) -> None:
        def commit(side: Side) -> Seen:
            stale = side.station.transaction([1], [Output(f"{self._app}-picky", 0, b"k", b"zombie")])
            stale.stamps = {1: stale.stamps[1] + 1_000}
            refused = side.station.refused(stale)
            return refused.reason, refused.poison

        self._both("stale stamp", commit)
        self._settle()

    def _settle(self) -> None:
        self._both("settle", lambda side: [side.station.member.settle(shard) for shard in range(SHARDS)])

    def _trim(self) -> None:
        partition = self._rng.choice(self._inputs)
        beyond = self._rng.random() < 0.2

        def trim(side: Side) -> Seen:
            first, _ = side.log.offsets(partition)
            stable = max((offset for offset, _ in side.committed(partition)), default=first)
            side.log.trim(partition, 1_000_000 if beyond else (first + stable) // 2)
            return "trimmed"

        self._both(f"trim {partition.partition}{' beyond its end' if beyond else ''}", trim)

    def _create(self) -> None:
        name, partitions = self._rng.choice((f"{self._app}-new", f"{self._app}-in", "not a name")), self._rng.randint(0, 3)
        self._both(f"create {name} with {partitions}", lambda side: side.log.create_topic(name, partitions, {}).partitions)
        self._both(f"look at {name}", lambda side: side.log.topic(name) is None)

    def _scan(self) -> None:
        """From any position to any before the first open transaction."""
        partition, at, reach = self._rng.choice(self._inputs), self._rng.random(), self._rng.random()

        def scan(side: Side) -> Seen:
            first, _ = side.log.offsets(partition)
            last = max((offset for offset, _ in side.committed(partition)), default=first)
            start = first + int((last - first) * at)
            stop = start + int((last + 1 - start) * reach)
            return [(m.offset(), m.key(), m.value()) for batch in side.log.scan(partition, start, stop) for m in batch]

        self._both(f"scan {partition.partition} at {at:.2f}", scan)

    def _at_time(self) -> None:
        """Before everything and after everything: between lie the clocks of two machines."""
        partition, time_ms = self._rng.choice(self._inputs), self._rng.choice((0, int(time.time() * 1000) + 3_600_000))
        if not self._open:  # the broker answers for what is stable, and says so for the rest
            self._both(f"offset of {partition.partition} at {time_ms}", lambda side: side.log.offset_at(partition, time_ms))

    def _reopen(self) -> None:
        """A publisher that was taken over publishes nothing."""
        output = Output(f"{self._app}-in", 0, b"k", b"late")

        def publish(side: Side) -> Seen:
            old, new = side.log.publisher(f"{self._app}-twice"), side.log.publisher(f"{self._app}-twice")
            try:
                old.publish([output], old.position() + 1)
            finally:
                new.close()
            return "published"

        self._both("publish by one taken over", publish)


def outcome(side: Side, operation: Callable[[Side], Seen]) -> Seen:
    """What it gives, or the kind of its error."""
    try:
        return operation(side)
    except LogError as error:
        return f"LogError, {'to be repeated' if error.retriable else 'final'}"
