"""The records of a topic as a reader finds them who reads committed ones only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from odradek_runtime.log.port import Partition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from odradek_runtime.log.port import Log, Message


def committed(log: Log, topic: str) -> Iterator[Message]:
    """All committed records of a topic, in order within each partition; none of a topic that there is not."""
    info = log.topic(topic)
    for number in range(info.partitions if info is not None else 0):
        partition = Partition(topic, number)
        for batch in log.scan(partition, *log.offsets(partition)):
            yield from batch
