"""Who fetches: the thread at first and when there is nothing, else whoever takes a batch; always in the order of the partition.

Without a broker: the consumer is a stub that gives what the test has put in its queue, and notes which thread asked.
"""

import threading
from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from odradek_runtime.log.kafka.clients import Clients
from odradek_runtime.log.kafka.cluster import Cluster
from odradek_runtime.log.kafka.fetcher import BATCH, FETCHED_BYTES, OUTSTANDING, Fetcher
from odradek_runtime.log.kafka.trouble import TroubleReporter
from odradek_runtime.log.port import Event, Partition, Records
from tests.kafka.raw import eventually

INPUT = Partition("input", 0)


class StubMessage:
    """A record, or an error event."""

    def __init__(self, offset: int, error: KafkaError | None = None, size: int = 0) -> None:
        self._size = size
        self._offset = offset
        self._error = error

    def topic(self) -> str:
        return INPUT.topic

    def partition(self) -> int:
        return INPUT.partition

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes:
        return bytes(self._size)

    def error(self) -> KafkaError | None:
        return self._error


class StubConsumer:
    """Gives what is in `queue`, an exception by raising it; `looks` says which thread looked."""

    def __init__(self) -> None:
        self.queue: deque[StubMessage | KafkaException] = deque()
        self.looks: list[str] = []

    def poll(self, timeout: float) -> StubMessage | None:
        found = self.consume(1, timeout)
        if not found:
            threading.Event().wait(timeout)
        return found[0] if found else None

    def consume(self, num_messages: int, _: float) -> list[StubMessage]:
        self.looks.append(threading.current_thread().name)
        batch: list[StubMessage] = []
        while self.queue and len(batch) < num_messages:
            first = self.queue.popleft()
            if isinstance(first, KafkaException):
                raise first
            batch.append(first)
        return batch

    def list_topics(self, *_: object) -> None: ...
    def incremental_assign(self, *_: object) -> None: ...
    def close(self) -> None: ...


@pytest.fixture
def consumer() -> StubConsumer:
    return StubConsumer()


@pytest.fixture
def posted() -> list[Records]:
    return []


@pytest.fixture
def troubles() -> list[str]:
    return []


@pytest.fixture
def fetcher(consumer: StubConsumer, posted: list[Records], troubles: list[str]) -> Iterator[Fetcher]:
    def sink(event: Event) -> None:
        assert isinstance(event, Records)
        posted.append(event)

    trouble = TroubleReporter("stub:9092")
    trouble.sink = lambda told: troubles.append(told.message)
    clients = cast("Clients", SimpleNamespace(consumer=lambda *_: consumer))
    fetcher = Fetcher(clients, cast("Cluster", None), trouble, "group", sink)
    yield fetcher
    fetcher.close(10)


def fill(consumer: StubConsumer, *, batches: int, start: int = 0) -> None:
    consumer.queue.extend(StubMessage(start + number) for number in range(batches * BATCH))


def offsets(posted: list[Records]) -> list[int]:
    return [message.offset() for records in posted for message in records.messages]


def read_all_that_may_be_outstanding(fetcher: Fetcher, posted: list[Records]) -> None:
    """The thread has posted as many batches as may be outstanding, and waits until one is taken."""
    fetcher.read({INPUT: 0}, 1)
    eventually(lambda: len(posted) == OUTSTANDING)


def test_who_takes_a_batch_fetches_the_next_one(fetcher: Fetcher, consumer: StubConsumer, posted: list[Records]) -> None:
    fill(consumer, batches=10)
    read_all_that_may_be_outstanding(fetcher, posted)
    consumer.looks.clear()

    for number in range(5):
        posted[number].taken()

    assert len(posted) == OUTSTANDING + 5
    assert set(consumer.looks) == {threading.current_thread().name}
    assert offsets(posted) == list(range((OUTSTANDING + 5) * BATCH))
    assert {records.generation for records in posted} == {1}


