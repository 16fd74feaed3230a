"""The committer and its watchdog: whenever a transaction is given and a writer given up, it is answered once.

Without a broker: writers and producers are stubs, and what would take luck to meet is held at the moment in question.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import cast

import pytest

from odradek_runtime.log.kafka import committer as module
from odradek_runtime.log.kafka.committer import Committer, Orders
from odradek_runtime.log.kafka.contents import Contents
from odradek_runtime.log.kafka.owner import Owner
from odradek_runtime.log.kafka.producer import TransactionFailedError
from odradek_runtime.log.kafka.targets import Targets
from odradek_runtime.log.kafka.trouble import TroubleReporter
from odradek_runtime.log.kafka.writer import EpochWriter
from odradek_runtime.log.port import ChangelogPosition, Committed, Event, Partition, Refused, Transaction
from odradek_runtime.log.stamps import Stamps
from tests.kafka.raw import eventually


def transaction(epoch: int, stamp: int = 1) -> Transaction:
    return Transaction(epoch, {0: stamp}, offsets={Partition("app.commands", 0): epoch})


class StubWriter:
    """Is stuck when told, and keeps what reaches it."""

    def __init__(self, orders: Orders, outcome: Refused | None) -> None:
        self.orders = orders
        self.outcome = outcome
        self.stuck = False

    def give_up(self) -> str:
        return "idle"

    def close(self, _: float) -> None: ...


def test_a_transaction_given_while_the_writer_is_replaced_is_the_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    writers: list[StubWriter] = []
    giving: list[threading.Thread] = []

    def make(orders: Orders, _: Callable[[Event], None], outcome: Refused | None) -> EpochWriter:
        writers.append(StubWriter(orders, outcome))
        return cast("EpochWriter", writers[-1])

    def new_queue() -> Orders:
        """The writer is being replaced; whose transaction it answers for has been decided."""
        giving.append(threading.Thread(target=committer.commit, args=[transaction(1)]))
        giving[0].start()
        giving[0].join(0.2)
        return queue.SimpleQueue()

    committer = Committer("app", make, lambda _: None)
    monkeypatch.setattr(module, "queue", SimpleNamespace(SimpleQueue=new_queue))
    writers[0].stuck = True
    eventually(lambda: len(writers) == 2)
    giving[0].join(10)

    assert writers[0].orders.empty(), "nobody would ever answer"
    assert writers[1].outcome is None
    assert writers[1].orders.get(timeout=10) == transaction(1)
    committer.close(10)


class StubProducer:
    """Commits everything, at once or when it may."""

    batch_bytes = 1
    doubtful = False

    def __init__(self) -> None:
        self.may_commit = threading.Event()
        self.may_commit.set()
        self.discarded = False
        self.filled = 0
        self.outdated = False
        self.in_doubt = False

    def initialise(self, topic: str | None, timeout_s: float) -> None: ...

    def fill(self, contents: Contents) -> bool:
        if self.in_doubt:
            return False
        self.filled += 1
        if self.outdated:
            raise TransactionFailedError("outdated", "the group's generation has moved on")
        return True

    def commit(self) -> Mapping[Partition, int]:
        self.may_commit.wait()
        return {}

    def abort(self) -> bool:
        return True

    def abandon(self) -> None:
        self.may_commit.set()

    def discard(self) -> None:
        self.discarded = True


class StubGroup:
    """Owns shard 0; `moves` is called when it is asked for its generation, which it counts."""

    assigned = True
    member_id = "m"

    def __init__(self) -> None:
        self.moves: Callable[[], None] = lambda: None
        self.asked = 0

    def metadata(self, timeout_s: float) -> bytes:
        self.asked += 1
        self.moves()
        return b"%d" % self.asked


@pytest.fixture
def producers() -> list[StubProducer]:
    return []


@pytest.fixture
def events() -> "queue.SimpleQueue[Event]":
    return queue.SimpleQueue()


@pytest.fixture
def orders() -> Orders:
    return queue.SimpleQueue()


@pytest.fixture
def stamps() -> Stamps:
    """Shard 0 is owned under stamp 1."""
    stamps = Stamps()
    stamps.gain([0])
    return stamps


@pytest.fixture
def group() -> StubGroup:
    return StubGroup()


@pytest.fixture
def writer(
    producers: list[StubProducer], events: "queue.SimpleQueue[Event]", orders: Orders, stamps: Stamps, group: StubGroup
) -> Iterator[EpochWriter]:
    """A writer with a timeout of half a second."""

    def make(*_: object) -> StubProducer:
        producers.append(StubProducer())
        return producers[-1]

    targets = cast("Targets", SimpleNamespace(smallest_batch_bytes=1, obstacle=lambda _: None, forget=lambda: None))
    trouble = TroubleReporter("stub:9092")
    writer = EpochWriter(make, Owner.new("app"), group, stamps, targets, trouble, events.put, orders, 0.5)
    eventually(lambda: len(producers) == 2)
    yield writer
    writer.close(10)


def test_a_writer_whose_call_has_just_returned_is_not_given_up(
    writer: EpochWriter, events: "queue.SimpleQueue[Event]", orders: Orders
) -> None:
    """The watchdog saw it stuck, and before it could act the answer came: it is this one that counts, and no second."""
    assert writer.give_up() is None
    orders.put(transaction(1))

    assert events.get(timeout=10) == Committed(1, {0: ChangelogPosition(None, None)})
    assert writer.give_up() is None
    orders.put(transaction(2))
    assert isinstance(events.get(timeout=10), Committed)


def test_a_writer_that_is_closed_ends_a_call_that_does_not_return(
    writer: EpochWriter, producers: list[StubProducer], events: "queue.SimpleQueue[Event]", orders: Orders
) -> None:
    for producer in producers:
        producer.may_commit.clear()
    orders.put(transaction(1))

    writer.close(0.2)

    eventually(lambda: all(producer.discarded for producer in producers))
    assert events.empty(), "what became of it is not known here"


@pytest.mark.usefixtures("writer")
def test_a_transaction_whose_shard_has_moved_is_not_sent_again(
    producers: list[StubProducer], events: "queue.SimpleQueue[Event]", orders: Orders, stamps: Stamps, group: StubGroup
) -> None:
    """The group has another generation, and in it the shard is ours again: what was begun before is void all the same."""
    for producer in producers:
        producer.outdated = True

    def moves() -> None:
        if any(producer.filled for producer in producers):
            stamps.bump([0])
            stamps.gain([0])

    group.moves = moves
    orders.put(transaction(1))

    assert isinstance(refused := events.get(timeout=10), Refused)
    assert refused.reason == "fenced"
    assert sum(producer.filled for producer in producers) == 1


@pytest.mark.usefixtures("writer")
def test_a_transaction_of_an_earlier_generation_is_sent_again_by_another_producer(
    producers: list[StubProducer], events: "queue.SimpleQueue[Event]", orders: Orders
) -> None:
    producers[0].outdated = True
    orders.put(transaction(1))

    assert events.get(timeout=10) == Committed(1, {0: ChangelogPosition(None, None)})
    eventually(lambda: producers[0].discarded)
    assert producers[1].filled == 1


@pytest.mark.usefixtures("writer")
def test_a_transaction_is_sent_once_though_both_producers_turn_out_to_be_in_doubt(
    producers: list[StubProducer], events: "queue.SimpleQueue[Event]", orders: Orders
) -> None:
    for producer in producers:
        producer.in_doubt = True
    doubtful = list(producers)
    orders.put(transaction(1))

    assert events.get(timeout=10) == Committed(1, {0: ChangelogPosition(None, None)})
    eventually(lambda: all(producer.discarded for producer in doubtful))
    assert [producer.filled for producer in doubtful] == [0, 0]
    assert sum(producer.filled for producer in producers) == 1


@pytest.mark.usefixtures("writer")
def test_a_transaction_whose_shard_moves_while_a_producer_is_replaced_is_not_sent(
    producers: list[StubProducer], events: "queue.SimpleQueue[Event]", orders: Orders, stamps: Stamps, group: StubGroup
) -> None:
    """To replace a producer takes a while, and the shard may come back meanwhile: what was decided before is void."""
    for producer in producers:
        producer.in_doubt = True

    def moves() -> None:
        if group.asked == 2:
            stamps.bump([0])
            stamps.gain([0])

    group.moves = moves
    orders.put(transaction(1))

    assert isinstance(refused := events.get(timeout=10), Refused)
    assert refused.reason == "fenced"
    assert sum(producer.filled for producer in producers) == 0
