"""The commit thread: two transactional producers taking turns, one transaction at a time.

Stands between the engine's epochs and the log. The next transaction begins only after the last one's success; a
producer in doubt is replaced before anything is begun on it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from operator import itemgetter
from typing import Literal, Protocol

from confluent_kafka import KafkaException

from odradek_runtime.log.kafka.confluent import GroupMetadata
from odradek_runtime.log.kafka.contents import Changelog, Contents
from odradek_runtime.log.kafka.errors import cause
from odradek_runtime.log.kafka.owner import Owner
from odradek_runtime.log.kafka.patience import GRACE_S
from odradek_runtime.log.kafka.producer import TransactionFailedError
from odradek_runtime.log.kafka.targets import Targets
from odradek_runtime.log.kafka.trouble import TroubleReporter, vital
from odradek_runtime.log.port import (
    ChangelogPosition,
    Committed,
    LogError,
    Outgoing,
    Partition,
    Refusal,
    Refused,
    Sink,
    Transaction,
)
from odradek_runtime.log.stamps import Stamps

IDLE_S = 1.0
GENERATION_LOOK_S = 0.02
"""Between two looks whether the group has come to another generation."""
_TARGET: Callable[[Outgoing], tuple[str, int | None]] = itemgetter(0, 1)
_TOPIC: Callable[[Outgoing], str] = itemgetter(0)
_PARTITION: Callable[[Outgoing], int | None] = itemgetter(1)
Phase = Literal["idle", "sending", "committing"]


class Group(Protocol):
    """What the commit thread asks of the membership."""

    assigned: bool
    member_id: str

    def metadata(self, timeout_s: float) -> GroupMetadata: ...


class Producer(Protocol):
    """What the commit thread asks of a producer, here (`TransactionalProducer`) or in a process of its own (`RemoteProducer`)."""

    batch_bytes: int

    @property
    def doubtful(self) -> bool: ...
    def initialise(self, topic: str | None, timeout_s: float) -> None: ...

    def fill(self, contents: Contents) -> bool:
        """False: it is in doubt, so that nothing was begun."""
        ...

    def commit(self) -> Mapping[Partition, int]: ...
    def abort(self) -> bool: ...

    def abandon(self) -> None:
        """From any thread: end the call that is under way, if that is possible."""
        ...

    def discard(self) -> None:
        """Free what it holds; it is not used again."""
        ...


class AbandonedError(Exception):
    """The watchdog has given this thread's work to another one."""


MakeProducer = Callable[[str, int], Producer]
"""(transactional id, batch bytes) -> a producer not yet initialised."""


