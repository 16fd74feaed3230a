"""A topic that has just been made: brokers hear of it one after the other, and any of them may be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from odradek_runtime.log.kafka.clients import Clients
from odradek_runtime.log.kafka.cluster import Cluster
from odradek_runtime.log.port import LogError, Partition

if TYPE_CHECKING:
    from collections.abc import Callable

    from odradek_runtime.log.kafka.confluent import AdminApi


class Unheard:
    """An admin client whose next requests go to a broker that knows no topic."""

    def __init__(self, admin: AdminApi, behind: list[None]) -> None:
        self._admin = admin
        self._behind = behind

    def __getattr__(self, name: str) -> Any:
        if name in {"list_offsets", "describe_topics"} and self._behind:
            self._behind.pop()
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        return getattr(self._admin, name)


class ClientsOfBrokersBehind(Clients):
    """Fill `behind` with as many requests as are to be answered so."""

    behind: list[None]

    def admin(self, on_error: Callable[[KafkaError], None]) -> Any:
        return Unheard(super().admin(on_error), self.behind)


@pytest.fixture
def clients(kafka: str) -> ClientsOfBrokersBehind:
    made = ClientsOfBrokersBehind(kafka, {})
    made.behind = []
    return made


def test_a_broker_that_has_not_heard_of_a_new_topic_is_asked_again(clients: ClientsOfBrokersBehind, topic_prefix: str) -> None:
    cluster = Cluster(clients, 0, 10.0)
    cluster.create_topic(topic_prefix, 1, {})
    clients.behind.extend([None] * 6)
    assert cluster.offset(Partition(topic_prefix, 0), "end") == 0
    assert clients.behind == []
    with pytest.raises(LogError, match="there is no such partition"):
        cluster.offset(Partition(topic_prefix, 1), "end")


def test_one_that_is_not_new_is_believed_to_be_gone(clients: ClientsOfBrokersBehind, topic_prefix: str) -> None:
    cluster = Cluster(clients, 0, 10.0)
    cluster.create_topic(topic_prefix, 1, {})
    cluster.delete_topic(topic_prefix)
    clients.behind.extend([None] * 6)
    with pytest.raises(LogError, match="there is no such partition"):
        cluster.offset(Partition(topic_prefix, 0), "end")
    assert len(clients.behind) == 4
