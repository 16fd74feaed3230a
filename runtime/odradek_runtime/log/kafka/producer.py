"""One transactional producer: opens, fills and ends one transaction at a time, and says how each attempt ended.

Stands between the committer, which decides when, and the cluster. It is replaced, never repaired: after a doubt the
committer makes a new one with the same transactional id, whose `init_transactions` settles what the old one left.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from odradek_runtime.log.kafka.clients import Clients, Options
from odradek_runtime.log.kafka.confluent import Delivered, GroupMetadata, ProducerClient
from odradek_runtime.log.kafka.connection import CoordinatorWatch
from odradek_runtime.log.kafka.contents import Contents, Reason
from odradek_runtime.log.kafka.error_table import judgement
from odradek_runtime.log.kafka.errors import GROUP_FENCED, PRODUCER_FENCED, cause, refusal_of
from odradek_runtime.log.kafka.trouble import TroubleReporter
from odradek_runtime.log.port import Headers, LogError, Message, Outgoing, Partition, Refusal

BATCH_BYTES = 1_000_000
FLUSH_S = 0.1
"""How often it is looked whether a record has been refused while others are on their way."""

PRODUCER_OPTIONS: Options = {
    "debug": "broker",  # CoordinatorWatch lives on it: three lines a transaction
    "compression.type": "lz4",  # as much processor time as none, a third of the bytes; zstd: a fifth, and 8 % more time
    "linger.ms": 20,  # a commit flushes at once: this only makes the batches of a large epoch larger, a tenth less processor time
    "queue.buffering.max.messages": 1_000_000,
    "queue.buffering.max.kbytes": 524_288,
    "sticky.partitioning.linger.ms": 0,
}


class TransactionFailedError(Exception):
    """A transaction did not commit, or may not have. `spent`: this producer must be replaced before anything else."""

    def __init__(
        self, reason: Reason, message: str, *, poison: bool = False, spent: bool = False, refusal: Refusal | None = None
    ) -> None:
        super().__init__(message)
        self.refusal = refusal
        self.reason: Reason = reason
        self.poison = poison
        self.spent = spent


class TransactionalProducer:
    """A producer under one transactional id. Used by one thread.

    Args:
        transaction_timeout_s: after which the broker aborts a transaction by itself.
        batch_bytes: of one request per partition; no more than the smallest topic takes.
    """

    def __init__(
        self,
        clients: Clients,
        trouble: TroubleReporter,
        transactional_id: str,
        transaction_timeout_s: float,
        batch_bytes: int,
    ) -> None:
        self.transactional_id = transactional_id
        self.batch_bytes = batch_bytes
        self.sent_again = 0
        """How often a request to initialise may have been sent again, so that the one before it may still arrive."""
        self._timeout_s = transaction_timeout_s
        self._watch = CoordinatorWatch()
        self._ends: dict[Partition, int] = {}
        self._offsets: list[TopicPartition] = []
        self._metadata: GroupMetadata = b""
        options: dict[str, str | int | float | bool] = {
            **PRODUCER_OPTIONS,
            "transaction.timeout.ms": int(transaction_timeout_s * 1000),
            "batch.size": batch_bytes,
        }
        self._client: ProducerClient = clients.producer(transactional_id, options, trouble.error, self._watch)

    @property
    def doubtful(self) -> bool:
        """Whether the coordinator's connection has dropped since this producer was made: begin nothing more on it."""
        return not self._poll() or self._watch.lost > 0

    def initialise(self, topic: str | None, timeout_s: float) -> None:
        """Fence and settle whatever was open under this id.

        Args:
            topic: any that exists: a connection made first spares half a second of searching for the coordinator.

        Raises:
            KafkaException: it could not be done; the producer is to be discarded, or it goes on trying by itself.
        """
        if topic is not None:
            self._client.list_topics(topic, timeout_s)
        try:
            self._client.init_transactions(timeout_s)
        finally:
            self._poll()
            self.sent_again = self._watch.lost
        if self._watch.connected == 0:
            raise LogError(
                "this version of librdkafka does not tell of the coordinator's connections, without which exactly-once "
                "cannot be kept: install the confluent-kafka version that odradek was released with",
                retriable=False,
            )
        self._watch.lost = 0

    def fill(self, contents: Contents) -> bool:
        """Begin a transaction and give it all that it carries: records, changelogs, and the group's offsets, which fence it.

        False: this producer is in doubt, and nothing was begun.
        """
        if self.doubtful:
            return False
        self._ends = {}
        self._watch.failed = ""
        self._offsets = [TopicPartition(*position) for position in contents.offsets]
        self._metadata = contents.metadata
        try:
            self._client.begin_transaction()
        except KafkaException as error:
            raise self._judge(error, committing=False) from None
        self._write_outputs(contents.outputs)
        for topic, shard, records, headers in contents.changelogs:
            self._write_changelog(topic, shard, records, headers)
        self._write_offsets()
        return True

    def commit(self) -> Mapping[Partition, int]:
        """End the transaction; returning means that it is committed. Gives where the changelogs end, as far as it was reported."""
        deadline = time.monotonic() + self._timeout_s
        self._deliver(deadline)
        try:
            self._client.commit_transaction(max(deadline - time.monotonic(), FLUSH_S))
        except KafkaException as error:
            raise self._judge(error, committing=True) from None
        return self._ends

    def abort(self) -> bool:
        """End the transaction without effect; False if that is not certain, and the producer must be replaced."""
        try:
            self._client.abort_transaction(self._timeout_s)
        except KafkaException:
            return False
        return not self.doubtful

    def abandon(self) -> None:
        """A call that does not return cannot be ended from here; what it holds is not used again."""

    def discard(self) -> None:
        """Drop what is queued, and the client with all that it does by itself: exceptions may keep this object for long."""
        with suppress(KafkaException):  # it is being thrown away whatever its state
            self._client.purge()
            self._client.poll(0)  # delivery reports hold references to this object
        del self._client

    def _poll(self) -> bool:
        """Take what the client has to tell, log lines too; False if it has failed for good."""
        try:
            self._client.poll(0)
        except KafkaException:
            return False
        return True

    def _deliver(self, deadline: float) -> None:
        """Wait until every record is with the brokers, or one is refused: `commit_transaction` names that one's error then.

        Asked to commit while records are on their way, it would wait for those behind the refused one, which the client does not
        send any more, until its time is over; and a commit that has timed out says nothing of a record.
        """
        left = 1
        while left and not self._watch.failed:
            try:
                left = self._client.flush(FLUSH_S)
            except KafkaException as error:  # a fatal one: the producer was fenced, say
                raise self._judge(error, committing=False) from None
            if left and time.monotonic() > deadline:
                why = f"{left} records were not delivered within {self._timeout_s:g} s: the commit was not asked for"
                raise TransactionFailedError("aborted", why, spent=True)

    def _write_outputs(self, outputs: Sequence[Outgoing]) -> None:
        produce = self._client.produce
        topic = ""
        try:
            for topic, partition, key, value, headers, timestamp_ms in outputs:
                number = -1 if partition is None else partition
                listed = None if headers is None else list(headers)
                try:
                    if headers is None and partition is None and timestamp_ms == 0:
                        produce(topic, value, key)  # each argument more costs the client 0.03 µs
                    else:
                        produce(topic, value, key, number, None, None, timestamp_ms, listed)
                except BufferError:
                    self._produce_later(topic, value, key, number, None, timestamp_ms, listed)
        except KafkaException as error:
            raise self._judge(error, committing=False, topic=topic) from None
        except (TypeError, ValueError, OverflowError) as error:
            raise unproducible(topic, error) from error

    def _write_changelog(
        self, topic: str, shard: int, records: Sequence[tuple[bytes, bytes | None]], headers: Headers | None
    ) -> None:
        produce = self._client.produce
        listed = None if headers is None else list(headers)
        last = len(records) - 1
        try:
            for index, (key, value) in enumerate(records):
                reported = self._delivered if index == last else None
                try:
                    produce(topic, value, key, shard, reported, None, 0, listed)
                except BufferError:
                    self._produce_later(topic, value, key, shard, reported, 0, listed)
        except KafkaException as error:
            raise self._judge(error, committing=False, topic=topic) from None
        except (TypeError, ValueError) as error:
            raise unproducible(topic, error) from error

    def _write_offsets(self) -> None:
        try:
            self._client.send_offsets_to_transaction(self._offsets, self._metadata, self._timeout_s)
        except KafkaException as error:
            raise self._judge(error, committing=False) from None

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self._ends[Partition(message.topic(), message.partition())] = message.offset() + 1

    def _produce_later(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        reported: Delivered | None,
        timestamp_ms: int,
        headers: list[tuple[str, bytes | None]] | None,
    ) -> None:
        """The local queue is full: let deliveries go on until there is room again."""
        deadline = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline:
            self._client.poll(0.02)
            try:
                self._client.produce(topic, value, key, partition, reported, None, timestamp_ms, headers)
            except BufferError:
                continue
            return
        raise TransactionFailedError("aborted", f"nothing was delivered within {self._timeout_s:g} s", spent=True)

    def _judge(self, error: KafkaException, *, committing: bool, topic: str = "") -> TransactionFailedError:
        """What an exception says about the transaction. Only a commit that was sent can leave its outcome open."""
        where = f" for {topic!r}" if topic else ""
        reason = cause(error)
        if reason.code() == KafkaError._STATE and not committing:
            reason = self._first_cause(reason)
        code, text = reason.code(), f"{reason.str()} ({reason.name()})"
        if code in GROUP_FENCED and not reason.fatal():
            refused = f"the group refused the offsets: {text}"
            return TransactionFailedError("fenced" if committing else "outdated", refused, spent=self.doubtful)
        # A producer that has failed is never used again: after one refused record the next transaction met a gap in
        # the sequence numbers in one run of three.
        if judgement(code) == "record" and not reason.fatal():
            return TransactionFailedError("aborted", f"a record{where} was refused: {text}", poison=True, spent=True)
        doubtful = self.doubtful
        refusal = refusal_of(reason, "committing an epoch", resource=topic, operation="Write" if topic else "")
        if refusal is not None:
            surely = not committing or (not doubtful and (reason.txn_requires_abort() or reason.fatal()))
            return TransactionFailedError("aborted" if surely else "unknown", refusal.message, spent=True, refusal=refusal)
        if code in PRODUCER_FENCED and not (committing and doubtful):
            return TransactionFailedError("fenced", f"the producer was fenced: {text}", spent=True)
        if committing and (doubtful or not reason.txn_requires_abort()):
            return TransactionFailedError("unknown", f"commit: {text}", spent=True)
        return TransactionFailedError("aborted", text, spent=True)

    def _first_cause(self, state: KafkaError) -> KafkaError:
        """A transaction already in error refuses to produce; asked for anything else it names the error."""
        try:
            self._client.send_offsets_to_transaction(self._offsets, self._metadata, self._timeout_s)
        except KafkaException as error:
            return cause(error)
        return state


def unproducible(topic: str, error: Exception) -> TransactionFailedError:
    """A record that the client library itself does not take."""
    return TransactionFailedError("aborted", f"a record for {topic!r} cannot be produced: {error}", poison=True)
