"""Stable offsets and last stable offsets: what is pending is waited for, and an end of partition is not the end."""

import threading
import time
from collections.abc import Callable

import pytest
from confluent_kafka import TopicPartition

from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.port import Committed, Log, LogError, Message, Output, Partition
from tests.contract.station import Station, publish, values
from tests.kafka.raw import committed_values, eventually, reader, transactional

Join = Callable[[Log, str], Station]


def test_the_end_event_comes_at_the_last_stable_offset(kafka: str, log: KafkaLog, topic: str) -> None:
    """The experiment behind the rule: a reader is told "end" while records before the true end are pending."""
    publish(log, [Output(topic, 0, b"k", b"done")], topic)
    producer = transactional(kafka, f"{topic}-raw")
    producer.begin_transaction()
    producer.produce(topic, b"pending", b"k", 0)
    eventually(lambda: log.offsets(Partition(topic, 0))[1] == 3)

    assert committed_values(kafka, topic) == [b"done"]  # ended by an end-of-partition event, short of offset 3

    producer.commit_transaction(10)
    assert committed_values(kafka, topic) == [b"done", b"pending"]


@pytest.mark.parametrize("commits", [True, False])
def test_a_scan_waits_for_what_is_pending_before_its_end(kafka: str, log: KafkaLog, topic: str, commits: bool) -> None:
    publish(log, [Output(topic, 0, b"k", b"done")], topic)
    producer = transactional(kafka, f"{topic}-raw")
    producer.begin_transaction()
    producer.produce(topic, b"pending", b"k", 0)
    partition = Partition(topic, 0)
    eventually(lambda: log.offsets(partition)[1] == 3)
    found: list[Message] = []
    ended = threading.Event()

    def scan() -> None:
        for batch in log.scan(partition, 0, 3):
            found.extend(batch)
        ended.set()

    thread = threading.Thread(target=scan)
    thread.start()
    eventually(lambda: len(found) == 1)
    assert not ended.wait(0.5)

    (producer.commit_transaction if commits else producer.abort_transaction)(10)
    thread.join(10)

    assert ended.is_set()
    assert [message.value() for message in found] == ([b"done", b"pending"] if commits else [b"done"])


def test_a_scan_that_stands_still_says_why(kafka: str, topic: str) -> None:
    log = KafkaLog(kafka, scan_stall_s=1.0)
    producer = transactional(kafka, f"{topic}-raw")
    producer.begin_transaction()
    producer.produce(topic, b"pending", b"k", 0)
    eventually(lambda: log.offsets(Partition(topic, 0))[1] == 1)

    with pytest.raises(LogError, match="transaction was left open"):
        list(log.scan(Partition(topic, 0), 0, 1))

    producer.abort_transaction(10)
    assert list(log.scan(Partition(topic, 0), 0, 1)) == []
    log.close()


def test_settling_waits_for_a_pending_offset(kafka: str, log: KafkaLog, app: str, topic: str) -> None:
    member = log.member(app, 2, None)
    consumer = reader(kafka, app)
    producer = transactional(kafka, f"{app}-raw")
    producer.begin_transaction()
    position = TopicPartition(f"{app}.commands", 0, 8)
    producer.send_offsets_to_transaction([position], consumer.consumer_group_metadata(), 10)
    later = threading.Timer(1.0, lambda: producer.commit_transaction(10))
    later.start()
    began_at = time.monotonic()

    assert member.settle(0) == 8

    assert time.monotonic() - began_at >= 0.9
    later.join()
    consumer.close()


def test_the_next_epoch_produces_nothing_before_the_last_has_ended(log: KafkaLog, app: str, topic: str, join: Join) -> None:
    """Two transactions at once inverted the order of a key in 23 of 50 epochs: the second is not accepted."""
    station = join(log, app).own({0, 1})
    first = station.transaction([0], [Output(topic, 0, b"k", b"1")])
    second = station.transaction([0], [Output(topic, 0, b"k", b"2")])

    station.member.commit(first)
    with pytest.raises(ValueError, match="before epoch"):
        station.member.commit(second)

    station.wait(Committed, lambda event: event.epoch == first.epoch)
    station.committed(second)
    assert values(log, Partition(topic, 0)) == [b"1", b"2"]


def test_an_epoch_that_fails_leaves_the_order_of_its_key(log: KafkaLog, app: str, topic: str, join: Join) -> None:
    station = join(log, app).own({0, 1})
    expected: list[bytes] = []
    for number in range(20):
        value = b"%d" % number
        outputs = [Output(topic, 0, b"k", value)]
        if number % 5 == 4:
            assert station.refused(station.transaction([0], [*outputs, Output(topic, 9, b"k", b"")])).poison
        station.committed(station.transaction([0], outputs))
        expected.append(value)

    assert values(log, Partition(topic, 0)) == expected


def test_an_epoch_larger_than_the_local_queue_commits_whole(kafka: str, app: str, topic: str, join: Join) -> None:
    log = KafkaLog(kafka, options={"queue.buffering.max.messages": "500"})
    station = join(log, app).own({0, 1})
    transaction = station.transaction([0], [Output(topic, 0, b"k", b"%d" % number) for number in range(5_000)])
    transaction.state[0] = [(b"k%d" % number, b"v") for number in range(2_000)]

    position = station.committed(transaction).positions[0].state

    assert position == 2_000
    assert values(log, Partition(topic, 0)) == [b"%d" % number for number in range(5_000)]
    station.leave()
    log.close()
