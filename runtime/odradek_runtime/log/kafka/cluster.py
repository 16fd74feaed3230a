"""The cluster's own affairs: topics, offsets, groups. Calls block, are safe from any thread and create nothing unasked.

Stands beside the flow of records: start-up checks, restores, purges and the search for peers come here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)

from odradek_runtime.log.kafka.clients import Clients
from odradek_runtime.log.kafka.confluent import AclOperation, AdminApi, ConfigResource, NewTopic, ResourceType, Where, offset_spec
from odradek_runtime.log.kafka.errors import cause, kind_of, log_error
from odradek_runtime.log.kafka.groups import GroupMember, GroupReader
from odradek_runtime.log.kafka.offsets import CommittedOffset, OffsetReader
from odradek_runtime.log.port import LogError, Partition, TopicInfo

T = TypeVar("T")
logger = logging.getLogger("odradek.kafka")

INTERNAL_TOPICS = frozenset({"__consumer_offsets", "__transaction_state", "__share_group_state", "__remote_log_metadata"})
_ABSENT = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._NOENT, KafkaError.GROUP_ID_NOT_FOUND}
)
_LEADERS_MOVED = frozenset({KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH})
_TRANSIENT = frozenset(
    {
        *_LEADERS_MOVED,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError._WAIT_COORD,
        KafkaError.OFFSET_NOT_AVAILABLE,
    }
)

NEW_S = 10.0
"""A topic is made by the controller; for so long a broker may not have heard of it."""
ATTEMPT_S = 3.0
"""Of a request whose addressee may just have died: then it is sent anew, to whoever has taken its place."""


class Cluster:
    """Admin requests to one cluster.

    Args:
        clients: makes the connection.
        replication_factor: of topics created here; 0 = the broker's default, at most the number of brokers.
        timeout_s: of each request.
    """

    def __init__(self, clients: Clients, replication_factor: int, timeout_s: float) -> None:
        self._clients = clients
        self._servers = clients.servers
        self._replication_factor = replication_factor
        self._timeout_s = timeout_s
        self._attempt_s = min(timeout_s, ATTEMPT_S)
        self._last_error: KafkaError | None = None
        self._unseen: set[str] = set()
        self._new_s: dict[str, float] = {}
        """When topics that this worker needs were made, or found where they were to be made."""
        self._renewing = threading.Lock()
        self._admin = clients.admin(self._failed)
        # Other threads' requests may be on them, so each stays until it has been followed by as many that were given up too.
        self._retired: deque[AdminApi] = deque(maxlen=4)
        self._offsets = OffsetReader(clients, self._failed)
        self._groups = GroupReader(clients, self._failed)

    def check(self) -> None:
        """Raise LogError, saying why, unless the cluster answers."""
        self.topics()

    def ping(self, timeout_s: float) -> None:
        """Raise LogError unless some broker answers in time. It is asked about one topic alone: all of them may be thousands."""
        used = self._admin
        try:
            used.list_topics("__consumer_offsets", timeout=timeout_s)
        except KafkaException as error:
            used.poll(0)
            raise log_error(self._better(cause(error)), self._servers, "asking whether it answers") from None

    def topics(self) -> list[str]:
        """The names of all topics but Kafka's own."""

        def names() -> list[str]:
            return sorted(set(self._admin.list_topics(timeout=self._timeout_s).topics) - INTERNAL_TOPICS)

        return self._call("listing topics", names)

    def topic(self, name: str) -> TopicInfo | None:
        """What the topic is, or None."""
        try:
            described = self._call(f"describing topic {name!r}", lambda: self._describe(name), of=(name, "Describe"))
        except TopicAbsentError:
            return None
        return described

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str]) -> TopicInfo:
        """Create it if absent, and return what exists, once every partition has a leader."""
        existing = self.topic(name)
        if existing is None:
            self._call(f"creating topic {name!r}", lambda: self._create(name, partitions, config), of=(name, "Create"))
        deadline = time.monotonic() + self._timeout_s
        while (existing := self.topic(name)) is None:
            if time.monotonic() > deadline:
                raise LogError(f"topic {name!r} was created but does not appear: look at the log of Kafka's controller")
            time.sleep(0.02)
        self._new_s[name] = time.monotonic()
        return existing

    def delete_topic(self, name: str) -> None:
        """Delete it, and return when it has gone."""
        self._new_s.pop(name, None)
        deadline = time.monotonic() + self._timeout_s
        try:
            request_s = self._timeout_s
            gone = lambda: only(self._admin.delete_topics([name], request_timeout=request_s))  # noqa: E731
            self._call(f"deleting topic {name!r}", gone, of=(name, "Delete"))
            while self.topic(name) is not None:
                if time.monotonic() > deadline:
                    raise LogError(f"topic {name!r} was deleted but is still there: look at the log of Kafka's controller")
                time.sleep(0.02)
        except TopicAbsentError:
            return

    def delete_group(self, group: str) -> None:
        """Delete it with its offsets; one that is not there is no error."""
        try:
            self._call(f"deleting group {group!r}", lambda: self._groups.delete(group, self._timeout_s), of=("group", "Delete"))
        except TopicAbsentError:
            return

    def offset(self, partition: Partition, where: Where) -> int:
        """The offset at this place, uncommitted records included; -1 where there is none."""
        wanted = TopicPartition(partition.topic, partition.partition)

        def listed() -> int:
            futures = self._admin.list_offsets(
                {wanted: offset_spec(where)},
                isolation_level=IsolationLevel.READ_UNCOMMITTED,
                request_timeout=self._attempt_s,
            )
            offset: int = only(futures).offset
            # A request that got lost on its way gives -1001 and no error; -1 is an answer to a time alone.
            if offset < (-1 if isinstance(where, int) else 0):
                raise KafkaException(KafkaError(KafkaError._TRANSPORT))
            return offset

        doing = f"reading the offsets of {partition.topic!r}[{partition.partition}]"
        return self._call_partition(doing, partition, listed, "Describe")

    def trim(self, partition: Partition, before: int) -> None:
        """Delete the records below the offset."""
        bound = TopicPartition(partition.topic, partition.partition, before)
        self._call_partition(
            f"deleting records of {partition.topic!r}[{partition.partition}] below {before}",
            partition,
            lambda: only(self._admin.delete_records([bound], request_timeout=self._attempt_s)),
            "Delete",
        )

    def members(self, group: str) -> list[GroupMember]:
        """The group's live members; none if there is no such group."""
        try:
            asked = self._attempt_s
            return self._call(f"describing group {group!r}", lambda: self._groups.members(group, asked), of=("group", "Describe"))
        except TopicAbsentError:
            return []

    def committed(
        self, group: str, partitions: Sequence[Partition] | None, *, stable: bool, timeout_s: float | None = None
    ) -> dict[Partition, CommittedOffset]:
        """Committed offsets of these partitions (None: of every topic's first); stable ones wait for pending transactions."""
        wanted = [Partition(name, 0) for name in self.topics()] if partitions is None else partitions
        request_s = timeout_s or self._timeout_s

        def read() -> dict[Partition, CommittedOffset]:
            return self._offsets.read(group, wanted, stable=stable, timeout_s=request_s)

        try:
            return self._call(f"reading the committed offsets of group {group!r}", read, timeout_s, of=("group", "Describe"))
        except TopicAbsentError:
            return {}

    def close(self) -> None:
        """Free what is held."""
        self._offsets.close()
        self._groups.close()

    def _describe(self, name: str) -> TopicInfo:
        # First ask any broker: these two go to the controller, and the client would go on looking for one that has died,
        # thousands of times a second, for as long as its own metadata is young enough.
        self._admin.list_topics(name, timeout=self._attempt_s)
        described = self._admin.describe_topics(
            TopicCollection([name]), include_authorized_operations=True, request_timeout=self._attempt_s
        )[name].result()
        if any(partition.leader is None for partition in described.partitions):
            raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
        allowed = described.authorized_operations
        writable = not allowed or AclOperation.WRITE in allowed
        replicas = max((len(partition.replicas) for partition in described.partitions), default=1)
        return TopicInfo(name, str(described.topic_id), len(described.partitions), self._config(name), writable, replicas)

    def _config(self, name: str) -> dict[str, str]:
        """A topic's configuration; where we may not see it, it is taken for Kafka's own, which is said once."""
        resource = ConfigResource(ResourceType.TOPIC, name)
        try:
            entries = only(self._admin.describe_configs([resource], request_timeout=self._attempt_s))
        except KafkaException as error:
            if cause(error).code() != KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise
            if name not in self._unseen:
                self._unseen.add(name)
                logger.warning(
                    "Kafka refuses DescribeConfigs on topic %s: it is taken to be configured as Kafka does by default, and a "
                    "record that is too large for it is found out only when it is refused; add an ACL for DescribeConfigs on it",
                    name,
                )
            return {}
        return {key: str(entry.value) for key, entry in entries.items() if entry.value is not None}

    def _create(self, name: str, partitions: int, config: Mapping[str, str]) -> None:
        try:
            self._request_topic(name, partitions, self._replication_factor or -1, config)
        except KafkaException as error:
            if cause(error).code() != KafkaError.INVALID_REPLICATION_FACTOR or self._replication_factor:
                raise
            brokers = len(self._admin.describe_cluster(request_timeout=self._timeout_s).result().nodes)
            self._request_topic(name, partitions, brokers, config)

    def _request_topic(self, name: str, partitions: int, replication: int, config: Mapping[str, str]) -> None:
        topic = NewTopic(name, partitions, replication, config=dict(config))
        try:
            only(self._admin.create_topics([topic], request_timeout=self._timeout_s))
        except KafkaException as error:
            if cause(error).code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another worker was faster: as good
                raise

    def _call_partition(self, doing: str, partition: Partition, request: Callable[[], T], operation: str) -> T:
        """A request to the partition's leader. "No leader" is said of absent partitions, and of lost connections too."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                return self._call(doing, request, of=(partition.topic, operation))
            except TopicAbsentError:
                info = self.topic(partition.topic)
            if info is None and time.monotonic() - self._new_s.get(partition.topic, -NEW_S) < NEW_S:
                time.sleep(0.05)
                continue
            if info is None or not 0 <= partition.partition < info.partitions:
                raise LogError(f"{doing}: there is no such partition", retriable=False)
            if time.monotonic() >= deadline:
                raise LogError(f"{doing}: the partition has no leader; check that its brokers run")
            time.sleep(0.05)

    def _call(
        self, doing: str, request: Callable[[], T], timeout_s: float | None = None, *, of: tuple[str, str] = ("", "")
    ) -> T:
        """Run it until it succeeds, fails for good, or the time is over; transient answers are asked again.

        `of`: the resource and the operation, as an ACL would name them.
        """
        deadline = time.monotonic() + (timeout_s or self._timeout_s)
        while True:
            used = self._admin
            try:
                return request()
            except KafkaException as error:
                reason = cause(error)
            except (TypeError, ValueError) as error:  # the client library's own checks of names and numbers
                raise LogError(f"{doing}: {error}", retriable=False) from None
            used.poll(0)  # serves error callbacks and log lines, which explain the bare "timed out" we have
            if reason.code() in _ABSENT:
                raise TopicAbsentError(doing)
            reason = self._better(reason)
            unanswered = kind_of(reason) == "unreachable"
            if not (unanswered or reason.code() in _TRANSIENT) or time.monotonic() >= deadline:
                raise log_error(reason, self._servers, doing, resource=of[0], operation=of[1])
            if unanswered:
                self._renew(used)
            elif reason.code() in _LEADERS_MOVED:
                self._look_for_leaders()
            time.sleep(0.02)

    def _renew(self, used: AdminApi) -> None:
        """A new client. One that has lost a controller or a coordinator can look for it for minutes, with all brokers back."""
        with self._renewing:
            if self._admin is used:
                self._retired.append(used)
                self._admin = self._clients.admin(self._failed)

    def _look_for_leaders(self) -> None:
        """Renew the client's own idea of who leads what: after a restart it would keep the old one for minutes."""
        try:
            self._admin.list_topics(timeout=self._attempt_s)
        except KafkaException:
            pass  # the request itself is about to fail for the same reason, and says more

    def _better(self, reason: KafkaError) -> KafkaError:
        """A refused password shows as a time-out here; the connection's own error says more."""
        last, self._last_error = self._last_error, None
        if last is not None and kind_of(reason) == "unreachable":
            return last
        return reason

    def _failed(self, error: KafkaError) -> None:
        if self._last_error is None or error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._last_error = error


class TopicAbsentError(Exception):
    """What was asked about does not exist."""


def only(futures: Mapping[Any, Future[Any]]) -> Any:
    """The result of a request that was about one thing."""
    (future,) = futures.values()
    return future.result()
