"""Where a record goes when its writer did not say: Kafka's murmur2 of the key, else round robin."""

from __future__ import annotations

from odradek_runtime.routing import key_hash


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's default partitioner gives this key."""
    return key_hash(key) % partitions
