"""The log on Kafka: the cluster side of the port, and the door to everything else in this package.

First and last station of every record in production; the embedded log is its twin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from odradek_runtime.log.kafka.clients import Clients
from odradek_runtime.log.kafka.cluster import Cluster
from odradek_runtime.log.kafka.fetcher import FETCHED_BYTES
from odradek_runtime.log.kafka.member import KafkaMember
from odradek_runtime.log.kafka.membership import MembershipOptions
from odradek_runtime.log.kafka.owner import read_client_id
from odradek_runtime.log.kafka.publisher import KafkaPublisher
from odradek_runtime.log.kafka.scanner import SPARING, Scanner
from odradek_runtime.log.kafka.secret import SharedSecret
from odradek_runtime.log.kafka.times import Times
from odradek_runtime.log.kafka.trouble import TroubleReporter
from odradek_runtime.log.port import LogError, Message, Partition, Peer, TopicInfo


class KafkaLog:
    """A Kafka cluster as a log. Blocking, safe from any thread.

    Args:
        bootstrap_servers: `host:port,…`.
        options: librdkafka options passed through to every client (`sasl.username`, `ssl.ca.location` …).
        session_timeout_s: after so long without a heartbeat a member's shards move (classic protocol).
        transaction_timeout_s: after so long the broker ends an open transaction, and a commit counts as unknown.
        group_protocol: `classic` (cooperative-sticky) or `consumer` (KIP-848).
        group_instance_id: static membership; empty = dynamic. A static member of the classic protocol does not leave when
            it stops (its shards wait for the session to run out), and needs the same private URL after each restart: the
            group goes on showing the first one.
        replication_factor: of topics created here; 0 = the broker's default, at most the number of brokers.
        release_timeout_s: how long a rebalance waits for the engine to let go of a shard.
        request_timeout_s: of each request outside the hot path.
        producer_processes: a member's two producers run in processes of their own (19 MB each), so that handing records to
            librdkafka does not hold the interpreter's lock that the engine needs.
        fetched_bytes: a member may have fetched about so much that has not been taken yet.
        scan_stall_s: a scan that has not moved for so long gives up.

    Raises:
        LogError: the cluster cannot be reached, or an option is refused; says which and what to check.

    Example:
        log = KafkaLog("localhost:9092", options={"security.protocol": "SASL_SSL"})
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        options: Mapping[str, str] | None = None,
        session_timeout_s: float = 6.0,
        transaction_timeout_s: float = 10.0,
        group_protocol: Literal["classic", "consumer"] | str = "classic",
        group_instance_id: str = "",
        replication_factor: int = 0,
        producer_processes: bool = True,
        fetched_bytes: int = FETCHED_BYTES,
        release_timeout_s: float = 5.0,
        request_timeout_s: float = 10.0,
        scan_stall_s: float = 30.0,
    ) -> None:
        if group_protocol not in ("classic", "consumer"):
            raise LogError(f"group protocol {group_protocol!r} is neither 'classic' nor 'consumer'", retriable=False)
        self._clients = Clients(bootstrap_servers, options or {})
        self._trouble = TroubleReporter(bootstrap_servers)
        self._cluster = Cluster(self._clients, replication_factor, request_timeout_s)
        self._scanner = Scanner(self._clients, self._trouble, scan_stall_s)
        self._sparing = Scanner(self._clients, self._trouble, scan_stall_s, SPARING)
        self._times = Times(self._clients, self._trouble)
        self._transaction_timeout_s = transaction_timeout_s
        self._producer_processes = producer_processes
        self._fetched_bytes = fetched_bytes
        self._membership_options = MembershipOptions(
            group_protocol, session_timeout_s, group_instance_id, release_timeout_s, transaction_timeout_s
        )
        self._cluster.check()

    def topic(self, name: str) -> TopicInfo | None:
        """What the topic is, or None. Never creates it."""
        return self._cluster.topic(name)

    def ping(self, timeout_s: float) -> None:
        """Raise LogError unless the cluster answers within this time."""
        self._cluster.ping(timeout_s)

    def topics(self) -> Sequence[str]:
        """The names of all topics, sorted, without Kafka's own."""
        return self._cluster.topics()

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str]) -> TopicInfo:
        """Create it if absent, and return what exists."""
        return self._cluster.create_topic(name, partitions, config)

    def delete_topic(self, name: str) -> None:
        """Blocks until it is gone."""
        self._cluster.delete_topic(name)

    def committed_offsets(self, app: str, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The offsets that the app's group has committed, as far as no transaction is about to replace them."""
        found = self._cluster.committed(app, partitions, stable=True)
        return {partition: committed.offset for partition, committed in found.items()}

    def forget_group(self, app: str) -> None:
        """Delete the app's group with all its offsets. Raises LogError while it has members."""
        self._cluster.delete_group(app)

    def offsets(self, partition: Partition) -> tuple[int, int]:
        """(first offset, end offset), uncommitted records included in the end."""
        first = self._cluster.offset(partition, "first")
        return first, self._cluster.offset(partition, "end")

    def offset_at(self, partition: Partition, timestamp_ms: int) -> int:
        """First offset whose record is at or after this Unix time; the end offset when there is none."""
        offset = self._cluster.offset(partition, timestamp_ms)
        return offset if offset >= 0 else self._cluster.offset(partition, "end")

    def times_at(self, positions: Mapping[Partition, int]) -> Mapping[Partition, int]:
        """Of the first committed record at or behind each offset its Unix milliseconds, where it can be read now."""
        return self._times.at(positions)

    def scan(self, partition: Partition, start: int, stop: int, *, sparing: bool = False) -> Iterator[Sequence[Message]]:
        """Committed records with start <= offset < stop, in batches, ending when the position has reached `stop`."""
        return (self._sparing if sparing else self._scanner).scan(partition, start, stop)

    def trim(self, partition: Partition, before: int) -> None:
        """Delete the records below this offset."""
        self._cluster.trim(partition, before)

    def peers(self, app: str) -> Sequence[Peer]:
        """The app's live members with the shards they own now."""
        commands = f"{app}.commands"
        return [
            Peer(
                read_client_id(member.client_id)[0],
                tuple(sorted(p.partition for p in member.partitions if p.topic == commands)),
            )
            for member in self._cluster.members(app)
        ]

    def member(self, app: str, shards: int, url: str | None) -> KafkaMember:
        """A member of the app's group, not yet joined."""
        return KafkaMember(
            self._clients,
            self._cluster,
            app,
            url,
            self._membership_options,
            self._transaction_timeout_s,
            self._producer_processes,
            self._fetched_bytes,
        )

    def publisher(self, name: str) -> KafkaPublisher:
        """Writes records from outside an app, exactly once across interruptions."""
        return KafkaPublisher(self._clients, self._cluster, self._trouble, name, self._transaction_timeout_s)

    def shared_secret(self, app: str) -> bytes:
        """What the app's workers alone know; made by the first of them."""
        return SharedSecret(app, self._clients, self._cluster, self._scanner, self._trouble).get()

    def close(self) -> None:
        """Free what is held; members and publishers are closed by their own means."""
        self._scanner.close()
        self._sparing.close()
        self._times.close()
        self._cluster.close()
