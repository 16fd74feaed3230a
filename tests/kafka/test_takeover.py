"""Takeover of what a dead worker left: its pending transaction is ended by the heir, not by the broker's patience."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.port import Log, LogError, Output, Partition
from tests.contract.station import Station, values
from tests.kafka.raw import committed_values, offsets_transaction, reader, transactional

Join = Callable[[Log, str], Station]
ROOT = Path(__file__).parents[2]


def start_worker_with_a_pending_transaction(servers: str, app: str, topic: str) -> subprocess.Popen[bytes]:
    """A worker process that owns the app's shards, has committed offset 3, and stands in the middle of its next commit."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.kafka.pending_worker", servers, app, topic], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert worker.stdout is not None
    line = worker.stdout.readline()
    assert line == b"pending\n", line
    return worker


@pytest.mark.faults
def test_a_killed_workers_transaction_is_ended_by_its_heir(kafka: str, log: KafkaLog, app: str, topic: str) -> None:
    heir_log = KafkaLog(kafka)
    worker = start_worker_with_a_pending_transaction(kafka, app, topic)
    heir = Station(heir_log, app, 2).join()
    os.kill(worker.pid, signal.SIGKILL)
    killed_at = time.monotonic()
    worker.wait()
    assert worker.stdout is not None
    worker.stdout.close()

    heir.own({0, 1})
    assert heir.member.settle(0) == 3
    took_s = time.monotonic() - killed_at

    # The broker alone would have waited for the transaction's own timeout, 60 s in that worker; the session takes 6.
    assert took_s < 30, took_s
    assert values(log, Partition(topic, 0)) == [b"committed"]
    heir.committed(heir.transaction([0, 1], [Output(topic, 0, b"k", b"heir")]))
    assert committed_values(kafka, topic) == [b"committed", b"heir"]
    heir.leave()
    heir_log.close()


def test_a_living_owner_is_not_fenced_by_a_question(log: KafkaLog, app: str, topic: str, join: Join) -> None:
    station = join(log, app).own({0, 1})
    nine = {Partition(f"{app}.commands", 0): 9}
    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"1")], offsets=nine))
    asker = log.member(app, 2, None)

    assert asker.settle(0) == 9

    for number in (b"2", b"3"):
        station.committed(station.transaction([0], [Output(topic, 0, b"k", number)]))


def test_a_foreign_mark_is_no_reason_to_fence(kafka: str, log: KafkaLog, app: str, topic: str) -> None:
    consumer = reader(kafka, app)
    producer = transactional(kafka, f"{app}-foreign")
    position = TopicPartition(f"{app}.commands", 1, 4, "left by somebody else")

    assert offsets_transaction(producer, (topic, b"v"), position, consumer.consumer_group_metadata()) == "committed"

    assert log.member(app, 2, None).settle(1) == 4
    consumer.close()


def test_an_offset_that_stays_pending_is_an_error_to_be_repeated(kafka: str, app: str, topic: str) -> None:
    log = KafkaLog(kafka, transaction_timeout_s=1.0, request_timeout_s=2.0)
    consumer = reader(kafka, app)
    producer = transactional(kafka, f"{app}-pending")
    producer.begin_transaction()
    producer.produce(topic, b"v")
    position = TopicPartition(f"{app}.commands", 0, 4)
    producer.send_offsets_to_transaction([position], consumer.consumer_group_metadata(), 10)

    with pytest.raises(LogError) as unsettled:
        log.member(app, 2, None).settle(0)

    assert unsettled.value.retriable
    producer.commit_transaction(10)
    assert log.member(app, 2, None).settle(0) == 4
    consumer.close()
    log.close()
