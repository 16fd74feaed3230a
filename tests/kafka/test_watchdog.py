"""A call to Kafka that never returns does not hold up the epochs behind it (librdkafka #5456, #5511)."""

import threading
from collections.abc import Callable

import pytest

from odradek_runtime.log.kafka import KafkaLog, committer, publisher, writer
from odradek_runtime.log.kafka.producer import TransactionalProducer
from odradek_runtime.log.port import Committed, Log, LogError, Output, Partition, Refused
from tests.contract.station import Station, values

Join = Callable[[Log, str], Station]


def hang_once(monkeypatch: pytest.MonkeyPatch, call: str) -> Callable[[], None]:
    """Let the next call of that name hang. What is returned lets it go on, and ends when its thread has."""
    freed, original = threading.Event(), getattr(TransactionalProducer, call)
    stuck: list[threading.Thread] = []

    def hanging(producer: TransactionalProducer) -> object:
        if not stuck:
            stuck.append(threading.current_thread())
            assert freed.wait(30)
        return original(producer)

    def free() -> None:
        freed.set()
        stuck[0].join(30)
        assert not stuck[0].is_alive()

    monkeypatch.setattr(TransactionalProducer, call, hanging)
    return free


@pytest.mark.parametrize(("call", "reason"), [("_write_offsets", "aborted"), ("commit", "unknown")])
def test_a_stuck_call_is_abandoned_and_settled(
    kafka: str, app: str, topic: str, join: Join, monkeypatch: pytest.MonkeyPatch, call: str, reason: str
) -> None:
    monkeypatch.setattr(writer, "GRACE_S", 0.2)
    monkeypatch.setattr(committer, "LOOK_S", 0.1)
    log = KafkaLog(kafka, transaction_timeout_s=1.0, producer_processes=False)
    station = join(log, app).own({0, 1})
    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"before")]))
    free = hang_once(monkeypatch, call)

    refused = station.refused(station.transaction([0], [Output(topic, 0, b"k", b"stuck")]))
    assert (refused.reason, refused.poison) == (reason, False)
    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"after")]))
    free()

    station.silence(Refused)
    station.silence(Committed)
    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"last")]))
    assert values(log, Partition(topic, 0)) == [b"before", b"after", b"last"]
    station.leave()
    log.close()


@pytest.mark.parametrize("call", ["_write_offsets", "commit"])
def test_a_publisher_gives_up_a_stuck_call(
    kafka: str, topic: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(publisher, "GRACE_S", 0.2)
    log = KafkaLog(kafka, transaction_timeout_s=5.0)
    writing = log.publisher(topic_prefix)
    writing.publish([Output(topic, 0, b"k", b"before")], 1)
    free = hang_once(monkeypatch, call)

    with pytest.raises(LogError, match="no answer within") as refused:
        writing.publish([Output(topic, 0, b"k", b"stuck")], 2)
    assert refused.value.retriable
    assert writing.position() == 1
    writing.publish([Output(topic, 0, b"k", b"after")], 2)
    free()

    writing.publish([Output(topic, 0, b"k", b"last")], 3)
    assert values(log, Partition(topic, 0)) == [b"before", b"after", b"last"]
    writing.close()
    log.close()
