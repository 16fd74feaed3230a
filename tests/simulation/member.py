"""A simulated member: one worker's place in the group, its fetches and its transactions (`log.port.Member`).

Three threads of a real worker post events: membership, fetch, commit. Each keeps its own order, and they overtake one another
as the seed decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from odradek_runtime.formats import COMMAND
from odradek_runtime.log.kafka.stamps import Stamps
from odradek_runtime.log.port import (
    Committed,
    Event,
    Gained,
    LogError,
    Losing,
    Output,
    Partition,
    Records,
    Refused,
    Sink,
    Transaction,
)

from .transaction import SimTransaction

if TYPE_CHECKING:
    from .group import SimGroup
    from .log import SimLog

OUTSTANDING = 4
TRANSACTION_TIMEOUT_MS = 10_000.0
SESSION_MS = 6_000.0
SETTLE_MS = 20_000.0


class Lane:
    """Events of one thread: delayed, never reordered."""

    def __init__(self, log: SimLog, name: str) -> None:
        self._log = log
        self._name = name
        self._due_ms = 0.0

    def later(self, delay_ms: float, label: str, action: Callable[[], None]) -> None:
        scheduler = self._log.scheduler
        self._due_ms = max(self._due_ms, scheduler.now_ms + delay_ms)
        scheduler.at(self._due_ms, f"{self._name}: {label}", action)


class SimMember:
    """`stamps`: what the member itself believes to own; the group may have decided otherwise already."""

    def __init__(self, log: SimLog, group: SimGroup, app: str, url: str | None, name: str) -> None:
        self.name = name
        self.url = url
        self.stamps: dict[int, int] = {}
        self._ownership = Stamps()
        """The engine's own, which decides whether an epoch is sent; it counts for itself."""
        self._own: dict[int, int] = {}
        """The stamp that it gave for each of the group's."""
        self.gone = False
        self.news_ms = 0.0
        """How long the news of an eviction takes."""
        self.released_shards: set[int] = set()
        self._log = log
        self._group = group
        self._app = app
        self._sink: Sink | None = None
        self._membership, self._fetches = Lane(log, f"{name} group"), Lane(log, f"{name} fetch")
        self._positions: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._generation = 0
        self._outstanding = 0
        self._looking = False
        self._inflight: Transaction | None = None
        self._unfinished: list[SimTransaction] = []
        self._on_the_wire = False

    def excess(self, output: Output) -> int:
        """By how many bytes a record is larger than its topic takes."""
        return self._log.excess(output) if self._log.has(output.topic) else 0

    # --- membership ---

    def join(self, sink: Sink) -> None:
        self._sink = sink
        self._log.scheduler.later(self._ms(), f"{self.name} joins", self._enter)

    def _enter(self) -> None:
        if not self.gone:
            self._group.join(self)

    def _ms(self) -> float:
        return self._log.scheduler.delay_ms(self._log.mean_ms)

    def hear(self, event: Event) -> None:
        """The group's decision is on its way."""
        self._membership.later(self._ms(), type(event).__name__, lambda: self._told(event))

    def _told(self, event: Event) -> None:
        if isinstance(event, Gained):
            self.stamps.update(event.shards)
            own = self._ownership.gain(event.shards)
            self._own.update({stamp: own[number] for number, stamp in event.shards.items()})
            self.released_shards.difference_update(event.shards)
        self._post(event)

    def released(self, shards: Sequence[int]) -> None:
        """The engine has released them: from now on nothing that touches them is sent."""
        self._ownership.bump(shards)
        for number in shards:
            self.stamps.pop(number, None)
            self.released_shards.add(number)

    def evict(self) -> None:
        """The session has expired: the shards move now, the member hears of it later."""
        if self not in self._group.members:
            return
        self._group.leave(self)
        self._membership.later(self.news_ms + self._ms(), "learns of its eviction", self._evicted)

    def freeze(self, until_ms: float) -> None:
        """The process stands still until then; the group will not wait for it."""
        scheduler = self._log.scheduler
        self.news_ms = max(until_ms - scheduler.now_ms - SESSION_MS, 0.0)
        scheduler.later(SESSION_MS, f"{self.name}: session expired", self.evict)

    def _evicted(self) -> None:
        lost, self.stamps = tuple(sorted(self.stamps)), {}
        self._ownership.bump(lost)
        rejoin = self._once(lambda: self._log.scheduler.later(self._ms(), f"{self.name} joins again", self._enter))
        if not lost:
            rejoin()
            return
        self._post(Losing(lost, lost=True, release=rejoin))
        patience_ms = self._log.scheduler.rng.choice((500.0, 5_000.0, 30_000.0))
        self._log.scheduler.later(patience_ms, f"{self.name} waits no longer for its release", rejoin)

    @staticmethod
    def _once(action: Callable[[], None]) -> Callable[[], None]:
        waiting = [action]
        return lambda: waiting.pop()() if waiting else None

    def leave(self) -> None:
        self._end()
        self._group.leave(self)

    def die(self) -> None:
        """The process is gone: what is on the wire may still arrive, the group notices when the session expires."""
        self._on_the_wire = self._log.scheduler.rng.random() < 0.5
        self._end()
        self._log.scheduler.later(SESSION_MS, f"{self.name}: session expired", lambda: self._group.leave(self))

    def _end(self) -> None:
        self.gone = True
        self._positions.clear()
        self.stamps.clear()

    def _post(self, event: Event) -> None:
        if not self.gone and self._sink is not None:
            self._sink(event)

    # --- reading ---

    def read(self, positions: Mapping[Partition, int], generation: int) -> None:
        assert generation > self._generation, "generations grow"
        self._generation = generation
        self._positions.update(positions)
        self._paused.difference_update(positions)
        self.look()

    def stop_reading(self, partitions: Sequence[Partition]) -> None:
        for partition in partitions:
            self._positions.pop(partition, None)

    def pause(self, partitions: Sequence[Partition]) -> None:
        self._paused.update(partitions)

    def resume(self, partitions: Sequence[Partition]) -> None:
        self._paused.difference_update(partitions)
        self.look()

    def look(self) -> None:
        """There may be something to fetch."""
        if not self._looking and self._positions and self._outstanding < OUTSTANDING and not self.gone:
            self._looking = True
            self._log.scheduler.later(self._ms(), f"{self.name} fetches", self._fetch)

    def _fetch(self) -> None:
        self._looking = False
        if self.gone or self._outstanding >= OUTSTANDING:
            return
        rng, room = self._log.scheduler.rng, self._log.batch_records
        found: list[list[tuple[Partition, int]]] = []
        messages = []
        partitions = list(self._positions)
        rng.shuffle(partitions)
        for partition in partitions:
            if partition in self._paused or room <= 0:
                continue
            log = self._log.partition(partition)
            start = self._positions[partition]
            if not log.first <= start <= log.end:  # deleted, or the topic was made again: on with the first there is
                start = log.first
            got = log.read(start, log.end, rng.randint(max(1, room // 8), room) if room > 8 else rng.randint(1, room))
            if got:
                self._positions[partition] = got[-1].at + 1
                messages += got
                room -= len(got)
                found.append([(partition, got[-1].at)])
        if not messages:
            return
        self._outstanding += 1
        batch = Records(messages, self._generation, self._taker())
        late_ms = self._log.faults.rng.uniform(20.0, 3_000.0) if self._log.faults.hit("late_batch") else 0.0
        self._fetches.later(late_ms + self._ms(), f"{len(messages)} records", lambda: self._post(batch))
        self.look()

    def _taker(self) -> Callable[[], None]:
        taken = False

        def take() -> None:
            nonlocal taken
            assert not taken, "a batch is taken once"
            taken = True
            self._outstanding -= 1
            self.look()

        return take

    # --- transactions ---

    def commit(self, transaction: Transaction) -> None:
        assert self._inflight is None, "one commit at a time"
        self._inflight = transaction
        self._log.auditor(self._app).sent(self, transaction)
        self._phase("produces", transaction, lambda: self._produce(transaction))

    def _phase(self, name: str, transaction: Transaction, action: Callable[[], None], extra_ms: float = 0.0) -> None:
        def arrive() -> None:
            if self.gone:
                if not self._on_the_wire:
                    return
                self._on_the_wire = False
            action()

        self._log.scheduler.later(extra_ms + self._ms(), f"{self.name} epoch {transaction.epoch} {name}", arrive)

    def _current(self, transaction: Transaction) -> bool:
        return not self._ownership.stale({number: self._own.get(stamp, 0) for number, stamp in transaction.stamps.items()})

    def _produce(self, order: Transaction) -> None:
        if len(self._unfinished) > 1 and not self._unfinished[0].ended:  # two producers take turns
            self._unfinished[0].when_ended(lambda: self._phase("produces", order, lambda: self._produce(order)))
            return
        self._unfinished = [t for t in self._unfinished if not t.ended]
        if not self.gone and not self._current(order):
            self._refuse(order, "fenced", "an ownership stamp has changed")
            return
        transaction = SimTransaction(self._log, self._group, self.name, order)
        self._unfinished.append(transaction)
        try:
            self._log.examine(self._app, order)
        except LogError as error:
            transaction.decide(commit=False)
            refused = Refused(order.epoch, "aborted", str(error), poison=error.refusal is None, refusal=error.refusal)
            self._phase("is refused: aborted", order, lambda: self._answer(refused))
            return
        if self._log.faults.hit("refuse"):
            transaction.decide(commit=False)
            self._refuse(order, "aborted", "the broker refuses (simulated)")
            return
        ahead = self._log.scheduler.rng.random() < 0.5  # the producer sends records when it likes: only the commit waits for them
        committed = Committed(order.epoch, transaction.write() if ahead else {})
        self._log.scheduler.later(
            TRANSACTION_TIMEOUT_MS, f"{self.name} epoch {order.epoch}: transaction timeout", lambda: self._expire(transaction)
        )
        slow_ms = self._log.faults.rng.uniform(1_000.0, 15_000.0) if self._log.faults.hit("slow_commit") else 0.0
        self._phase("sends offsets", order, lambda: self._send_offsets(transaction, committed, ahead), slow_ms)

    def _expire(self, transaction: SimTransaction) -> None:
        if transaction.decision is None:
            transaction.decide(commit=False)

    def _send_offsets(self, transaction: SimTransaction, committed: Committed, written: bool) -> None:
        order = transaction.order
        if transaction.decision is not None:
            self._refuse(order, "fenced", "the transaction has timed out")
            return
        member = self in self._group.members and (self.gone or self._current(order))
        if not member:
            transaction.decide(commit=False)
            self._refuse(order, "fenced", "the group has moved on")
            return
        faults = self._log.faults
        if not self.gone and faults.hit("outdated"):
            self._send_again(transaction)
            return
        transaction.hold_offsets()
        slow_ms = faults.rng.uniform(1_000.0, 15_000.0) if faults.hit("slow_commit") else 0.0
        if not self.gone and faults.hit("evict_pending"):
            self.news_ms = faults.rng.choice((0.0, 50.0, 5_000.0))
            self.evict()
            slow_ms = slow_ms or faults.rng.expovariate(1 / 15.0)
        if written:
            self._phase("commits", order, lambda: self._decide(transaction, committed), slow_ms)
        else:
            self._phase("flushes", order, lambda: self._flush(transaction), slow_ms)

    def _send_again(self, transaction: SimTransaction) -> None:
        """Settled first, then sent again in the group's next generation, if all of it is still ours by then."""
        faults, order = self._log.faults, transaction.order
        transaction.decide(commit=False)
        slow_ms = faults.rare.choice((0.0, 20.0, 500.0, 3_000.0))
        transaction.when_ended(lambda: self._phase("is sent again", order, lambda: self._produce(order), slow_ms))

    def _flush(self, transaction: SimTransaction) -> None:
        order = transaction.order
        if transaction.decision is not None:
            self._refuse(order, "fenced", "the transaction was fenced")
            return
        committed = Committed(order.epoch, transaction.write())
        self._phase("commits", order, lambda: self._decide(transaction, committed))

    def _decide(self, transaction: SimTransaction, committed: Committed) -> None:
        faults, order = self._log.faults, transaction.order
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
            self._move_sender(transaction)
            transaction.decide(commit=True)
            self._phase("is committed", order, lambda: self._answer(committed))

    def _move_sender(self, transaction: SimTransaction) -> None:
        """A command for another worker's shard is read late, and meanwhile the shard that may have sent it moves to that worker."""
        order, faults, owners = transaction.order, self._log.faults, self._group.owners
        if not faults.may("moved_sender"):
            return
        sources = [number for number in order.stamps if owners.get(number) is self]
        heirs = [owners[number] for number in _invoked(order, self._app) if owners.get(number) not in (None, self)]
        if heirs and sources and faults.hit("moved_sender"):
            transaction.late_commands_ms = faults.rare.uniform(1_000.0, 8_000.0)
            self._group.move(faults.rare.choice(sources), heirs[0])

    def _tear(self, transaction: SimTransaction) -> None:
        keep = self._log.faults.rng.random()
        transaction.tear(lambda where: where.topic == f"{self._app}.state" and hash_of(where) > keep)
        self._unknown(transaction)

    def _unknown(self, transaction: SimTransaction) -> None:
        """The member settles the outcome with a new producer before it says that it does not know it."""
        transaction.when_ended(lambda: self._refuse(transaction.order, "unknown", "the answer is lost (simulated)"))

    def _refuse(self, order: Transaction, reason: Literal["fenced", "aborted", "unknown"], message: str) -> None:
        self._phase(f"is refused: {reason}", order, lambda: self._answer(Refused(order.epoch, reason, message)))

    def _answer(self, event: Committed | Refused) -> None:
        self._inflight = None
        self._post(event)

    # --- the blocking question ---

    def settle(self, shard: int) -> int | None:
        """Fences dead owners, then reads stably."""
        commands = Partition(f"{self._app}.commands", shard)
        self._log.scheduler.point(f"settle of shard {shard}")
        if self._log.scheduler.strand is not None and self._log.faults.hit("log_error"):
            raise LogError(f"settle of shard {shard}: the coordinator does not answer (simulated)")
        for transaction in self._group.pending_on(commands):
            if transaction.decision is None and all(m.name != transaction.owner for m in self._group.members):
                transaction.decide(commit=False)
        if not self._log.scheduler.wait(
            f"settle of shard {shard}", lambda: not self._group.pending_on(commands), SETTLE_MS
        ):
            raise LogError(f"shard {shard}: a transaction stays open")
        return self._group.committed.get(commands)


def _invoked(order: Transaction, app: str) -> list[int]:
    """The shards to which it sends calls by way of their commands."""
    outputs = [output for output in map(Output._make, order.outputs) if output.topic == f"{app}.commands"]
    return [out.partition for out in outputs if out.partition is not None and COMMAND.decode(out.value or b"").kind == "invoke"]


def hash_of(where: Partition) -> float:
    """A number in 0..1 that depends on the partition alone."""
    return (where.partition * 0.618033988749895) % 1.0
