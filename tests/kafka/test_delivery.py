"""A commit is asked for when every record is with the brokers, or as soon as one is refused: a client that does as it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from odradek_runtime.log.kafka.contents import Contents
from odradek_runtime.log.kafka.producer import TransactionalProducer, TransactionFailedError

if TYPE_CHECKING:
    from odradek_runtime.log.kafka.clients import Clients
    from odradek_runtime.log.kafka.connection import CoordinatorWatch
    from odradek_runtime.log.kafka.trouble import TroubleReporter

RECORDS = 5


class SlowClient:
    """Delivers one record for each time that it is waited for; refuses the one at which `refused` are left."""

    def __init__(self, watch: CoordinatorWatch, refused: int) -> None:
        self._watch = watch
        self._refused = refused
        self.undelivered = 0
        self.asked_with = -1
        """So many were undelivered when the commit was asked for."""

    def begin_transaction(self) -> None:
        pass

    def produce(self, *record: object) -> None:
        self.undelivered += 1

    def send_offsets_to_transaction(self, *offsets: object) -> None:
        pass

    def poll(self, timeout_s: float) -> int:
        return 0

    def flush(self, timeout_s: float) -> int:
        if self.undelivered == self._refused:
            self._watch.failed = "it is too large"
        else:
            self.undelivered -= 1
        return self.undelivered

    def commit_transaction(self, timeout_s: float) -> None:
        self.asked_with = self.undelivered


class FencedClient(SlowClient):
    """Hears while it delivers that another producer has its name: librdkafka's flush raises fatal errors, too."""

    def flush(self, timeout_s: float) -> int:
        raise KafkaException(KafkaError(KafkaError._FENCED, fatal=True))


class OneClient:
    """`Clients` that hand out the slow one."""

    def __init__(self, refused: int = -1, kind: type[SlowClient] = SlowClient) -> None:
        self._refused = refused
        self._kind = kind

    def producer(self, name: str, options: object, on_error: object, watch: CoordinatorWatch) -> SlowClient:
        self.made = self._kind(watch, self._refused)
        return self.made


class Reporter:
    def error(self, error: object) -> None:
        raise AssertionError(error)


def asked_with(clients: OneClient) -> int:
    producer = TransactionalProducer(cast("Clients", clients), cast("TroubleReporter", Reporter()), "id", 10.0, 1_000)
    producer.fill(Contents([("out", 0, b"k", b"v", None, 0)] * RECORDS, [], [], b""))
    producer.commit()
    return clients.made.asked_with


def test_a_commit_is_asked_for_when_all_is_delivered() -> None:
    assert asked_with(OneClient()) == 0


def test_a_refused_record_is_not_waited_for_nor_those_behind_it() -> None:
    assert asked_with(OneClient(refused=3)) == 3


def test_a_producer_that_is_fenced_while_it_delivers_says_so() -> None:
    with pytest.raises(TransactionFailedError) as failed:
        asked_with(OneClient(kind=FencedClient))

    assert (failed.value.reason, failed.value.spent) == ("fenced", True)
