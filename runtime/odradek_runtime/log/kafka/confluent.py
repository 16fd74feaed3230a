"""What this package uses of confluent_kafka, with exact types: its own stubs are partly untyped.

Stands between everything here and the C library: no other file names a confluent class in a signature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Literal, Protocol, cast

from confluent_kafka import KafkaError, TopicPartition
from confluent_kafka.admin._acl import AclOperation
from confluent_kafka.admin._config import (
    ConfigResource,  # confluent_kafka.admin does not export its own names to checkers
)
from confluent_kafka.admin._listoffsets import EarliestSpec, LatestSpec, TimestampSpec
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from odradek_runtime.log.port import Message

GroupMetadata = bytes
"""A member's generation as librdkafka encodes it; opaque."""


class Fetched(Message, Protocol):
    """A record or an error event, as a consumer gives it."""

    def error(self) -> KafkaError | None: ...


__all__ = [
    "AclOperation",
    "AdminApi",
    "ConfigResource",
    "ConsumerClient",
    "Delivered",
    "Fetched",
    "GroupMetadata",
    "NewTopic",
    "ProducerClient",
    "Rebalanced",
    "ResourceType",
    "Where",
    "offset_spec",
]

Where = Literal["first", "end"] | int
"""A place in a partition: one of its ends, or the first record at or after a Unix time in milliseconds."""


def offset_spec(where: Where) -> object:
    """What `list_offsets` takes for a place."""
    if isinstance(where, int):
        return TimestampSpec(where)
    return cast("Callable[[], object]", EarliestSpec if where == "first" else LatestSpec)()


Delivered = Callable[[KafkaError | None, Message], None]
Rebalanced = Callable[["ConsumerClient", list[TopicPartition]], None]


class ConsumerClient(Protocol):
    """confluent_kafka.Consumer."""

    def subscribe(self, topics: list[str], *, on_assign: Rebalanced, on_revoke: Rebalanced, on_lost: Rebalanced) -> None: ...
    def poll(self, timeout: float) -> Fetched | None: ...
    def consume(self, num_messages: int, timeout: float) -> list[Fetched]: ...
    def list_topics(self, topic: str, timeout: float) -> Any: ...
    def assign(self, partitions: list[TopicPartition]) -> None: ...
    def unassign(self) -> None: ...
    def incremental_assign(self, partitions: list[TopicPartition]) -> None: ...
    def incremental_unassign(self, partitions: list[TopicPartition]) -> None: ...
    def pause(self, partitions: list[TopicPartition]) -> None: ...
    def resume(self, partitions: list[TopicPartition]) -> None: ...
    def position(self, partitions: list[TopicPartition]) -> list[TopicPartition]: ...
    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]: ...
    def memberid(self) -> str: ...
    def consumer_group_metadata(self) -> GroupMetadata: ...
    def close(self) -> None: ...


class ProducerClient(Protocol):
    """confluent_kafka.Producer. `produce` is positional: keywords cost a third more per record."""

    def produce(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int = -1,
        callback: Delivered | None = None,
        on_delivery: Delivered | None = None,
        timestamp: int = 0,
        headers: list[tuple[str, bytes | None]] | None = None,
        /,
    ) -> None: ...
    def poll(self, timeout: float) -> int: ...
    def flush(self, timeout: float) -> int: ...
    def purge(self) -> None: ...
    def list_topics(self, topic: str, timeout: float) -> object: ...
    def init_transactions(self, timeout: float) -> None: ...
    def begin_transaction(self) -> None: ...
    def send_offsets_to_transaction(
        self, positions: list[TopicPartition], group_metadata: GroupMetadata, timeout: float
    ) -> None: ...
    def commit_transaction(self, timeout: float) -> None: ...
    def abort_transaction(self, timeout: float) -> None: ...


class AdminApi(Protocol):
    """confluent_kafka.admin.AdminClient."""

    def poll(self, timeout: float) -> int: ...
    def list_topics(self, topic: str | None = None, *, timeout: float) -> Any: ...
    def describe_topics(
        self, topics: Any, *, include_authorized_operations: bool, request_timeout: float
    ) -> Mapping[str, Future[Any]]: ...
    def describe_configs(self, resources: Sequence[Any], *, request_timeout: float) -> Mapping[Any, Future[Any]]: ...
    def describe_cluster(self, *, request_timeout: float) -> Future[Any]: ...
    def create_topics(self, topics: Sequence[Any], *, request_timeout: float) -> Mapping[str, Future[Any]]: ...
    def list_offsets(
        self, offsets: Mapping[TopicPartition, Any], *, isolation_level: Any, request_timeout: float
    ) -> Mapping[TopicPartition, Future[Any]]: ...
    def delete_records(
        self, offsets: Sequence[TopicPartition], *, request_timeout: float
    ) -> Mapping[TopicPartition, Future[Any]]: ...
    def delete_topics(self, topics: Sequence[str], *, request_timeout: float) -> Mapping[str, Future[Any]]: ...
    def delete_consumer_groups(self, groups: Sequence[str], *, request_timeout: float) -> Mapping[str, Future[Any]]: ...
    def describe_consumer_groups(self, groups: Sequence[str], *, request_timeout: float) -> Mapping[str, Future[Any]]: ...
