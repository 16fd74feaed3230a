"""Names of the rows in the embedded log's RocksDB: one letter of kind, then numbers big-endian, so that order is by offset.

T name -> topic; P topic partition -> first and end; R topic partition offset -> record; B topic partition last-offset -> block;
K topic partition key -> newest offset (compaction); D topic partition offset -> tombstone; C topic partition -> cleaned up to;
O group topic partition -> committed offset; N publisher -> position; M -> counters of the log itself.
"""

from __future__ import annotations

from struct import Struct

TOPICS = b"T"
WRITES = b"Mwrites"
"""Number of the last transaction: after a failed write it tells whether that one reached the disk."""
INCARNATIONS = b"Mincarnations"
"""How often the log was opened: the upper half of every ownership stamp."""

_PARTITION = Struct(">cII")
_OFFSET = Struct(">Q")
pack_offset = _OFFSET.pack


def offset_in(row: bytes) -> int:
    """The offset that ends a row's name."""
    return int.from_bytes(row[-8:], "big")


def topic_row(name: str) -> bytes:
    return TOPICS + name.encode()


def partition_row(kind: bytes, topic: int, partition: int) -> bytes:
    """The row P or C of a partition, or what its rows R, B, K and D begin with."""
    return _PARTITION.pack(kind, topic, partition)


def committed_row(group: str, topic: str, partition: int) -> bytes:
    return b"O" + group.encode() + b"\x00" + topic.encode() + b"\x00" + partition.to_bytes(4, "big")


def publisher_row(name: str) -> bytes:
    return b"N" + name.encode()
