"""Scans: one partition read from here to there, committed records only, as fast as it goes.

Stands before a shard's first event: restores and look-ups read their part of the log through here, outside any group.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from odradek_runtime.log.kafka.clients import Clients, Options
from odradek_runtime.log.kafka.confluent import ConsumerClient, Fetched
from odradek_runtime.log.kafka.errors import cause, explain, kind_of, log_error, refusal_of
from odradek_runtime.log.kafka.trouble import TroubleReporter
from odradek_runtime.log.port import LogError, Message, Partition

BATCH = 1_000
POLL_S = 0.1
KEPT = 4
"""Idle consumers kept for the next scan."""

SCAN_OPTIONS: Options = {
    "enable.partition.eof": True,
    "fetch.min.bytes": 1,
    "fetch.wait.max.ms": 10,
    "fetch.queue.backoff.ms": 5,
    "fetch.error.backoff.ms": 100,
    "queued.min.messages": 200_000,
    "queued.max.messages.kbytes": 65_536,
    "fetch.message.max.bytes": 8_388_608,
    "check.crcs": False,
}
SPARING: Options = {
    "queued.min.messages": 1_000,
    "queued.max.messages.kbytes": 512,
    "fetch.message.max.bytes": 524_288,
}
"""What is different where a scan takes long, or many run. One fetch more than this may be queued, and records that are larger."""


class Scanner:
    """A pool of consumers for scans. Safe from any thread.

    Args:
        stall_s: without progress for so long a scan gives up.
        options: what is different from `SCAN_OPTIONS`.
    """

    def __init__(self, clients: Clients, trouble: TroubleReporter, stall_s: float, options: Options | None = None) -> None:
        self._clients = clients
        self._trouble = trouble
        self._stall_s = stall_s
        self._options: Options = {**SCAN_OPTIONS, **(options or {})}
        self._lock = threading.Lock()
        self._idle: list[ConsumerClient] = []
        self._closed = False

    def scan(self, partition: Partition, start: int, stop: int) -> Iterator[Sequence[Message]]:
        """Committed records with start <= offset < stop, in batches."""
        if start >= stop:
            return
        consumer = self._take()
        sound = False
        try:
            yield from self._read(consumer, partition, start, stop)
            sound = True
        except KafkaException as error:
            doing = f"scanning {_name(partition)}"
            raise log_error(cause(error), self._clients.servers, doing, resource=partition.topic, operation="Read") from None
        except GeneratorExit:
            sound = True
            raise
        finally:
            self._give_back(consumer, sound=sound)

    def close(self) -> None:
        """Close the idle consumers; one in use closes when its scan ends."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for consumer in idle:
            consumer.close()

    def _read(self, consumer: ConsumerClient, partition: Partition, start: int, stop: int) -> Iterator[Sequence[Message]]:
        here = TopicPartition(partition.topic, partition.partition)
        # Asked for at once: by itself the consumer would find a topic new to it after a second, an absent one never.
        if partition.partition not in consumer.list_topics(partition.topic, self._stall_s).topics[partition.topic].partitions:
            raise LogError(f"there is no partition {_name(partition)}", retriable=False)
        consumer.assign([TopicPartition(partition.topic, partition.partition, start)])
        position = start
        moved_at = time.monotonic()
        while position < stop:
            first = consumer.poll(POLL_S)
            batch = [] if first is None else [first, *consumer.consume(BATCH - 1, 0)]
            failures = [message for message in batch if message.error()]
            if failures:
                for message in failures:
                    self._judge(message, partition, start)
                batch = [message for message in batch if not message.error()]
            if batch and batch[-1].offset() >= stop:
                batch = [message for message in batch if message.offset() < stop]
                position = stop
            # An end-of-partition event alone is no proof (it comes at the last stable offset too); the position does.
            now_at = stop if position >= stop else max(position, consumer.position([here])[0].offset)
            if batch:
                yield batch
            if batch or now_at > position:
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > self._stall_s:
                raise LogError(
                    f"scanning {_name(partition)} has stood at {position} for {self._stall_s:g} s, before {stop}: a "
                    "transaction was left open there (the broker ends it after its transaction.timeout.ms), or the "
                    "partition has no leader"
                )
            position = now_at

    def _judge(self, message: Fetched, partition: Partition, start: int) -> None:
        error = message.error()
        if error is None or error.code() in (KafkaError._PARTITION_EOF, KafkaError.GROUP_AUTHORIZATION_FAILED):
            return  # it is in no group, whatever its library thinks
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            reason = f"{_name(partition)} no longer has offset {start}: restore from its first offset"
            raise LogError(reason, retriable=False)
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC):
            raise LogError(f"there is no partition {_name(partition)}", retriable=False)
        doing = f"scanning {_name(partition)}"
        if refusal_of(error, doing) is not None:
            raise log_error(error, self._clients.servers, doing, resource=partition.topic, operation="Read")
        if kind_of(error) == "other":
            raise LogError(f"scanning {_name(partition)}: {explain(error, self._clients.servers)}")
        self._trouble.error(error)

    def _take(self) -> ConsumerClient:
        with self._lock:
            if self._closed:
                raise LogError("the log is closed", retriable=False)
            if self._idle:
                return self._idle.pop()
        return self._clients.consumer("odradek-scan", self._options, self._trouble.error)

    def _give_back(self, consumer: ConsumerClient, *, sound: bool) -> None:
        if sound:
            consumer.unassign()
            with self._lock:
                if not self._closed and len(self._idle) < KEPT:
                    self._idle.append(consumer)
                    return
        consumer.close()


def _name(partition: Partition) -> str:
    return f"{partition.topic}[{partition.partition}]"
