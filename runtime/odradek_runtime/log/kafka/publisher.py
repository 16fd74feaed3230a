"""A publisher: records from outside an app (a file, a test's feed), exactly once across interruptions.

Stands before an app's input topics. Its position travels in each transaction, as the committed offset of a group of its
own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from confluent_kafka import KafkaException

from odradek_runtime.log.kafka.clients import Clients
from odradek_runtime.log.kafka.cluster import Cluster
from odradek_runtime.log.kafka.contents import Contents, Position
from odradek_runtime.log.kafka.errors import cause, log_error
from odradek_runtime.log.kafka.patience import GRACE_S, within
from odradek_runtime.log.kafka.producer import BATCH_BYTES, TransactionalProducer, TransactionFailedError
from odradek_runtime.log.kafka.targets import Targets
from odradek_runtime.log.kafka.trouble import TroubleReporter
from odradek_runtime.log.port import LogError, Output


class KafkaPublisher:
    """One name = one transactional id: a second publisher under the same name fences the first.

    The first one's own producers may do that, too: a request to initialise that was given up, or sent again over another
    connection, is obeyed by the coordinator whenever it arrives. So a publisher that has had such requests goes on after as
    many fences, unless the position shows that somebody else has published under its name.

    The position is kept for as long as Kafka keeps the offsets of an idle group (`offsets.retention.minutes`, 7 days).
    """

    def __init__(self, clients: Clients, cluster: Cluster, trouble: TroubleReporter, name: str, timeout_s: float) -> None:
        self._clients = clients
        self._cluster = cluster
        self._targets = Targets(cluster)
        self._trouble = trouble
        self._timeout_s = timeout_s
        self._name = name
        self._group = f"odradek-publish.{name}"
        # Never subscribed: its metadata names the group and no generation, which is right for a group without members.
        self._consumer = clients.consumer(self._group, {}, trouble.error)
        self._producer: TransactionalProducer | None = None
        self._topic: str | None = None
        self._position = 0
        self._ours: set[int] = set()
        """The positions that are stored if nobody else publishes under this name; empty before the first look."""
        self._strays = 0
        """Requests of ours that fence us if they still arrive."""
        try:
            self._open()
        except LogError:
            self._consumer.close()
            raise

    def position(self) -> int:
        """How many source items are durably published.

        Raises:
            LogError: it is not known yet what became of the last publish, and Kafka cannot be asked.
        """
        if self._producer is None:
            self._open(self._topic)
        return self._position

    def publish(self, outputs: Sequence[Output], position: int) -> None:
        """Write these records and the new position, atomically and durably.

        Raises:
            LogError: it did not happen, or may not have: ask `position()` and go on from there. Not retriable when a
                record was refused or another publisher has taken the name over.
            ValueError: no record was ever published under this name, and there is none now to say where to.
        """
        obstacle = self._targets.obstacle({(output.topic, output.partition) for output in outputs})
        if obstacle is not None:
            raise LogError(f"publisher {self._name!r}: {obstacle.message}", retriable=False, refusal=obstacle.refusal)
        topic = outputs[0].topic if outputs else self._topic
        if topic is None:
            raise ValueError("the first publish under a name must hold a record")
        producer = self._producer
        if producer is None or producer.doubtful or producer.batch_bytes > self._targets.smallest_batch_bytes:
            believed = self._position
            producer = self._open(topic)
            if self._position != believed:
                raise LogError(f"publisher {self._name!r}: the last publish did succeed: ask position() and go on from there")
        self._ours.add(position)
        began = time.monotonic()
        try:
            self._write(producer, outputs, (topic, 0, position, ""))
        except TransactionFailedError as failure:
            self._failed(producer, failure, time.monotonic() - began)
        self._topic, self._position, self._ours = topic, position, {position}

    def close(self) -> None:
        """Free the clients."""
        self._drop()
        self._consumer.close()

    def _write(self, producer: TransactionalProducer, outputs: Sequence[Output], position: Position) -> None:
        contents = Contents(outputs, [], [position], self._consumer.consumer_group_metadata())
        limit_s = self._timeout_s + GRACE_S
        late = f"Kafka gave no answer within {limit_s:g} s"

        def fill() -> None:
            if not producer.fill(contents):
                raise TransactionFailedError("aborted", "the connection to the coordinator has dropped", spent=True)

        try:
            within(limit_s, fill)
        except TimeoutError:
            raise TransactionFailedError("aborted", late, spent=True) from None
        try:
            within(limit_s, producer.commit)
        except TimeoutError:
            raise TransactionFailedError("unknown", f"commit: {late}", spent=True) from None

    def _failed(self, producer: TransactionalProducer, failure: TransactionFailedError, took_s: float) -> None:
        # The broker fences a transaction that has lasted too long as well, for example through its own restart.
        if failure.reason in ("fenced", "outdated") and took_s < self._timeout_s:
            if not self._strays:
                raise self._taken_over()
            self._strays -= 1
        if failure.spent or not producer.abort():
            self._open(self._topic)
        raise LogError(f"publisher {self._name!r}: {failure}", retriable=not failure.poison, refusal=failure.refusal) from None

    def _open(self, topic: str | None = None) -> TransactionalProducer:
        """A new producer, which settles the last transaction of the old one; then the position is certain."""
        self._drop()
        producer = self._producer = self._initialised(topic)
        try:
            kept = self._cluster.committed(self._group, None, stable=True, timeout_s=self._timeout_s)
            if kept:
                position, self._topic = max((found.offset, partition.topic) for partition, found in kept.items())
                if self._ours and position not in self._ours:
                    raise self._taken_over()
                self._position = position
            self._ours = {self._position}
        except LogError:
            self._drop()
            raise
        return producer

    def _initialised(self, topic: str | None) -> TransactionalProducer:
        batch_bytes = min(BATCH_BYTES, self._targets.smallest_batch_bytes)
        producer = TransactionalProducer(self._clients, self._trouble, self._group, self._timeout_s, batch_bytes)
        try:
            producer.initialise(topic, self._timeout_s)
        except (KafkaException, LogError) as error:
            self._strays += 1 + producer.sent_again
            producer.discard()  # else it goes on by itself, and fences the next one when it gets through
            if isinstance(error, LogError):
                raise
            raise log_error(cause(error), self._clients.servers, f"opening publisher {self._name!r}") from None
        self._strays += producer.sent_again
        return producer

    def _drop(self) -> None:
        """The old producer's end, which must not last: a call of it that is stuck keeps it until it returns."""
        old, self._producer = self._producer, None
        if old is not None:
            old.discard()

    def _taken_over(self) -> LogError:
        return LogError(f"publisher {self._name!r}: another one has taken this name over", retriable=False)
