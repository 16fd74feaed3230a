"""Who is in a group, asked of the group's coordinator.

A question about a group never times out inside librdkafka: the search for the coordinator would outlive it, and end the
process (an assertion in `rd_kafka_enq_once_del_source_return`, librdkafka #4605, #5397) as soon as the coordinator is back.
So each question has an admin client of its own, and one that is not answered is given up together with its client.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from odradek_runtime.log.kafka.clients import Clients, ErrorCallback
from odradek_runtime.log.kafka.confluent import AdminApi
from odradek_runtime.log.port import Partition

NEVER_S = 3600.0
"""The longest that librdkafka takes for a request's timeout; no question stays with its client for so long."""

KEPT = 2
"""Idle clients kept for the next questions."""


class GroupMember:
    """A member of a group as the coordinator describes it."""

    __slots__ = ("client_id", "member_id", "partitions")

    def __init__(self, member_id: str, client_id: str, partitions: Sequence[Partition]) -> None:
        self.member_id = member_id
        self.client_id = client_id
        self.partitions = partitions


class GroupReader:
    """Blocks, safe from any thread."""

    def __init__(self, clients: Clients, on_error: ErrorCallback) -> None:
        self._clients = clients
        self._on_error = on_error
        self._lock = threading.Lock()
        self._idle: list[AdminApi] = []

    def members(self, group: str, timeout_s: float) -> list[GroupMember]:
        """The group's live members; none if there is no such group.

        Raises KafkaException.
        """
        described = self._ask(lambda client: client.describe_consumer_groups([group], request_timeout=NEVER_S)[group], timeout_s)
        return [
            GroupMember(
                member.member_id or "",
                member.client_id or "",
                [Partition(tp.topic, tp.partition) for tp in member.assignment.topic_partitions],
            )
            for member in described.members
        ]

    def delete(self, group: str, timeout_s: float) -> None:
        """Delete a group with its offsets. Raises KafkaException, also when it has members."""
        self._ask(lambda client: client.delete_consumer_groups([group], request_timeout=NEVER_S)[group], timeout_s)

    def _ask(self, question: Callable[[AdminApi], Future[Any]], timeout_s: float) -> Any:
        client = self._take()
        try:
            answer = question(client).result(timeout_s)
        except TimeoutError:
            client.poll(0)  # tells of the errors behind the silence
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None
        self._give_back(client)
        return answer

    def close(self) -> None:
        """Free the idle clients."""
        with self._lock:
            self._idle.clear()

    def _take(self) -> AdminApi:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._clients.admin(self._on_error)

    def _give_back(self, client: AdminApi) -> None:
        with self._lock:
            if len(self._idle) < KEPT:
                self._idle.append(client)
