"""Where a record goes when its writer did not say: Kafka's murmur2 of the key, else round robin."""

from __future__ import annotations

from murmurhash2 import murmurhash2

_KAFKA_SEED = 0x9747B28C


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's default partitioner gives this key."""
    return int((murmurhash2(key, _KAFKA_SEED) & 0x7FFFFFFF) % partitions)