class EpochWriter:
    """Writes transactions in a thread of its own until closed or abandoned.

    Args:
        orders: transactions; None ends the thread.
        first: an event to post once both producers are initialised (what became of an abandoned writer's transaction).
    """

    def __init__(
        self,
        make_producer: MakeProducer,
        owner: Owner,
        group: Group,
        stamps: Stamps,
        targets: Targets,
        trouble: TroubleReporter,
        sink: Sink,
        orders: queue.SimpleQueue[Transaction | None],
        timeout_s: float,
        first: Refused | None = None,
    ) -> None:
        self._make_producer = make_producer
        self._owner = owner
        self._group = group
        self._stamps = stamps
        self._targets = targets
        self._trouble = trouble
        self._sink = sink
        self._orders = orders
        self._timeout_s = timeout_s
        self._first = first
        self._commands = f"{owner.app}.commands"
        self._journal = f"{owner.app}.journal"
        self._state = f"{owner.app}.state"
        self._producers: list[Producer | None] = [None] * len(owner.transactional_ids)
        self._turn = 0
        self._lock = threading.Lock()
        self._abandoned = False
        self._closing = False
        self._phase: Phase = "idle"
        self._stuck_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="odradek-commit", daemon=True)
        self._thread.start()

    @property
    def stuck(self) -> bool:
        """Whether a call to the cluster has outlasted its timeout by far."""
        stuck_at = self._stuck_at
        return stuck_at is not None and time.monotonic() > stuck_at

    def give_up(self) -> Phase | None:
        """Never post anything again, send nothing more; says how far the transaction had come. None: it is no longer stuck."""
        with self._lock:
            if not self.stuck:  # its call has returned in this very moment: what came of it is being posted
                return None
            self._abandoned = True
            phase = self._phase
        self._end_calls()
        return phase

    def close(self, timeout_s: float) -> None:
        """End the thread after the transaction in hand; in the middle of it if a call does not return in time."""
        self._closing = True
        self._orders.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            with self._lock:
                self._abandoned = True
            self._end_calls()
            self._thread.join(GRACE_S)

    def _end_calls(self) -> None:
        for producer in list(self._producers):
            if producer is not None:
                producer.abandon()

    def _run(self) -> None:
        try:
            with vital(self._trouble, "commit"), suppress(AbandonedError):
                for turn in range(len(self._producers)):
                    self._replace(turn)
                self._rest()
                if self._first is not None:
                    self._sink(self._first)
                while not self._closing:
                    self._serve()
        finally:
            for producer in self._producers:
                if producer is not None:
                    producer.discard()
            self._producers.clear()

    def _serve(self) -> None:
        try:
            transaction = self._orders.get(timeout=IDLE_S)
        except queue.Empty:
            for turn in range(len(self._producers)):
                self._look_at(turn)
            return
        if transaction is None:
            return
        event = self._write(transaction)
        self._rest()
        self._sink(event)

    def _write(self, transaction: Transaction) -> Committed | Refused:
        """Send it; again if the group has merely moved on to another generation, in which all that it touches is still ours."""
        while True:
            obstacle = self._obstacle(transaction)
            if obstacle is not None:
                return obstacle
            turn, self._turn = self._turn, (self._turn + 1) % len(self._producers)
            producer = self._usable(turn)
            self._rest()
            try:
                metadata = self._group.metadata(self._timeout_s)
            except (TimeoutError, KafkaException) as error:
                return Refused(transaction.epoch, "aborted", f"the membership thread gave no group metadata: {error!r}")
            try:
                ends = self._send(producer, transaction, metadata)
            except TransactionFailedError as failure:
                refused = self._refuse(turn, producer, transaction, failure)
                if failure.reason == "outdated" and self._moves_on(transaction, metadata):
                    continue
                return refused
            if ends is None:
                self._replace(turn)
                continue
            try:
                return Committed(transaction.epoch, self._positions(transaction, ends))
            except KeyError as error:
                self._replace(turn)
                return Refused(transaction.epoch, "unknown", f"committed, but the delivery of {error} was not reported")

    def _moves_on(self, transaction: Transaction, refused: GroupMetadata) -> bool:
        """Wait until the group has another generation than the one that was refused; False if that comes to nothing.

        Whether the shards are still ours in it is for the next attempt to see, which asks as every first one does: the membership
        thread bumps a shard's stamp before anybody else may have it (invariant 1).
        """
        deadline = time.monotonic() + self._timeout_s
        while not self._closing and time.monotonic() < deadline:
            self._stage("sending")
            try:
                if self._stamps.stale(transaction.stamps) or self._group.metadata(self._timeout_s) != refused:
                    return True
            except (TimeoutError, KafkaException):
                return False
            time.sleep(GENERATION_LOOK_S)
        return False

    def _positions(self, transaction: Transaction, ends: Mapping[Partition, int]) -> dict[int, ChangelogPosition]:
        """Where the changelogs of a committed transaction end. Raises KeyError: a last record was never reported delivered."""
        return {
            shard: ChangelogPosition(
                ends[Partition(self._journal, shard)] if transaction.journal.get(shard) else None,
                ends[Partition(self._state, shard)] if transaction.state.get(shard) else None,
            )
            for shard in {**transaction.stamps, **transaction.journal, **transaction.state}
        }

    def _obstacle(self, transaction: Transaction) -> Refused | None:
        """What forbids even to begin."""
        stale = self._stamps.stale(transaction.stamps)
        if stale or not self._group.assigned:
            return self._fenced(transaction, stale)
        try:
            found = self._targets.obstacle(self._wanted(transaction))
        except LogError as error:
            return Refused(transaction.epoch, "aborted", str(error))
        if found is None:
            return None
        return Refused(transaction.epoch, "aborted", found.message, poison=found.refusal is None, refusal=found.refusal)

    def _wanted(self, transaction: Transaction) -> set[tuple[str, int | None]]:
        """Where it writes: (topic, partition or None for any)."""
        outputs = transaction.outputs
        wanted: set[tuple[str, int | None]]
        if set(map(_PARTITION, outputs)) == {None}:  # as a rule; a pair for each record would cost more
            wanted = {(topic, None) for topic in set(map(_TOPIC, outputs))}
        else:
            wanted = set(map(_TARGET, outputs))
        wanted.update((self._state, shard) for shard in transaction.state)
        wanted.update((self._journal, shard) for shard in transaction.journal)
        return wanted

    def _send(self, producer: Producer, transaction: Transaction, metadata: GroupMetadata) -> Mapping[Partition, int] | None:
        """From begin to commit; the stamps are looked at after the metadata was fetched, and at the very end.

        None: nothing was begun, for the producer is in doubt.
        """
        self._check(transaction)
        contents = self._contents(transaction, metadata)
        self._stage("sending", calls=2)  # the records may have to wait for room, and then the group must answer
        if not producer.fill(contents):
            return None
        self._check(transaction)
        self._stage("committing")
        return producer.commit()

    def _contents(self, transaction: Transaction, metadata: GroupMetadata) -> Contents:
        mark = self._owner.mark(self._group.member_id)
        offsets = [
            (topic, number, offset, mark if topic == self._commands else "")
            for (topic, number), offset in transaction.offsets.items()
        ]
        changelogs: list[Changelog] = [
            (self._state, shard, records, transaction.state_headers.get(shard)) for shard, records in transaction.state.items()
        ]
        changelogs += [(self._journal, shard, records, None) for shard, records in transaction.journal.items()]
        return Contents(transaction.outputs, changelogs, offsets, metadata)

    def _refuse(self, turn: int, producer: Producer, transaction: Transaction, failure: TransactionFailedError) -> Refused:
        """End the transaction for certain before anybody hears of it."""
        with self._lock:
            if self._phase == "committing" and failure.reason != "unknown":
                self._phase = "sending"  # its commit was refused: it can only be aborted now
        self._stage(self._phase)
        if failure.reason == "aborted":
            self._targets.forget()  # perhaps a topic was deleted: the next attempt must see that
        # A fenced epoch is dropped with records on their way: after a mere abort the producer's next transaction fails on
        # their sequence numbers, which would cost a second start-over.
        reason = "fenced" if failure.reason == "outdated" else failure.reason
        if failure.spent or reason == "fenced" or not producer.abort():
            self._replace(turn)
        refusal = self._named(transaction, failure)
        message = str(failure) if refusal is None else refusal.message
        return Refused(transaction.epoch, reason, message, failure.poison and refusal is None, refusal)

    def _named(self, transaction: Transaction, failure: TransactionFailedError) -> Refusal | None:
        """The refusal behind a failure, with its topic: the client library tells of neither topic nor record."""
        if failure.reason != "aborted":
            return failure.refusal
        try:
            found = self._targets.obstacle(self._wanted(transaction))
        except LogError:
            found = None
        return failure.refusal if found is None or found.refusal is None else found.refusal

    def _check(self, transaction: Transaction) -> None:
        stale = self._stamps.stale(transaction.stamps)
        if stale:
            raise TransactionFailedError("fenced", self._fenced(transaction, stale).message)

    def _fenced(self, transaction: Transaction, stale: list[int]) -> Refused:
        lost, never = f"shards {stale} are no longer this worker's", "the group has assigned nothing to this worker"
        return Refused(transaction.epoch, "fenced", lost if stale else never)

    def _stage(self, phase: Phase, calls: int = 1) -> None:
        """Note how far the transaction is, and when the next calls must have returned."""
        with self._lock:
            if self._abandoned:
                raise AbandonedError
            self._phase = phase
            self._stuck_at = time.monotonic() + calls * self._timeout_s + GRACE_S

    def _rest(self) -> None:
        """Nothing is under way."""
        with self._lock:
            if self._abandoned:
                raise AbandonedError
            self._phase = "idle"
            self._stuck_at = None

    def _look_at(self, turn: int) -> None:
        """Replace the producer of this turn if it is in doubt: the next transaction need not wait for that."""
        self._stage("idle")
        if self._usable(turn).doubtful:
            self._replace(turn)
        self._rest()

    def _usable(self, turn: int) -> Producer:
        """The producer of this turn, a new one if there is none, or the old makes batches that a topic does not take."""
        producer = self._producers[turn]
        if producer is None or producer.batch_bytes > self._targets.smallest_batch_bytes:
            return self._replace(turn)
        return producer

    def _replace(self, turn: int) -> Producer:
        """A new producer under the same transactional id: what the old one left is settled. Tries for ever."""
        self._drop(turn)
        wait_s = 0.1
        while True:
            if self._closing:
                raise AbandonedError
            self._stage(self._phase, calls=2)
            try:
                producer = self._make_producer(self._owner.transactional_ids[turn], self._targets.smallest_batch_bytes)
                self._producers[turn] = producer
                producer.initialise(self._commands, self._timeout_s)
            except KafkaException as error:
                self._trouble.error(cause(error), "transactional id", "Write")
            except LogError as error:
                self._trouble.tell("producer", str(error), fatal=not error.retriable)
            else:
                return producer
            self._drop(turn)
            time.sleep(wait_s)
            wait_s = min(wait_s * 2, 2.0)

    def _drop(self, turn: int) -> None:
        old, self._producers[turn] = self._producers[turn], None
        if old is not None:
            threading.Thread(target=old.discard, name="odradek-discard", daemon=True).start()
