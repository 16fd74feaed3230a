"""Times: when the next record of a partition was written, asked of the cluster for a few partitions at once.

Beside the scans, for the lag in seconds alone: it reads as little as a broker sends, and waits for nobody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from confluent_kafka import KafkaException, TopicPartition

from odradek_runtime.log.kafka.clients import Clients, Options
from odradek_runtime.log.kafka.confluent import ConsumerClient
from odradek_runtime.log.kafka.errors import cause, log_error
from odradek_runtime.log.kafka.trouble import TroubleReporter
from odradek_runtime.log.port import Partition

PATIENCE_S = 3.0

OPTIONS: Options = {
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 10,
    "fetch.message.max.bytes": 1_024,
    "queued.min.messages": 1,
    "queued.max.messages.kbytes": 64,
}
"""A broker sends whole batches, at least one: that is enough."""


class Times:
    """One consumer, made when it is first needed. Safe from any thread."""

    def __init__(self, clients: Clients, trouble: TroubleReporter) -> None:
        self._clients = clients
        self._trouble = trouble
        self._lock = threading.Lock()
        self._consumer: ConsumerClient | None = None
        self._topics: set[str] = set()

    def at(self, positions: Mapping[Partition, int]) -> dict[Partition, int]:
        """Unix milliseconds of the first committed record at or behind each offset, where there is one now."""
        with self._lock:
            if self._consumer is None:
                self._consumer = self._clients.consumer("odradek-times", OPTIONS, self._trouble.error)
            try:
                return self._read(self._consumer, positions)
            except KafkaException as error:
                self._drop()
                raise log_error(cause(error), self._clients.servers, "looking for the time of records") from None

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        consumer, self._consumer = self._consumer, None
        self._topics.clear()
        if consumer is not None:
            consumer.close()

    def _read(self, consumer: ConsumerClient, positions: Mapping[Partition, int]) -> dict[Partition, int]:
        deadline_s = time.monotonic() + PATIENCE_S
        for topic in {partition.topic for partition in positions} - self._topics:
            consumer.list_topics(topic, PATIENCE_S)  # by itself it would find a topic new to it after a second
            self._topics.add(topic)
        consumer.assign([TopicPartition(partition.topic, partition.partition, at) for partition, at in positions.items()])
        found: dict[Partition, int] = {}
        waiting = set(positions)
        try:
            while waiting and time.monotonic() < deadline_s:
                message = consumer.poll(0.1)
                if message is None:
                    continue
                error = message.error()
                partition = Partition(message.topic(), message.partition())
                if partition not in waiting:  # an error of no partition, too
                    continue
                waiting.discard(partition)  # its record; or there is none to be read now, which whoever reads it tells of
                kind, time_ms = message.timestamp() if error is None else (0, 0)
                if kind:
                    found[partition] = time_ms
        finally:
            consumer.unassign()
        return found
