"""Kafka's segment files as they lie on disk: when the records of a partition arrived, committed or not.

The format is Kafka's record batch, magic 2 (https://kafka.apache.org/documentation/#recordbatch).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

HEAD = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, magic, crc, attributes, last delta, base and max time, producer, epoch, sequence, count."""
BEFORE_LENGTH = 12
CONTROL = 0x20


def longest_silence_s(cluster: Path, topic: str, partitions: int, until_ms: int) -> float:
    """The longest time between two batches of one partition, up to a moment; the topic's times are those of arrival."""
    longest_ms = 0
    for number in range(partitions):
        times = [time_ms for time_ms in _arrivals(cluster, topic, number) if time_ms <= until_ms]
        longest_ms = max([longest_ms, *(after - before for before, after in pairwise(times))])
    return longest_ms / 1000


def _arrivals(cluster: Path, topic: str, number: int) -> Iterator[int]:
    replicas = cluster.glob(f"broker-*/data/{topic}-{number}")
    longest = max(replicas, key=lambda folder: sum(segment.stat().st_size for segment in folder.glob("*.log")))
    for segment in sorted(longest.glob("*.log")):
        raw, at = segment.read_bytes(), 0
        while at + HEAD.size <= len(raw):
            head = HEAD.unpack_from(raw, at)
            length, magic, attributes, max_ms = head[1], head[3], head[5], head[8]
            if length <= 0 or magic != 2:
                break
            if not attributes & CONTROL:
                yield max_ms
            at += BEFORE_LENGTH + length
