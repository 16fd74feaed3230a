"""What the contract tests hold a log with: a member whose events are waited for, and short forms for common orders.

A test says what it waits for; events of other kinds are kept for later. `silence` is the one negative wait: it can only
fail when the log does what it must not.
"""

import queue
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

import pytest

from odradek_runtime.log.port import (
    Committed,
    Event,
    Gained,
    Log,
    Losing,
    Member,
    Message,
    Output,
    Partition,
    Records,
    Refused,
    Transaction,
    Trouble,
)

DEADLINE_S = 30.0
E = TypeVar("E", Gained, Losing, Records, Committed, Refused, Trouble)


class LogHarness(Protocol):
    """A cluster under test."""

    def open(self) -> Log:
        """The log as one process would open it. Members in one test come from the same one; closed by the harness."""
        ...

    def evict(self, member: Member) -> None:
        """Do to this member what the group does when its session has expired (it may still be alive)."""
        ...


HarnessFactory = Callable[[pytest.FixtureRequest], AbstractContextManager[LogHarness]]


class Station:
    """A member that has joined, and what it was told."""

    def __init__(self, log: Log, app: str, shards: int, url: str | None = None) -> None:
        self.log = log
        self.app = app
        self.member = log.member(app, shards, url)
        self.stamps: dict[int, int] = {}
        self.every_stamp: list[int] = []
        self._queue: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._kept: deque[Event] = deque()
        self._epoch = 0
        self.left = False
        self.reached: dict[Partition, int] = {}
        """The ends of partitions, as the log has told them; not every log has offsets without records."""

    def join(self) -> "Station":
        self.member.join(self._hear)
        return self

    def _hear(self, event: Event) -> None:
        if isinstance(event, Records) and not event.messages:
            self.reached.update(event.reached)
        else:
            self._queue.put(event)

    def wait(self, kind: type[E], until: Callable[[E], bool] = lambda _: True) -> E:
        """The next event of this kind for which `until` holds; fails after the deadline."""
        event = self._next(kind.__name__, lambda event: isinstance(event, kind) and until(event))
        assert isinstance(event, kind)
        return event

    def _next(self, what: str, wanted: Callable[[Event], bool]) -> Event:
        for event in list(self._kept):
            if wanted(event):
                self._kept.remove(event)
                return event
        end_s = time.monotonic() + DEADLINE_S
        while True:
            try:
                event = self._queue.get(timeout=max(0.0, end_s - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {what} in {DEADLINE_S} s; kept: {list(self._kept)}") from None
            self._note(event)
            if wanted(event):
                return event
            self._kept.append(event)

    def _note(self, event: Event) -> None:
        if isinstance(event, Gained):
            self.stamps.update(event.shards)
            self.every_stamp += event.shards.values()
        elif isinstance(event, Losing) and event.lost:
            for shard in event.shards:
                self.stamps.pop(shard, None)

    def own(self, shards: set[int]) -> "Station":
        """Wait until exactly these shards are owned, releasing at once what is asked back."""
        while set(self.stamps) != shards:
            event = self._next("Gained or Losing", lambda event: isinstance(event, Gained | Losing))
            if isinstance(event, Losing):
                self.give_up(event)
        return self

    def give_up(self, losing: Losing) -> None:
        """Forget the shards, then let them go, as the engine does."""
        for shard in losing.shards:
            self.stamps.pop(shard, None)
        losing.release()

    def give_up_what_is_asked(self, seconds: float) -> None:
        """Release whatever is asked back within so long, and note what is gained."""
        for losing in self.drain(Losing, seconds):
            self.give_up(losing)

    def drain(self, kind: type[E], seconds: float = 0.3) -> list[E]:
        """Every event of this kind that is waiting or arrives until nothing has come for so long."""
        while True:
            try:
                event = self._queue.get(timeout=seconds)
            except queue.Empty:
                break
            self._note(event)
            self._kept.append(event)
        found: list[E] = [event for event in self._kept if isinstance(event, kind)]
        self._kept = deque(event for event in self._kept if not isinstance(event, kind))
        return found

    def silence(self, kind: type[E], seconds: float = 0.3) -> None:
        """No event of this kind is waiting or arrives for so long."""
        found = self.drain(kind, seconds)
        assert not found, found

    def transaction(
        self,
        shards: Sequence[int] = (0,),
        outputs: Sequence[Output] = (),
        *,
        offsets: Mapping[Partition, int] | None = None,
    ) -> Transaction:
        """One that touches these shards with the stamps held now; their commands offsets are 1 unless given."""
        self._epoch += 1
        commands = {Partition(f"{self.app}.commands", shard): 1 for shard in shards}
        return Transaction(
            self._epoch,
            {shard: self.stamps[shard] for shard in shards},
            outputs=list(outputs),
            offsets={**commands, **(offsets or {})},
        )

    def commit(self, transaction: Transaction) -> Committed | Refused:
        """Send it and wait for its end."""
        self.member.commit(transaction)
        epoch = transaction.epoch
        event = self._next(f"end of epoch {epoch}", lambda event: isinstance(event, Committed | Refused) and event.epoch == epoch)
        assert isinstance(event, Committed | Refused)
        return event

    def end_or_trouble(self, epoch: int) -> Committed | Refused | Trouble:
        """The next word on this epoch: how it ended, or what holds it up."""
        event = self._next(
            f"word on epoch {epoch}",
            lambda event: isinstance(event, Trouble) or (isinstance(event, Committed | Refused) and event.epoch == epoch),
        )
        assert isinstance(event, Committed | Refused | Trouble)
        return event

    def committed(self, transaction: Transaction) -> Committed:
        """Send it; it must succeed."""
        event = self.commit(transaction)
        assert isinstance(event, Committed), event
        return event

    def refused(self, transaction: Transaction) -> Refused:
        """Send it; it must not succeed."""
        event = self.commit(transaction)
        assert isinstance(event, Refused), event
        return event

    def batches(self) -> Iterator[Records]:
        """Batches as they come; each is taken when the next one is asked for."""
        while True:
            records = self.wait(Records)
            yield records
            records.taken()

    def messages(self, count: int) -> list[Message]:
        """Wait for so many records; fails when more have come with the last of them."""
        found: list[Message] = []
        for records in self.batches():
            found += records.messages
            if len(found) >= count:
                records.taken()
                break
        assert len(found) == count
        return found

    def leave(self) -> None:
        if not self.left:
            self.left = True
            self.member.leave()


def publish(log: Log, outputs: Sequence[Output], name: str = "setup") -> None:
    """Write records from outside any app."""
    publisher = log.publisher(name)
    publisher.publish(outputs, publisher.position() + len(outputs))
    publisher.close()


def content(log: Log, partition: Partition) -> list[Message]:
    """Everything committed in a partition."""
    first, end = log.offsets(partition)
    return [message for batch in log.scan(partition, first, end) for message in batch]


def values(log: Log, partition: Partition) -> list[bytes | None]:
    """The values of everything committed in a partition."""
    return [message.value() for message in content(log, partition)]
