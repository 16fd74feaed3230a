"""Kafka without the log: plain clients, to show what the cluster does to those who do not keep the rules."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol, cast

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from odradek_runtime.log.kafka.confluent import ConsumerClient, GroupMetadata, ProducerClient

DEADLINE_S = 30.0
Option = str | int | float | bool


def transactional(servers: str, transactional_id: str, **options: Option) -> ProducerClient:
    """A transactional producer, initialised. Options are written with underscores."""
    config: dict[str, Option] = {
        "bootstrap.servers": servers,
        "log_level": 0,
        "transactional.id": transactional_id,
        "retry.backoff.ms": 1,
        "allow.auto.create.topics": False,
    }
    config.update({name.replace("_", "."): value for name, value in options.items()})
    producer = cast("ProducerClient", Producer(dict(config)))
    producer.init_transactions(DEADLINE_S)
    return producer


def reader(servers: str, group: str | None = None, **options: Option) -> ConsumerClient:
    """A read_committed consumer."""
    config: dict[str, Option] = {
        "bootstrap.servers": servers,
        "log_level": 0,
        "group.id": group or uuid.uuid4().hex,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 10,  # the end of a partition is told by a fetch that brings nothing
    }
    config.update({name.replace("_", "."): value for name, value in options.items()})
    return cast("ConsumerClient", Consumer(dict(config)))


def committed_values(servers: str, topic: str, partition: int = 0) -> list[bytes | None]:
    """The values up to the last stable offset."""
    consumer = reader(servers)
    consumer.assign([TopicPartition(topic, partition, 0)])
    values: list[bytes | None] = []
    while (message := consumer.poll(DEADLINE_S)) is not None and message.error() is None:
        values.append(message.value())
    consumer.close()
    assert message is not None, f"{topic}[{partition}] has not ended within {DEADLINE_S} s"
    return values


class GroupConsumer:
    """A plain member of a group, which owns what it is given."""

    def __init__(self, servers: str, group: str, topic: str, protocol: str, **options: Option) -> None:
        settings: dict[str, Option] = {"group_protocol": protocol, **options}
        if protocol == "classic":
            settings |= {
                "partition_assignment_strategy": "cooperative-sticky",
                "session_timeout_ms": 6000,
                "heartbeat_interval_ms": 500,
            }
        self.owned: set[int] = set()
        self.client = reader(servers, group, **settings)
        self.client.subscribe([topic], on_assign=self._gained, on_revoke=self._gone, on_lost=self._gone)

    def metadata(self) -> GroupMetadata:
        """Fresh group metadata."""
        return self.client.consumer_group_metadata()

    def _gained(self, consumer: ConsumerClient, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign(partitions)
        consumer.pause(partitions)
        self.owned.update(tp.partition for tp in partitions)

    def _gone(self, consumer: ConsumerClient, partitions: list[TopicPartition]) -> None:
        consumer.incremental_unassign(partitions)
        self.owned.difference_update(tp.partition for tp in partitions)


def poll_until(condition: Callable[[], bool], members: Sequence[GroupConsumer]) -> None:
    """Poll these members until the condition holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, [member.owned for member in members]
        for member in members:
            member.client.poll(0.02)


def offsets_transaction(
    producer: ProducerClient, output: tuple[str, bytes], offset: TopicPartition, metadata: GroupMetadata
) -> str:
    """One record and one offset in a transaction: "committed", or the name of the error that refused it."""
    producer.begin_transaction()
    producer.produce(output[0], output[1])
    try:
        producer.send_offsets_to_transaction([offset], metadata, DEADLINE_S)
        producer.commit_transaction(DEADLINE_S)
    except KafkaException as error:
        producer.abort_transaction(DEADLINE_S)
        return str(error.args[0].name())
    return "committed"


def delete_topic(servers: str, topic: str) -> None:
    """Delete it; it disappears a moment later."""
    admin = cast("_TopicAdmin", AdminClient({"bootstrap.servers": servers, "log_level": 0}))
    for deleted in admin.delete_topics([topic]).values():
        deleted.result(DEADLINE_S)


class _TopicAdmin(Protocol):
    def delete_topics(self, topics: list[str]) -> dict[str, Future[None]]: ...


def eventually(condition: Callable[[], bool], timeout_s: float = DEADLINE_S) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not so within {timeout_s} s"
        time.sleep(0.02)
