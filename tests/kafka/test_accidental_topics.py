"""Topics are never created by accident, though the broker would create any that is asked for the wrong way."""

from collections.abc import Callable

import pytest
from confluent_kafka import Producer

from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.port import Log, LogError, Output, Partition, Trouble
from tests.contract.station import Station
from tests.kafka.raw import eventually

Join = Callable[[Log, str], Station]


def test_the_broker_creates_topics_for_plain_producers(kafka: str, log: KafkaLog, topic_prefix: str) -> None:
    """Else this file would prove nothing."""
    producer = Producer({"bootstrap.servers": kafka, "log_level": 0})
    producer.produce(f"{topic_prefix}-by-accident", b"v")
    producer.flush(30)

    eventually(lambda: f"{topic_prefix}-by-accident" in log.topics())


def test_no_question_creates_a_topic(log: KafkaLog, topic_prefix: str) -> None:
    absent = Partition(f"{topic_prefix}-absent", 0)

    assert log.topic(absent.topic) is None
    for ask in (
        lambda: log.offsets(absent),
        lambda: log.offset_at(absent, 0),
        lambda: log.trim(absent, 1),
        lambda: list(log.scan(absent, 0, 1)),
    ):
        with pytest.raises(LogError):
            ask()

    assert absent.topic not in log.topics()


def test_no_write_creates_a_topic(log: KafkaLog, app: str, topic: str, topic_prefix: str, join: Join) -> None:
    absent = f"{topic_prefix}-other.commands"
    station = join(log, app).own({0, 1})

    refused = station.refused(station.transaction([0], [Output(absent, None, b"k", b"v")]))
    publisher = log.publisher(topic_prefix)
    with pytest.raises(LogError, match="does not exist"):
        publisher.publish([Output(absent, None, b"k", b"v")], 1)
    publisher.close()

    assert not refused.poison, "the record is not to blame"
    assert refused.refusal is not None and refused.refusal.resource == absent
    assert absent in refused.message
    assert absent not in log.topics()


def test_no_subscription_or_read_creates_a_topic(log: KafkaLog, topic_prefix: str, join: Join) -> None:
    station = join(log, f"{topic_prefix}-noapp")  # its commands topic is not there
    station.member.read({Partition(f"{topic_prefix}-absent", 0): 0}, 1)
    station.wait(Trouble)

    assert [name for name in log.topics() if name.startswith(topic_prefix)] == []
