"""A simulated member: one worker's place in the group, its fetches and its transactions (`log.port.Member`).

Three threads of a real worker post events: membership, fetch, commit. Each keeps its own order, and they overtake one another
as the seed decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from odradek_runtime.log.port import Event, Gained, LogError, Losing, Output, Partition, Records, Sink, Transaction
from odradek_runtime.log.simulated.brokers import Brokers
from odradek_runtime.log.simulated.group import Group
from odradek_runtime.log.simulated.partition import SimulatedMessage
from odradek_runtime.log.simulated.scheduler import Scheduler
from odradek_runtime.log.simulated.sender import Sender
from odradek_runtime.log.stamps import Stamps

OUTSTANDING = 4
SESSION_MS = 6_000.0
SETTLE_MS = 20_000.0


class Course:
    """Events of one thread: delayed, never reordered."""

    def __init__(self, scheduler: Scheduler, name: str) -> None:
        self._scheduler = scheduler
        self._name = name
        self._due_ms = 0.0

    def later(self, delay_ms: float, label: str, action: Callable[[], None]) -> None:
        """After so long, and after whatever came before it."""
        self._due_ms = max(self._due_ms, self._scheduler.now_ms + delay_ms)
        self._scheduler.at(self._due_ms, f"{self._name}: {label}", action)


class SimulatedMember:
    """`stamps`: what the member itself believes to own; the group may have decided otherwise already."""

    def __init__(self, brokers: Brokers, group: Group, url: str | None, name: str) -> None:
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
        self._brokers = brokers
        self._scheduler = scheduler = brokers.scheduler
        self._group = group
        self._sender = Sender(brokers, group, self, self._post)
        self._sink: Sink | None = None
        self._membership, self._fetches = Course(scheduler, f"{name} group"), Course(scheduler, f"{name} fetch")
        self._positions: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._generation = 0
        self._outstanding = 0
        self._looking = False

    def excess(self, output: Output) -> int:
        """By how many bytes a record is larger than its topic takes."""
        return self._brokers.excess(output)

    # --- membership ---

    def join(self, sink: Sink) -> None:
        self._sink = sink
        self._scheduler.later(self._brokers.delay_ms(), f"{self.name} joins", self._enter)

    def _enter(self) -> None:
        if not self.gone:
            self._group.join(self)

    def hear(self, event: Event) -> None:
        """The group's decision is on its way."""
        self._membership.later(self._brokers.delay_ms(), type(event).__name__, lambda: self._told(event))

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
        self._membership.later(self.news_ms + self._brokers.delay_ms(), "learns of its eviction", self._evicted)

    def freeze(self, until_ms: float) -> None:
        """The process stands still until then; the group will not wait for it."""
        self.news_ms = max(until_ms - self._scheduler.now_ms - SESSION_MS, 0.0)
        self._scheduler.later(SESSION_MS, f"{self.name}: session expired", self.evict)

    def _evicted(self) -> None:
        lost, self.stamps = tuple(sorted(self.stamps)), {}
        self._ownership.bump(lost)
        rejoin = self._once(lambda: self._scheduler.later(self._brokers.delay_ms(), f"{self.name} joins again", self._enter))
        if not lost:
            rejoin()
            return
        self._post(Losing(lost, lost=True, release=rejoin))
        patience_ms = self._scheduler.rng.choice((500.0, 5_000.0, 30_000.0))
        self._scheduler.later(patience_ms, f"{self.name} waits no longer for its release", rejoin)

    @staticmethod
    def _once(action: Callable[[], None]) -> Callable[[], None]:
        waiting = [action]
        return lambda: waiting.pop()() if waiting else None

    def leave(self) -> None:
        self._end()
        self._group.leave(self)

    def die(self) -> None:
        """The process is gone: what is on the wire may still arrive, the group notices when the session expires."""
        self._sender.die()
        self._end()
        self._scheduler.later(SESSION_MS, f"{self.name}: session expired", lambda: self._group.leave(self))

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
            self._scheduler.later(self._brokers.delay_ms(), f"{self.name} fetches", self._fetch)

    def _fetch(self) -> None:
        self._looking = False
        if self.gone or self._outstanding >= OUTSTANDING:
            return
        rng, room = self._scheduler.rng, self._brokers.batch_records
        messages: list[SimulatedMessage] = []
        partitions = list(self._positions)
        rng.shuffle(partitions)
        for partition in partitions:
            if partition in self._paused or room <= 0:
                continue
            log = self._brokers.partition(partition)
            start = self._positions[partition]
            if not log.first <= start <= log.end:  # deleted, or the topic was made again: on with the first there is
                start = log.first
            got = log.read(start, log.end, rng.randint(max(1, room // 8), room) if room > 8 else rng.randint(1, room))
            if got:
                self._positions[partition] = got[-1].at + 1
                messages += got
                room -= len(got)
        if not messages:
            return
        self._outstanding += 1
        batch = Records(messages, self._generation, self._taker())
        faults = self._brokers.faults
        late_ms = faults.source("late_batch").uniform(20.0, 3_000.0) if faults.hit("late_batch") else 0.0
        self._fetches.later(late_ms + self._brokers.delay_ms(), f"{len(messages)} records", lambda: self._post(batch))
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
        self._sender.commit(transaction)

    def owns(self, transaction: Transaction) -> bool:
        """Whether every shard that it touches has been this member's since it was made, as far as the member knows."""
        return not self._ownership.stale({number: self._own.get(stamp, 0) for number, stamp in transaction.stamps.items()})

    # --- the blocking question ---

    def settle(self, shard: int) -> int | None:
        """Fences dead owners, then reads stably."""
        commands = Partition(f"{self._group.app}.commands", shard)
        self._scheduler.point(f"settle of shard {shard}")
        if self._scheduler.strand is not None and self._brokers.faults.hit("log_error"):
            raise LogError(f"settle of shard {shard}: the coordinator does not answer (simulated)")
        for transaction in self._group.pending_on(commands):
            if transaction.decision is None and all(m.name != transaction.owner for m in self._group.members):
                transaction.decide(commit=False)
        if not self._scheduler.wait(
            f"settle of shard {shard}", lambda: not self._group.pending_on(commands), SETTLE_MS
        ):
            raise LogError(f"shard {shard}: a transaction stays open")
        return self._group.committed.get(commands)