def test_fewer_records_make_a_batch_where_they_are_large(
    fetcher: Fetcher, consumer: StubConsumer, posted: list[Records]
) -> None:
    size = FETCHED_BYTES // 100
    consumer.queue.append(StubMessage(0, size=size))
    fetcher.read({INPUT: 0}, 1)
    eventually(lambda: len(posted) == 1)
    posted[0].taken()
    consumer.queue.extend(StubMessage(number, size=size) for number in range(1, 401))
    for taken in range(1, 20):
        eventually(lambda most=taken + OUTSTANDING: len(posted) == most)
        outstanding = sum(len(records.messages) for records in posted[taken:])
        assert 10 < outstanding <= 50, "half of what may be fetched is here, the other half in the client library"
        posted[taken].taken()
    assert offsets(posted) == list(range(len(offsets(posted))))


def test_the_thread_goes_on_when_nothing_was_there(fetcher: Fetcher, consumer: StubConsumer, posted: list[Records]) -> None:
    fill(consumer, batches=OUTSTANDING)
    read_all_that_may_be_outstanding(fetcher, posted)

    posted[0].taken()
    consumer.queue.append(StubMessage(OUTSTANDING * BATCH))

    eventually(lambda: len(posted) == OUTSTANDING + 1)
    assert offsets(posted) == list(range(OUTSTANDING * BATCH + 1))


def test_an_error_among_records_is_the_threads_to_tell(
    fetcher: Fetcher, consumer: StubConsumer, posted: list[Records], troubles: list[str]
) -> None:
    fill(consumer, batches=OUTSTANDING)
    read_all_that_may_be_outstanding(fetcher, posted)
    consumer.queue.append(StubMessage(OUTSTANDING * BATCH))
    consumer.queue.append(StubMessage(0, KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)))
    fill(consumer, batches=2, start=OUTSTANDING * BATCH + 1)

    for records in posted[:2]:
        records.taken()

    eventually(lambda: len(offsets(posted)) > (OUTSTANDING + 1) * BATCH)
    assert offsets(posted) == list(range(len(offsets(posted)))), "nothing is lost, doubled or overtaken"
    assert any("the topic" in trouble for trouble in troubles)


def test_what_fetching_raises_does_not_reach_the_taker(
    fetcher: Fetcher, consumer: StubConsumer, posted: list[Records], troubles: list[str]
) -> None:
    fill(consumer, batches=OUTSTANDING)
    read_all_that_may_be_outstanding(fetcher, posted)
    consumer.queue.append(KafkaException(KafkaError(KafkaError._TRANSPORT)))
    fill(consumer, batches=1, start=OUTSTANDING * BATCH)

    posted[0].taken()

    eventually(lambda: len(posted) == OUTSTANDING + 1)
    assert offsets(posted) == list(range((OUTSTANDING + 1) * BATCH))
    assert any("reading from Kafka" in trouble for trouble in troubles)


def test_records_are_posted_though_what_else_is_there_cannot_be_fetched(
    fetcher: Fetcher, consumer: StubConsumer, posted: list[Records], troubles: list[str]
) -> None:
    consumer.queue.extend([StubMessage(0), KafkaException(KafkaError(KafkaError._TRANSPORT)), StubMessage(1)])
    fetcher.read({INPUT: 0}, 1)

    eventually(lambda: len(offsets(posted)) == 2)
    assert offsets(posted) == [0, 1]
    assert any("reading from Kafka" in trouble for trouble in troubles)


def test_records_beside_an_error_are_posted_though_nothing_can_be_done_about_it(
    fetcher: Fetcher, consumer: StubConsumer, posted: list[Records], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise KafkaException(KafkaError(KafkaError._STATE))

    monkeypatch.setattr(Fetcher, "_out_of_range", failing)
    consumer.queue.extend([StubMessage(0), StubMessage(9, KafkaError(KafkaError._AUTO_OFFSET_RESET)), StubMessage(1)])
    fetcher.read({INPUT: 0}, 1)

    eventually(lambda: len(offsets(posted)) == 2)
    assert offsets(posted) == [0, 1]


def test_nothing_is_fetched_after_the_end(fetcher: Fetcher, consumer: StubConsumer, posted: list[Records]) -> None:
    fill(consumer, batches=OUTSTANDING + 1)
    read_all_that_may_be_outstanding(fetcher, posted)
    fetcher.close(10)
    consumer.looks.clear()

    posted[0].taken()

    assert consumer.looks == []
