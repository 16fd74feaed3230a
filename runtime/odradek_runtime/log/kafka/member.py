"""One worker's place in the group: the membership, the fetcher and the committer under one roof.

Stands between the engine and the cluster; everything it hears it posts to the engine's sink.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from odradek_runtime.log.kafka.clients import Clients
from odradek_runtime.log.kafka.cluster import Cluster
from odradek_runtime.log.kafka.committer import Committer, Orders
from odradek_runtime.log.kafka.fetcher import Fetcher
from odradek_runtime.log.kafka.membership import Membership, MembershipOptions
from odradek_runtime.log.kafka.owner import Owner
from odradek_runtime.log.kafka.producer import TransactionalProducer
from odradek_runtime.log.kafka.remote_producer import RemoteProducer
from odradek_runtime.log.kafka.takeover import Takeover
from odradek_runtime.log.kafka.targets import Targets
from odradek_runtime.log.kafka.trouble import TroubleReporter
from odradek_runtime.log.kafka.writer import EpochWriter, Producer
from odradek_runtime.log.port import LogError, Partition, Refused, Sink, Transaction
from odradek_runtime.log.stamps import Stamps

T = TypeVar("T")
LEAVE_S = 10.0


class KafkaMember:
    """A member of an app's group; joins once."""

    def __init__(
        self,
        clients: Clients,
        cluster: Cluster,
        app: str,
        url: str | None,
        options: MembershipOptions,
        transaction_timeout_s: float,
        producer_processes: bool,
        fetched_bytes: int,
    ) -> None:
        self.owner = Owner.new(app)
        self._fetched_bytes = fetched_bytes
        self._producer_processes = producer_processes
        self._clients = clients
        self._cluster = cluster
        self._options = options
        self._url = url
        self._transaction_timeout_s = transaction_timeout_s
        self._trouble = TroubleReporter(clients.servers)
        self._stamps = Stamps()
        self._takeover = Takeover(clients, cluster, self._trouble, app, self.owner.incarnation, transaction_timeout_s + 5.0)
        self._membership: Membership | None = None
        self._fetcher: Fetcher | None = None
        self._committer: Committer | None = None

    def join(self, sink: Sink) -> None:
        """Join the group and begin to post events."""
        if self._membership is not None:
            raise LogError("this member has joined already: make another one", retriable=False)
        app = self.owner.app
        self._trouble.sink = sink
        self._fetcher = Fetcher(self._clients, self._cluster, self._trouble, app, sink, self._fetched_bytes)
        membership = self._membership = Membership(
            self._clients,
            self._trouble,
            self._stamps,
            app,
            self.owner.client_id(self._url),
            self._options,
            sink,
            self._sending,
        )

        def write(orders: Orders, ended: Sink, first: Refused | None) -> EpochWriter:
            return EpochWriter(
                self._make_producer,
                self.owner,
                membership,
                self._stamps,
                Targets(self._cluster),
                self._trouble,
                ended,
                orders,
                self._transaction_timeout_s,
                first,
            )

        self._committer = Committer(app, write, sink)

    def read(self, positions: Mapping[Partition, int], generation: int) -> None:
        """Read these partitions from these offsets on."""
        _joined(self._fetcher).read(positions, generation)

    def stop_reading(self, partitions: Sequence[Partition]) -> None:
        """Read them no more."""
        _joined(self._fetcher).stop_reading(partitions)

    def pause(self, partitions: Sequence[Partition]) -> None:
        """Keep their positions, deliver nothing."""
        _joined(self._fetcher).pause(partitions)

    def resume(self, partitions: Sequence[Partition]) -> None:
        """Go on from their positions."""
        _joined(self._fetcher).resume(partitions)

    def commit(self, transaction: Transaction) -> None:
        """Send one transaction."""
        _joined(self._committer).commit(transaction)

    def settle(self, shard: int) -> int | None:
        """End what dead owners left open, then give the stable committed offset of the shard's commands."""
        return self._takeover.settle(shard)

    def leave(self) -> None:
        """Leave the group at once, and free what is held."""
        if self._fetcher is not None:
            self._fetcher.close(LEAVE_S)
        if self._committer is not None:
            self._committer.close(self._transaction_timeout_s)
        if self._membership is not None and not self._membership.leave(LEAVE_S):
            message = f"Kafka did not confirm the leave within {LEAVE_S:g} s; the session runs out by itself"
            self._trouble.tell("leave", message)
        self._trouble.sink = None

    def _sending(self, shards: Sequence[int]) -> bool:
        return self._committer is not None and self._committer.busy(shards)

    def _make_producer(self, transactional_id: str, batch_bytes: int) -> Producer:
        make = RemoteProducer if self._producer_processes else TransactionalProducer
        return make(self._clients, self._trouble, transactional_id, self._transaction_timeout_s, batch_bytes)


def _joined(part: T | None) -> T:
    if part is None:
        raise LogError("this member has not joined: call join first", retriable=False)
    return part
