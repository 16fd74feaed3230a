"""A Kafka cluster's twin inside one process: topics, transactions and groups on a local RocksDB.

Implements `log.port.Log` for `odradek dev`, for tests and for whoever needs no cluster. Durable (fsync at every
commit), exactly once, and open in one process at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from odradek_runtime.log.embedded import reading, rows
from odradek_runtime.log.embedded.catalog import Catalog, Tail
from odradek_runtime.log.embedded.cleaner import Cleaner, drop_before
from odradek_runtime.log.embedded.disk import RESERVE_BYTES, DamageError, Disk
from odradek_runtime.log.embedded.framing import decode_long
from odradek_runtime.log.embedded.group import Group
from odradek_runtime.log.embedded.member import EmbeddedMember
from odradek_runtime.log.embedded.publisher import EmbeddedPublisher, Names
from odradek_runtime.log.port import LogError, Message, Partition, Peer, TopicInfo

if TYPE_CHECKING:
    from pathlib import Path

RELEASE_DEADLINE_S = 30.0


class EmbeddedLog:
    """A log in a folder of its own; `directory` None: a temporary one that is removed at close.

    Args:
        directory: created if absent; one process at a time may have it open.
        fsync: every commit reaches the disk before it is acknowledged; without it a crash of the machine (not of the
            process) may cost the last commits.
        clock: Unix seconds, for the time of records and for retention.
        release_deadline_s: how long a shard that should move waits for its owner's `release()`.
        reserve_bytes: commits are refused when less than this would stay free on the disk.
        clean_interval_s: how often retention and compaction look for work; 0 = only when `clean` is called.

    Raises:
        LogError: another process has the folder open (not retriable), or it cannot be read.

    >>> log = EmbeddedLog(None)
    >>> log.create_topic("orders", 4, {}).partitions
    4
    >>> log.close()
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        fsync: bool = True,
        clock: Callable[[], float] = time.time,
        release_deadline_s: float = RELEASE_DEADLINE_S,
        reserve_bytes: int = RESERVE_BYTES,
        clean_interval_s: float = 1.0,
    ) -> None:
        self._clock = clock
        self._release_deadline_s = release_deadline_s
        self.disk = Disk(directory, fsync=fsync, reserve_bytes=reserve_bytes)
        try:
            self._catalog = Catalog(self.disk)
            self._incarnation = self._catalog.incarnation()
        except LogError:
            self.disk.close()
            raise
        self._groups: dict[str, Group] = {}
        self._members: tuple[EmbeddedMember, ...] = ()
        self.disk.on_damage = self._damaged
        self._publishers = Names()
        self._cleaner = Cleaner(self._catalog, clock)
        if clean_interval_s > 0:
            self._cleaner.start(clean_interval_s)

    def topic(self, name: str) -> TopicInfo | None:
        topic = self._catalog.topics.get(name)
        return None if topic is None else topic.info

    def ping(self, timeout_s: float) -> None:
        """It is in this process, and always answers."""

    def topics(self) -> Sequence[str]:
        return sorted(self._catalog.topics)

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str]) -> TopicInfo:
        return self._catalog.create(name, partitions, config)

    def delete_topic(self, name: str) -> None:
        self._catalog.delete(name)

    def committed_offsets(self, app: str, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        found = {partition: self.disk.get(rows.committed_row(app, *partition)) for partition in partitions}
        return {partition: decode_long(raw) for partition, raw in found.items() if raw is not None}

    def forget_group(self, app: str) -> None:
        with self._catalog.lock:
            if self.peers(app):
                raise LogError(f"the group {app!r} has members: stop the app's workers first", retriable=False)
            self._catalog.drop_rows([row for row, _ in self.disk.prefixed(rows.group_rows(app))])

    def offsets(self, partition: Partition) -> tuple[int, int]:
        with self._catalog.lock:
            tail = self._catalog.tail(partition)
            return tail.first, tail.end

    def offset_at(self, partition: Partition, timestamp_ms: int) -> int:
        return reading.offset_at(self._catalog, partition, timestamp_ms)

    def times_at(self, positions: Mapping[Partition, int]) -> Mapping[Partition, int]:
        found = {partition: reading.first(self._catalog, partition, offset) for partition, offset in positions.items()}
        return {partition: message.timestamp()[1] for partition, message in found.items() if message is not None}

    def scan(self, partition: Partition, start: int, stop: int, *, sparing: bool = False) -> Iterator[Sequence[Message]]:
        return reading.scan(self._catalog, partition, start, stop, reading.SPARING_BYTES if sparing else reading.SCAN_BYTES)

    def trim(self, partition: Partition, before: int) -> None:
        """Raises LogError when `before` lies beyond the end."""
        with self._catalog.lock:
            tail = self._catalog.tail(partition)
            if before > tail.end:
                raise LogError(
                    f"{partition.topic}[{partition.partition}] ends at {tail.end}: it cannot be trimmed up to {before}",
                    retriable=False,
                )
            drop_before(self._catalog, self._catalog.topic(partition.topic), tail, before)

    def peers(self, app: str) -> Sequence[Peer]:
        group = self._groups.get(app)
        return [] if group is None else group.peers()

    def member(self, app: str, shards: int, url: str | None) -> EmbeddedMember:
        with self._catalog.lock:
            group = self._groups.get(app)
            if group is None or (group.shards != shards and not group.peers()):
                first_stamp = self._incarnation << 32 if group is None else group.next_stamp()
                group = Group(shards, self._catalog.lock, first_stamp, self._release_deadline_s)
                self._groups[app] = group
            if group.shards != shards:
                raise LogError(f"app {app!r} runs with {group.shards} shards: a member with {shards} cannot join", retriable=False)
            member = EmbeddedMember(self._catalog, app, group, url, clock=self._clock, grown=self._grown, left=self._forget)
            self._members = (*self._members, member)
            return member

    def publisher(self, name: str) -> EmbeddedPublisher:
        return EmbeddedPublisher(self._catalog, self._publishers, name, clock=self._clock, grown=self._grown)

    def shared_secret(self, app: str) -> None:
        """There is no other process that could ask."""

    def committed(self, app: str, partition: Partition) -> int | None:
        """The offset that the app's group has committed for a partition (what a lag tool would show)."""
        return self.committed_offsets(app, [partition]).get(partition)

    def clean(self) -> bool:
        """One bounded turn of retention and compaction; True while there is more to do."""
        return self._cleaner.turn()

    def close(self) -> None:
        """Let all members leave and give the folder back. Safe to call twice."""
        for member in self._members:
            member.leave()
        self._cleaner.close()
        self.disk.close()

    def _grown(self, tails: list[Tail]) -> None:
        if tails:
            for member in self._members:
                member.wake()

    def _damaged(self, error: DamageError) -> None:
        for member in self._members:
            member.hopeless(error)

    def _forget(self, member: EmbeddedMember) -> None:
        with self._catalog.lock:
            self._members = tuple(other for other in self._members if other is not member)
