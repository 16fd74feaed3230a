"""Sends a member's transactions to the brokers, one at a time, phase by phase: records, offsets, the commit, its answer.

Stands between a member, which the engine gives its transactions to, and the brokers. What the process has sent may still arrive
when it has died; between two phases anything may come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from odradek_runtime.log.port import Committed, LogError, Partition, Refused, Transaction
from odradek_runtime.log.simulated.auditor import Author
from odradek_runtime.log.simulated.brokers import Brokers
from odradek_runtime.log.simulated.group import Group
from odradek_runtime.log.simulated.transaction import SimulatedTransaction

TRANSACTION_TIMEOUT_MS = 10_000.0
NEWS_MS = (0.0, 50.0, 5_000.0)
"""The news of an eviction amid a transaction takes one of these."""
AGAIN_MS = (0.0, 20.0, 500.0, 3_000.0)
"""The group's next generation takes one of these."""
Ending = Committed | Refused


class Sending(Author, Protocol):
    """The member whose transactions these are."""

    gone: bool
    """It has left, or its process is dead."""
    news_ms: float
    """How long the news of an eviction takes."""

    def owns(self, transaction: Transaction) -> bool:
        """Whether every shard that it touches is the member's, as far as that knows, since it was made."""
        ...


class Sender:
    """What is on its way from one member."""

    def __init__(self, brokers: Brokers, group: Group, member: Sending, tell: Callable[[Ending], None]) -> None:
        self._brokers = brokers
        self._group = group
        self._member = member
        self._tell = tell
        self._auditor = brokers.auditor(group.app)
        self._inflight: Transaction | None = None
        self._unfinished: list[SimulatedTransaction] = []
        self._on_the_wire = False

    def die(self) -> None:
        """The process is gone; what it sent last may have been on the wire."""
        self._on_the_wire = self._brokers.scheduler.rng.random() < 0.5

    def commit(self, transaction: Transaction) -> None:
        """Send it. How it ends is told later, once."""
        assert self._inflight is None, "one commit at a time"
        self._inflight = transaction
        self._auditor.sent(self._member, transaction)
        self._phase("produces", transaction, lambda: self._produce(transaction))

    def _phase(self, name: str, transaction: Transaction, action: Callable[[], None], extra_ms: float = 0.0) -> None:
        def arrive() -> None:
            if self._member.gone:
                if not self._on_the_wire:
                    return
                self._on_the_wire = False
            action()

        label = f"{self._member.name} epoch {transaction.epoch} {name}"
        self._brokers.scheduler.later(extra_ms + self._brokers.delay_ms(), label, arrive)

    def _produce(self, order: Transaction) -> None:
        if len(self._unfinished) > 1 and not self._unfinished[0].ended:  # two producers take turns
            self._unfinished[0].when_ended(lambda: self._phase("produces", order, lambda: self._produce(order)))
            return
        self._unfinished = [t for t in self._unfinished if not t.ended]
        if not self._member.gone and not self._member.owns(order):
            self._refuse(order, "fenced", "an ownership stamp has changed")
            return
        transaction = SimulatedTransaction(self._brokers, self._group, self._member.name, order)
        self._unfinished.append(transaction)
        try:
            self._brokers.examine(self._group.app, order)
        except LogError as error:
            transaction.decide(commit=False)
            refused = Refused(order.epoch, "aborted", str(error), poison=error.refusal is None, refusal=error.refusal)
            self._phase("is refused: aborted", order, lambda: self._answer(refused))
            return
        if self._brokers.faults.hit("refuse"):
            transaction.decide(commit=False)
            self._refuse(order, "aborted", "the broker refuses (simulated)")
            return
        scheduler = self._brokers.scheduler
        ahead = scheduler.rng.random() < 0.5  # the producer sends records when it likes: only the commit waits for them
        committed = Committed(order.epoch, transaction.write() if ahead else {})
        name = f"{self._member.name} epoch {order.epoch}: transaction timeout"
        scheduler.later(TRANSACTION_TIMEOUT_MS, name, lambda: self._expire(transaction))
        self._phase("sends offsets", order, lambda: self._send_offsets(transaction, committed, ahead), self._slow_ms())

    def _slow_ms(self) -> float:
        faults = self._brokers.faults
        return faults.source("slow_commit").uniform(1_000.0, 15_000.0) if faults.hit("slow_commit") else 0.0

    def _expire(self, transaction: SimulatedTransaction) -> None:
        if transaction.decision is None:
            transaction.decide(commit=False)

    def _send_offsets(self, transaction: SimulatedTransaction, committed: Committed, written: bool) -> None:
        order = transaction.order
        if transaction.decision is not None:
            self._refuse(order, "fenced", "the transaction has timed out")
            return
        member = self._member in self._group.members and (self._member.gone or self._member.owns(order))
        if not member:
            transaction.decide(commit=False)
            self._refuse(order, "fenced", "the group has moved on")
            return
        faults = self._brokers.faults
        if not self._member.gone and faults.hit("outdated"):
            self._send_again(transaction)
            return
        transaction.hold_offsets()
        slow_ms = self._slow_ms()
        if not self._member.gone and faults.hit("evict_pending"):
            self._member.news_ms = faults.source("evict_pending").choice(NEWS_MS)
            self._member.evict()
            slow_ms = slow_ms or faults.source("evict_pending").expovariate(1 / 15.0)
        if written:
            self._phase("commits", order, lambda: self._decide(transaction, committed), slow_ms)
        else:
            self._phase("flushes", order, lambda: self._flush(transaction), slow_ms)

    def _send_again(self, transaction: SimulatedTransaction) -> None:
        """Settled first, then sent again in the group's next generation, if all of it is still ours by then."""
        faults, order = self._brokers.faults, transaction.order
        transaction.decide(commit=False)
        slow_ms = faults.source("outdated").choice(AGAIN_MS)
        transaction.when_ended(lambda: self._phase("is sent again", order, lambda: self._produce(order), slow_ms))

    def _flush(self, transaction: SimulatedTransaction) -> None:
        order = transaction.order
        if transaction.decision is not None:
            self._refuse(order, "fenced", "the transaction was fenced")
            return
        committed = Committed(order.epoch, transaction.write())
        self._phase("commits", order, lambda: self._decide(transaction, committed))

    def _decide(self, transaction: SimulatedTransaction, committed: Committed) -> None:
        faults, order = self._brokers.faults, transaction.order
        if transaction.decision is not None:
            self._refuse(order, "fenced", "the transaction was fenced")
        elif (order.state or not order.outputs) and faults.hit("torn"):
            self._tear(transaction)
        elif faults.hit("unknown_lost"):
            transaction.decide(commit=False)
            self._unknown(transaction)
        elif faults.hit("unknown_applied"):
            transaction.decide(commit=True)
            self._unknown(transaction)
        else:
            self._auditor.committing(self._member, transaction)
            transaction.decide(commit=True)
            self._phase("is committed", order, lambda: self._answer(committed))

    def _tear(self, transaction: SimulatedTransaction) -> None:
        keep = self._brokers.faults.source("torn").random()
        transaction.tear(lambda where: where.topic == f"{self._group.app}.state" and hash_of(where) > keep)
        self._unknown(transaction)

    def _unknown(self, transaction: SimulatedTransaction) -> None:
        """The member settles the outcome with a new producer before it says that it does not know it."""
        transaction.when_ended(lambda: self._refuse(transaction.order, "unknown", "the answer is lost (simulated)"))

    def _refuse(self, order: Transaction, reason: Literal["fenced", "aborted", "unknown"], message: str) -> None:
        self._phase(f"is refused: {reason}", order, lambda: self._answer(Refused(order.epoch, reason, message)))

    def _answer(self, event: Ending) -> None:
        self._inflight = None
        self._tell(event)


def hash_of(where: Partition) -> float:
    """A number in 0..1 that depends on the partition alone."""
    return (where.partition * 0.618033988749895) % 1.0
