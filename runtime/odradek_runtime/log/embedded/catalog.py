"""What topics there are, and where each partition begins and ends.

Owns the in-memory picture of the log's shape and the one lock under which it changes; appends, the group and the
cleaner all work on it. A reader may look at `first` and `end` without the lock: they only grow, after the write.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Mapping

from rocksdict import WriteBatch

from odradek_runtime.avro_long import long
from odradek_runtime.log.embedded import rows
from odradek_runtime.log.embedded.disk import Disk, last_row, rows_between
from odradek_runtime.log.embedded.framing import (
    EmbeddedMessage,
    decode_long,
    decode_pair,
    decode_topic,
    encode_topic,
    read_long,
)
from odradek_runtime.log.port import LogError, Partition, TopicInfo

DELETED_AT_ONCE = 50_000
WEEK_MS = 7 * 24 * 3600 * 1000
MOST_PARTITIONS = 10_000
"""Of one topic: each is kept in memory."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")


class Tail:
    """One partition: its bounds, and the block of records at its end that is not full yet."""

    __slots__ = ("block_bytes", "block_newest_ms", "block_start", "end", "first", "number", "records")

    def __init__(self, topic: int, number: int) -> None:
        self.number = number
        self.records = rows.partition_row(b"R", topic, number)
        self.first = 0
        self.end = 0
        self.block_start = 0
        self.block_bytes = 0
        self.block_newest_ms = 0


class Topic:
    """A topic, its settings that the log acts on, and its partitions."""

    def __init__(self, name: str, number: int, identity: str, partitions: int, config: Mapping[str, str]) -> None:
        self.name = name
        self.number = number
        self.info = TopicInfo(name, identity, partitions, dict(config))
        self.tails = [Tail(number, partition) for partition in range(partitions)]
        policy = config.get("cleanup.policy", "delete").split(",")
        self.compacted = "compact" in policy
        self.deleted = "delete" in policy
        self.retention_ms = _setting(name, config, "retention.ms", WEEK_MS)
        self.retention_bytes = _setting(name, config, "retention.bytes", -1)
        self.tombstone_ms = _setting(name, config, "delete.retention.ms", 24 * 3600 * 1000)
        self.record_bytes = _setting(name, config, "max.message.bytes", 1_048_588)
        self.turn = 0


