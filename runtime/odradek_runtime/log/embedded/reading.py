"""Records out of the database: bounded reads of one partition, and the search for a time."""

from __future__ import annotations

from collections.abc import Iterator

from odradek_runtime.log.embedded import rows
from odradek_runtime.log.embedded.catalog import Catalog, Tail, block_range, decode_block
from odradek_runtime.log.embedded.disk import Disk, rows_between
from odradek_runtime.log.embedded.framing import EmbeddedMessage
from odradek_runtime.log.port import LogError, Partition

SCAN_RECORDS = 1_000
SCAN_BYTES = 4 * 1024 * 1024
SPARING_BYTES = 1024 * 1024
"""Of one batch, or a single record."""


def read(
    disk: Disk, partition: Partition, tail: Tail, start: int, stop: int, limit: int, limit_bytes: int
) -> tuple[list[EmbeddedMessage], int, int]:
    """Records with start <= offset < stop: at most `limit`, and at most `limit_bytes` unless the first alone has more.

    Returns them with the offset to read next and their size in bytes. Offsets removed by compaction are passed over.
    """
    topic, number = partition
    found: list[EmbeddedMessage] = []
    size = 0
    prefix = tail.records
    with disk.reading() as db:
        for row, raw in rows_between(db, prefix + rows.pack_offset(max(start, tail.first)), prefix + rows.pack_offset(stop)):
            size += len(raw)
            found.append(EmbeddedMessage(topic, number, int.from_bytes(row[-8:], "big"), raw))
            if len(found) >= limit or size >= limit_bytes:
                return found, found[-1].offset() + 1, size
    return found, max(stop, start), size


def first(catalog: Catalog, partition: Partition, start: int) -> EmbeddedMessage | None:
    """The first record at or behind this offset; None when there is none."""
    tail = catalog.tail(partition)
    found, _, _ = read(catalog.disk, partition, tail, start, tail.end, 1, 1)
    return found[0] if found else None


def scan(
    catalog: Catalog, partition: Partition, start: int, stop: int, batch_bytes: int = SCAN_BYTES
) -> Iterator[list[EmbeddedMessage]]:
    """Batches of the records with start <= offset < stop. Raises LogError when some are gone or not there yet."""
    tail = catalog.tail(partition)
    _check_first(partition, tail, start)
    if stop > tail.end:
        raise LogError(f"{partition.topic}[{partition.partition}] ends at offset {tail.end}, there is no {stop} to read up to")
    return _batches(catalog, partition, tail, start, stop, batch_bytes)


def _batches(
    catalog: Catalog, partition: Partition, tail: Tail, start: int, stop: int, batch_bytes: int = SCAN_BYTES
) -> Iterator[list[EmbeddedMessage]]:
    position = start
    while position < stop:
        found, after, _ = read(catalog.disk, partition, tail, position, stop, SCAN_RECORDS, batch_bytes)
        _check_first(partition, tail, position)
        position = after
        if found:
            yield found


def _check_first(partition: Partition, tail: Tail, start: int) -> None:
    if start < tail.first:
        raise LogError(
            f"{partition.topic}[{partition.partition}] begins at offset {tail.first}, what was before is deleted:"
            f" offset {start} cannot be read. Start from the beginning",
            retriable=False,
        )


def offset_at(catalog: Catalog, partition: Partition, timestamp_ms: int) -> int:
    """The first offset whose record is at or after this time. Full blocks that are wholly older are skipped."""
    tail = catalog.tail(partition)
    end = tail.end
    begin, behind = block_range(catalog.topic(partition.topic), tail)
    start = tail.first
    # Retention may pass this place meanwhile: then what is left is searched from where it begins.
    with catalog.disk.reading() as db:
        for row, raw in rows_between(db, begin, behind):
            if decode_block(raw)[1] >= timestamp_ms:
                break
            start = max(start, rows.offset_in(row) + 1)
    for batch in _batches(catalog, partition, tail, start, end):
        for message in batch:
            if message.timestamp()[1] >= timestamp_ms:
                return message.offset()
    return end
