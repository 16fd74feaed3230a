"""Reads what groups have committed, through consumers that never join.

Not through the admin client: its `list_consumer_group_offsets` brings the process down (SIGSEGV, librdkafka #5040) when
the coordinator answers that it is not the coordinator, as it does after a broker restart and on a fresh cluster.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from odradek_runtime.log.kafka.clients import Clients, ErrorCallback
from odradek_runtime.log.kafka.confluent import ConsumerClient
from odradek_runtime.log.port import Partition

KEPT = 4
"""Idle consumers kept for each group and isolation level: a take-over asks for several shards at once."""


class CommittedOffset:
    """What a group has committed for one partition."""

    __slots__ = ("metadata", "offset")

    def __init__(self, offset: int, metadata: str) -> None:
        self.offset = offset
        self.metadata = metadata


class OffsetReader:
    """Blocks, safe from any thread; each question has a consumer of its own while it lasts."""

    def __init__(self, clients: Clients, on_error: ErrorCallback) -> None:
        self._clients = clients
        self._on_error = on_error
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, bool], list[ConsumerClient]] = {}

    def read(
        self, group: str, partitions: Sequence[Partition], *, stable: bool, timeout_s: float
    ) -> dict[Partition, CommittedOffset]:
        """The committed offsets; a stable one waits for the transaction that is about to replace it.

        Raises KafkaException.
        """
        consumer = self._take(group, stable)
        try:
            found = consumer.committed([TopicPartition(p.topic, p.partition) for p in partitions], timeout_s)
        except KafkaException:
            self._explain(consumer)
            consumer.close()
            raise
        self._give_back(group, stable, consumer)
        for tp in found:
            if tp.error is not None and tp.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise KafkaException(tp.error)
        return {Partition(tp.topic, tp.partition): CommittedOffset(tp.offset, tp.metadata or "") for tp in found if tp.offset >= 0}

    def _explain(self, consumer: ConsumerClient) -> None:
        """Tell of the errors behind a bare "timed out": a group that we may not read is one of them."""
        while (event := consumer.poll(0)) is not None:
            if (error := event.error()) is not None:
                self._on_error(error)

    def close(self) -> None:
        """Free the idle consumers."""
        with self._lock:
            idle = [consumer for consumers in self._idle.values() for consumer in consumers]
            self._idle.clear()
        for consumer in idle:
            consumer.close()

    def _take(self, group: str, stable: bool) -> ConsumerClient:
        with self._lock:
            idle = self._idle.get((group, stable))
            if idle:
                return idle.pop()
        # The isolation level is what decides whether the coordinator is asked for stable offsets alone.
        level = "read_committed" if stable else "read_uncommitted"
        return self._clients.consumer(group, {"isolation.level": level}, self._on_error)

    def _give_back(self, group: str, stable: bool, consumer: ConsumerClient) -> None:
        with self._lock:
            idle = self._idle.setdefault((group, stable), [])
            if len(idle) < KEPT:
                idle.append(consumer)
                return
        consumer.close()