class Catalog:
    """All topics of one log."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.lock = threading.RLock()
        """Held while a transaction is laid out and written, and while shards change hands: no zombie slips between."""
        self.writes = 0
        self.topics: dict[str, Topic] = {}
        self._numbers = 0
        self.load()

    def load(self) -> None:
        """Read the shape from the disk, into the objects that are already known."""
        with self.lock:
            self.writes = self.number(rows.WRITES)
            for row, value in self.disk.prefixed(rows.TOPICS):
                name = row[1:].decode()
                number, identity, partitions, config = decode_topic(value)
                topic = self.topics.get(name) or Topic(name, number, identity, partitions, config)
                for tail in topic.tails:
                    self._load_tail(topic, tail)
                self.topics[name] = topic
                self._numbers = max(self._numbers, number + 1)

    def reopen(self) -> None:
        """If a write has failed: open the database again and read what is there. Raises LogError until it can."""
        with self.lock:
            if self.disk.broken:
                self.disk.reopen()
                self.load()

    def tails(self) -> list[Tail]:
        """Every partition of every topic."""
        return [tail for topic in self.topics.values() for tail in topic.tails]

    def _load_tail(self, topic: Topic, tail: Tail) -> None:
        row = self.disk.get(rows.partition_row(b"P", topic.number, tail.number))
        tail.first, tail.end = decode_pair(row) if row is not None else (0, 0)
        if not topic.deleted:
            return
        begin, end = block_range(topic, tail)
        with self.disk.reading() as db:
            last = last_row(db, end)
            tail.block_start = rows.offset_in(last) + 1 if last.startswith(begin[:-8]) else 0
            tail.block_bytes = tail.block_newest_ms = 0
            start = max(tail.block_start, tail.first)
            for name, raw in rows_between(db, tail.records + rows.pack_offset(start), tail.records + b"\xff" * 8):
                message = EmbeddedMessage(topic.name, tail.number, rows.offset_in(name), raw)
                tail.block_bytes += len(raw)
                tail.block_newest_ms = max(tail.block_newest_ms, message.timestamp()[1])

    def number(self, row: bytes) -> int:
        """A counter; 0 when it was never written."""
        raw = self.disk.get(row)
        return 0 if raw is None else decode_long(raw)

    def incarnation(self) -> int:
        """A number that no earlier opening of this log had."""
        with self.lock:
            number = self.number(rows.INCARNATIONS) + 1
            batch = WriteBatch(raw_mode=True)
            batch.put(rows.INCARNATIONS, long(number))
            self.disk.write(batch)
            return number

    def topic(self, name: str) -> Topic:
        """Raises LogError when there is none."""
        topic = self.topics.get(name)
        if topic is None:
            raise LogError(f"topic {name!r} does not exist: create it first", retriable=False)
        return topic

    def tail(self, partition: Partition) -> Tail:
        """Raises LogError when there is no such partition."""
        topic = self.topic(partition.topic)
        if not 0 <= partition.partition < len(topic.tails):
            count = len(topic.tails)
            raise LogError(f"topic {partition.topic!r} has partitions 0..{count - 1}, not {partition.partition}", retriable=False)
        return topic.tails[partition.partition]

    def create(self, name: str, partitions: int, config: Mapping[str, str]) -> TopicInfo:
        """Create it if absent. Raises LogError when the name, the count or a setting cannot be."""
        with self.lock:
            if name in self.topics:
                return self.topics[name].info
            if not _NAME.fullmatch(name) or name in (".", ".."):
                raise LogError(f"topic name {name!r}: use 1 to 249 letters, digits, '.', '_' and '-'", retriable=False)
            self.reopen()
            if not 1 <= partitions <= MOST_PARTITIONS:
                raise LogError(f"topic {name!r}: it may have 1 to {MOST_PARTITIONS} partitions, not {partitions}", retriable=False)
            topic = Topic(name, self._numbers, uuid.uuid4().hex, partitions, config)
            batch = WriteBatch(raw_mode=True)
            batch.put(rows.topic_row(name), encode_topic(topic.number, topic.info.id, partitions, config))
            self.disk.write(batch)
            self._numbers += 1
            self.topics[name] = topic
            return topic.info


    def delete(self, name: str) -> None:
        """Delete a topic with its records; one that is not there is no error. Nobody may be reading or writing it."""
        with self.lock:
            topic = self.topics.get(name)
            if topic is None:
                return
            self.reopen()
            found = [kind + topic.number.to_bytes(4, "big") for kind in (b"R", b"B", b"K", b"D", b"C", b"P")]
            names = [row for prefix in found for row, _ in self.disk.prefixed(prefix)]
            self.drop_rows([*names, rows.topic_row(name)])  # its number is given out again only when nothing is left under it
            del self.topics[name]

    def drop_rows(self, names: list[bytes]) -> None:
        """Delete rows, in bounded batches. Raises DiskError."""
        for start in range(0, len(names), DELETED_AT_ONCE):
            batch = WriteBatch(raw_mode=True)
            for row in names[start : start + DELETED_AT_ONCE]:
                batch.delete(row)
            self.disk.write(batch)


def block_range(topic: Topic, tail: Tail) -> tuple[bytes, bytes]:
    """The names between which this partition's blocks lie."""
    prefix = rows.partition_row(b"B", topic.number, tail.number)
    return prefix + bytes(8), prefix + b"\xff" * 8


def decode_block(raw: bytes) -> tuple[int, int]:
    """(bytes, newest timestamp in ms)."""
    size, at = read_long(raw, 0)
    return size, read_long(raw, at)[0]


def _setting(topic: str, config: Mapping[str, str], name: str, default: int) -> int:
    try:
        return int(config.get(name, default))
    except ValueError:
        raise LogError(f"topic {topic!r}: {name} must be a whole number, not {config[name]!r}", retriable=False) from None
