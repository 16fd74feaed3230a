"""Topics made for a test, a demo or a bench, and waited for.

Stands before a record's journey: the topics that it comes from and goes to.
"""

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Protocol, cast

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic  # confluent_kafka.admin does not export it to type checkers


class _TopicAdmin(Protocol):
    """The part of AdminClient used here: its own annotations leave the futures' type open."""

    def create_topics(self, new_topics: list[NewTopic], *, operation_timeout: float) -> dict[str, Future[None]]: ...


def create_topics(
    bootstrap_servers: str,
    partitions: Mapping[str, int],
    config: Mapping[str, str] | None = None,
    timeout_s: float = 30.0,
) -> None:
    """Create topics, each with its number of partitions and all with the same `config`, and wait until they exist.

    Raises:
        KafkaException: a topic exists already, or could not be created.
    """
    topics = [NewTopic(name, count, config=dict(config or {})) for name, count in partitions.items()]
    admin = cast("_TopicAdmin", AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0}))
    for created in admin.create_topics(topics, operation_timeout=timeout_s).values():
        created.result(timeout_s + 5)
