"""A log that can be told to misbehave: it passes everything on to another one, and counts what is read.

Stands between a worker and the embedded log. `crash` makes a worker's place in the group go dead without a word, as a
SIGKILL would; `judge` decides about each transaction: let it through, refuse it, or lie about what became of it.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.embedded.member import EmbeddedMember
from odradek_runtime.log.port import (
    Committed,
    Event,
    Message,
    Partition,
    Peer,
    Publisher,
    Refused,
    Sink,
    TopicInfo,
    Transaction,
    Trouble,
)

Verdict = Literal["pass", "poison", "aborted", "unknown, applied", "unknown, lost"]
Judge = Callable[[Transaction], Verdict]


def innocent(_: Transaction) -> Verdict:
    return "pass"


class FaultyMember:
    """One worker's place in the group of a FaultyLog."""

    def __init__(self, inner: EmbeddedMember, log: "FaultyLog") -> None:
        self._inner = inner
        self._log = log
        self._sink: Sink | None = None
        self._dead = threading.Event()
        self._lies: set[int] = set()

    def join(self, sink: Sink) -> None:
        self._sink = sink
        self._inner.join(self._hear)

    def _hear(self, event: Event) -> None:
        if self._dead.is_set() or self._sink is None:
            return
        if isinstance(event, Committed) and event.epoch in self._lies:
            event = Refused(event.epoch, "unknown", "the connection broke while the commit was under way (a test)")
        if isinstance(event, Committed):
            self._log.committed.append(event.epoch)
        self._sink(event)

    def commit(self, transaction: Transaction) -> None:
        if self._dead.is_set():
            return
        verdict = self._log.judge(transaction)
        self._log.transactions.append(transaction)
        match verdict:
            case "pass":
                self._inner.commit(transaction)
            case "unknown, applied":
                self._lies.add(transaction.epoch)
                self._inner.commit(transaction)
            case "unknown, lost":
                self._hear(Refused(transaction.epoch, "unknown", "the connection broke before the commit (a test)"))
            case "aborted":
                self._hear(Refused(transaction.epoch, "aborted", "the log is out of sorts (a test)"))
            case "poison":
                self._hear(Refused(transaction.epoch, "aborted", "a record was refused (a test)", poison=True))

    def die(self) -> None:
        """From now on nothing it does counts and nothing reaches it; its engine ends."""
        self._dead.set()
        if self._sink is not None:
            self._sink(Trouble("the worker is gone (a test)", fatal=True))
        self._inner.leave()

    def evict(self) -> None:
        self._inner.evict()

    def read(self, positions: Mapping[Partition, int], generation: int) -> None:
        self._inner.read(positions, generation)

    def stop_reading(self, partitions: Sequence[Partition]) -> None:
        self._inner.stop_reading(partitions)

    def pause(self, partitions: Sequence[Partition]) -> None:
        self._inner.pause(partitions)

    def resume(self, partitions: Sequence[Partition]) -> None:
        self._inner.resume(partitions)

    def settle(self, shard: int) -> int | None:
        return self._inner.settle(shard)

    def leave(self) -> None:
        self._inner.leave()


class FaultyLog:
    """An embedded log with a judge; `scanned` counts the records read by scans, by topic."""

    def __init__(self, inner: EmbeddedLog) -> None:
        self.inner = inner
        self.judge: Judge = innocent
        self.transactions: list[Transaction] = []
        self.committed: list[int] = []
        self.scanned: dict[str, int] = {}
        self.timed: list[list[Partition]] = []
        """Partitions whose next record's time was asked for together."""
        self.members: list[FaultyMember] = []

    def member(self, app: str, shards: int, url: str | None) -> FaultyMember:
        member = FaultyMember(self.inner.member(app, shards, url), self)
        self.members.append(member)
        return member

    def scan(self, partition: Partition, start: int, stop: int, *, sparing: bool = False) -> Iterator[Sequence[Message]]:
        for batch in self.inner.scan(partition, start, stop, sparing=sparing):
            self.scanned[partition.topic] = self.scanned.get(partition.topic, 0) + len(batch)
            yield batch

    def times_at(self, positions: Mapping[Partition, int]) -> Mapping[Partition, int]:
        self.timed.append(list(positions))
        return self.inner.times_at(positions)

    def topic(self, name: str) -> TopicInfo | None:
        return self.inner.topic(name)

    def ping(self, timeout_s: float) -> None:
        self.inner.ping(timeout_s)

    def topics(self) -> Sequence[str]:
        return self.inner.topics()

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str]) -> TopicInfo:
        return self.inner.create_topic(name, partitions, config)

    def delete_topic(self, name: str) -> None:
        self.inner.delete_topic(name)

    def committed_offsets(self, app: str, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return self.inner.committed_offsets(app, partitions)

    def forget_group(self, app: str) -> None:
        self.inner.forget_group(app)

    def offsets(self, partition: Partition) -> tuple[int, int]:
        return self.inner.offsets(partition)

    def offset_at(self, partition: Partition, timestamp_ms: int) -> int:
        return self.inner.offset_at(partition, timestamp_ms)

    def trim(self, partition: Partition, before: int) -> None:
        self.inner.trim(partition, before)

    def peers(self, app: str) -> Sequence[Peer]:
        return self.inner.peers(app)

    def shared_secret(self, app: str) -> bytes | None:
        return None

    def publisher(self, name: str) -> Publisher:
        return self.inner.publisher(name)

    def close(self) -> None:
        self.inner.close()
