"""Takeover of a shard: end what its dead owner left open, then learn where its commands stand.

Stands between gaining a shard and restoring it. Without it a pending transaction of a killed worker holds the stable
offset back until the broker times it out.
"""

from __future__ import annotations

import time

from confluent_kafka import KafkaException

from odradek_runtime.log.kafka.clients import Clients
from odradek_runtime.log.kafka.cluster import Cluster
from odradek_runtime.log.kafka.errors import cause, log_error
from odradek_runtime.log.kafka.owner import Mark, read_client_id, read_mark, word
from odradek_runtime.log.kafka.trouble import TroubleReporter
from odradek_runtime.log.port import LogError, Partition

FENCED_FOR_S = 10.0
"""A dead member's ids are fenced once for all its shards; a zombie that came back later is fenced again."""


class Takeover:
    """Settles shards of one app. Safe from any thread.

    Args:
        app: the group.
        incarnation: our own, never fenced here.
        timeout_s: how long to wait for the stable offset; longer than a transaction may last.
    """

    def __init__(
        self, clients: Clients, cluster: Cluster, trouble: TroubleReporter, app: str, incarnation: str, timeout_s: float
    ) -> None:
        self._clients = clients
        self._cluster = cluster
        self._trouble = trouble
        self._app = app
        self._incarnation = incarnation
        self._timeout_s = timeout_s
        self._fenced_at: dict[str, float] = {}

    def settle(self, shard: int) -> int | None:
        """The stable committed offset of the shard's commands, after its dead owner was fenced."""
        partition = Partition(f"{self._app}.commands", shard)
        unstable = self._cluster.committed(self._app, [partition], stable=False).get(partition)
        if unstable is not None:
            mark = read_mark(unstable.metadata)
            if mark is not None and self._is_dead(mark):
                self._fence(mark, partition)
        try:
            stable = self._cluster.committed(self._app, [partition], stable=True, timeout_s=self._timeout_s)
        except LogError as error:
            raise LogError(f"shard {shard} is not settled: a transaction on it may still be pending; {error}") from None
        return stable[partition].offset if partition in stable else None

    def _is_dead(self, mark: Mark) -> bool:
        """Whether no member is the one that wrote the mark.

        Either sign of life counts: a member that was lost and rejoined has a new member id, and one with a static
        membership of the classic protocol is shown with the client id of the first process that ever held it.
        """
        if mark.incarnation == self._incarnation:
            return False
        if time.monotonic() - self._fenced_at.get(mark.incarnation, -FENCED_FOR_S) < FENCED_FOR_S:
            return False
        return not any(
            read_client_id(member.client_id)[1] == mark.incarnation or word(member.member_id) == mark.member_id
            for member in self._cluster.members(self._app)
        )

    def _fence(self, mark: Mark, partition: Partition) -> None:
        for transactional_id in mark.transactional_ids:
            producer = self._clients.producer(transactional_id, {}, self._trouble.error)
            try:
                # Connected first: the search for the coordinator waits half a second when it meets no connection.
                producer.list_topics(partition.topic, self._timeout_s)
                producer.init_transactions(self._timeout_s)
            except KafkaException as error:
                doing = f"fencing transactional id {transactional_id!r} of a dead worker"
                refused = log_error(cause(error), self._clients.servers, doing, resource="transactional id", operation="Write")
                raise refused from None
        self._fenced_at[mark.incarnation] = time.monotonic()
