"""Names of the rows in the embedded log's RocksDB: a letter of kind, then numbers, big-endian: order is by offset.

T name: a topic                             P topic partition: its first and end offsets
R topic partition offset: a record          B topic partition last-offset: a block of about 1,000 records
K topic partition key: its newest offset    D topic partition offset: a tombstone and when it may go
C topic partition: compacted up to here     O group topic partition: a committed offset
N name: a publisher's position              M name: a counter of the log itself
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
    """The row T of a topic."""
    return TOPICS + name.encode()


def partition_row(kind: bytes, topic: int, partition: int) -> bytes:
    """The row P or C of a partition, or what its rows R, B, K and D begin with."""
    return _PARTITION.pack(kind, topic, partition)


def committed_row(group: str, topic: str, partition: int) -> bytes:
    """The row O of a group and a partition."""
    return b"O" + group.encode() + b"\x00" + topic.encode() + b"\x00" + partition.to_bytes(4, "big")


def group_rows(group: str) -> bytes:
    """What the rows O of a group begin with."""
    return b"O" + group.encode() + b"\x00"


def publisher_row(name: str) -> bytes:
    """The row N of a publisher."""
    return b"N" + name.encode()
