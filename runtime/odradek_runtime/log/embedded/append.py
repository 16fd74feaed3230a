"""One transaction on its way to the disk: records get their offsets and are laid out, then all is written, then shown.

Used by a member's commit and by a publisher, always under the catalog's lock. Until `write` has returned nothing of it
can be read; if it raises, nothing has changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rocksdict import WriteBatch

from odradek_runtime.avro_long import long
from odradek_runtime.log.embedded import rows
from odradek_runtime.log.embedded.framing import EmbeddedMessage, encode_headers, encode_pair, encode_record
from odradek_runtime.log.embedded.partitioner import partition_of
from odradek_runtime.log.sizes import record_bytes

if TYPE_CHECKING:
    from odradek_runtime.log.embedded.catalog import Catalog, Tail, Topic
    from odradek_runtime.log.port import Headers, Outgoing, Partition

BLOCK_RECORDS = 1_000
BLOCK_BYTES = 1024 * 1024
RECORD_OVERHEAD_BYTES = 70
"""More than Kafka counts beside what is laid out here."""


class BadRecordError(ValueError):
    """A record that the log can never take; the message says which and why."""


class _Growth:
    """What this transaction adds to one partition."""

    __slots__ = ("bytes", "end", "newest_ms", "tail", "topic")

    def __init__(self, topic: Topic, tail: Tail) -> None:
        self.topic = topic
        self.tail = tail
        self.end = tail.end
        self.bytes = 0
        self.newest_ms = 0


class Append:
    """A transaction being laid out. `now_ms`: the time of records that bring none."""

    def __init__(self, catalog: Catalog, now_ms: int) -> None:
        self._catalog = catalog
        self._batch = WriteBatch(raw_mode=True)
        self._growths: dict[tuple[str, int], _Growth] = {}
        self._now_ms = now_ms
        self._now = long(now_ms)

    def outputs(self, outputs: Sequence[Outgoing]) -> None:
        """Raises BadRecordError."""
        topics = self._catalog.topics
        growths = self._growths
        add = self._add
        for name, partition, key, value, headers, timestamp_ms in outputs:
            if partition is None:
                topic = topics.get(name)
                if topic is None:
                    raise _absent(name)
                if key is not None:
                    partition = partition_of(key, len(topic.tails))
                else:
                    topic.turn += 1
                    partition = topic.turn % len(topic.tails)
            growth = growths.get((name, partition)) or self._growth(name, partition)
            encoded = encode_headers(headers) if headers else b"\x00"
            if timestamp_ms:
                add(growth, key, value, encoded, timestamp_ms, long(timestamp_ms))
            else:
                add(growth, key, value, encoded, self._now_ms, self._now)

    def changelog(
        self, topic: str, shard: int, records: Sequence[tuple[bytes, bytes | None]], headers: Headers | None
    ) -> int | None:
        """Append to a changelog partition; the offset after the last record. Raises BadRecordError."""
        if not records:
            return None
        growth = self._growth(topic, shard)
        encoded = encode_headers(headers)
        for key, value in records:
            self._add(growth, key, value, encoded, self._now_ms, self._now)
        return growth.end

    def _growth(self, name: str, partition: int) -> _Growth:
        growth = self._growths.get((name, partition))
        if growth is None:
            topic = self._catalog.topics.get(name)
            if topic is None:
                raise _absent(name)
            if not 0 <= partition < len(topic.tails):
                raise BadRecordError(f"topic {name!r} has partitions 0..{len(topic.tails) - 1}, not {partition}")
            growth = self._growths[name, partition] = _Growth(topic, topic.tails[partition])
        return growth

    def _add(self, growth: _Growth, key: bytes | None, value: bytes | None, headers: bytes, stamp_ms: int, stamp: bytes) -> None:
        raw = encode_record(key, value, headers, stamp)
        size = len(raw)
        if size + RECORD_OVERHEAD_BYTES > growth.topic.record_bytes:
            self._check_size(growth.topic, raw)
        if key is None and growth.topic.compacted:
            raise BadRecordError(f"a record for the compacted topic {growth.topic.name!r} has no key: give it one")
        end = growth.end
        self._batch.put(growth.tail.records + rows.pack_offset(end), raw)
        growth.end = end + 1
        growth.bytes += size
        if stamp_ms > growth.newest_ms:
            growth.newest_ms = stamp_ms

    def _check_size(self, topic: Topic, raw: bytes) -> None:
        """To the byte, as Kafka would. Raises BadRecordError."""
        record = EmbeddedMessage(topic.name, 0, 0, raw)
        size, limit = record_bytes(record.key(), record.value(), record.headers()), topic.record_bytes
        if size > limit:
            raise BadRecordError(
                f"a record for {topic.name!r} has {size} bytes, more than max.message.bytes={limit}: make it smaller"
            )

    def offsets(self, group: str, offsets: Mapping[Partition, int]) -> None:
        for partition, offset in offsets.items():
            self._batch.put(rows.committed_row(group, partition.topic, partition.partition), long(offset))

    def number(self, row: bytes, number: int) -> None:
        """Write a counter in the same transaction."""
        self._batch.put(row, long(number))

    @property
    def sequence(self) -> int:
        """This transaction's number: `Catalog.writes` reaches it when it is durable."""
        return self._catalog.writes + 1

    def write(self) -> list[Tail]:
        """Make it durable, then visible; the partitions that grew. Raises DiskError."""
        for growth in self._growths.values():
            self._lay_bounds(growth)
        self._batch.put(rows.WRITES, long(self.sequence))
        self._catalog.disk.write(self._batch)
        self._catalog.writes += 1
        return [self._show(growth) for growth in self._growths.values()]

    def _lay_bounds(self, growth: _Growth) -> None:
        tail, topic = growth.tail, growth.topic
        self._batch.put(rows.partition_row(b"P", topic.number, tail.number), encode_pair(tail.first, growth.end))
        if self._fills_block(growth):
            row = rows.partition_row(b"B", topic.number, tail.number) + rows.pack_offset(growth.end - 1)
            newest_ms = max(tail.block_newest_ms, growth.newest_ms)
            self._batch.put(row, encode_pair(tail.block_bytes + growth.bytes, newest_ms))

    @staticmethod
    def _fills_block(growth: _Growth) -> bool:
        tail = growth.tail
        if not growth.topic.deleted:
            return False
        return growth.end - tail.block_start >= BLOCK_RECORDS or tail.block_bytes + growth.bytes >= BLOCK_BYTES

    def _show(self, growth: _Growth) -> Tail:
        tail = growth.tail
        if self._fills_block(growth):
            tail.block_start, tail.block_bytes, tail.block_newest_ms = growth.end, 0, 0
        else:
            tail.block_bytes += growth.bytes
            tail.block_newest_ms = max(tail.block_newest_ms, growth.newest_ms)
        tail.end = growth.end
        return tail


def _absent(topic: str) -> BadRecordError:
    return BadRecordError(f"topic {topic!r} does not exist: create it before publishing to it")
