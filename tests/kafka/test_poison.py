"""One bad record is refused as poison, quickly, and neither its neighbours' next attempt nor the producer is harmed."""

import os
import time
from collections.abc import Callable

import pytest

from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.port import Log, Output, Partition
from tests.contract.station import Station, values
from tests.kafka.raw import delete_topic, eventually

Join = Callable[[Log, str], Station]


def too_big_for_the_broker(topic: str) -> Output:
    return Output(topic, 0, b"k", os.urandom(5_000_000))


def too_big_for_any_request(topic: str) -> Output:
    return Output(topic, 0, b"k", bytes(80_000_000))


def from_the_future(topic: str) -> Output:
    return Output(topic, 0, b"k", b"v", None, int((time.time() + 7200) * 1000))


def to_a_partition_that_is_not(topic: str) -> Output:
    return Output(topic, 7, b"k", b"v")


def to_a_name_that_cannot_be(_: str) -> Output:
    return Output("no topic!", None, b"k", b"v")


@pytest.mark.parametrize(
    "bad",
    [
        too_big_for_the_broker,
        too_big_for_any_request,
        from_the_future,
        to_a_partition_that_is_not,
        to_a_name_that_cannot_be,
    ],
)
def test_a_bad_record_is_poison_and_harms_nothing_else(
    log: KafkaLog, app: str, topic: str, join: Join, bad: Callable[[str], Output]
) -> None:
    station = join(log, app).own({0, 1})

    refused = station.refused(station.transaction([0], [Output(topic, 0, b"k", b"good"), bad(topic)]))

    assert (refused.reason, refused.poison) == ("aborted", True), refused
    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"good")]))
    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"next")]))
    assert values(log, Partition(topic, 0)) == [b"good", b"next"]


def test_a_record_without_a_key_is_poison_to_a_compacted_topic(log: KafkaLog, app: str, topic_prefix: str, join: Join) -> None:
    compacted = log.create_topic(f"{topic_prefix}-compacted", 1, {"cleanup.policy": "compact"}).name
    station = join(log, app).own({0, 1})

    outputs = [Output(compacted, 0, b"k", b"v"), Output(compacted, 0, None, b"v")]
    refused = station.refused(station.transaction([0], outputs))

    assert (refused.reason, refused.poison) == ("aborted", True), refused
    assert compacted in refused.message
    station.committed(station.transaction([0], [Output(compacted, 0, b"k", b"v")]))


def test_a_topics_own_limit_counts_for_each_record_not_for_their_batch(
    log: KafkaLog, app: str, topic_prefix: str, join: Join
) -> None:
    small = log.create_topic(f"{topic_prefix}-small", 1, {"max.message.bytes": "1000"}).name
    station = join(log, app).own({0, 1})

    station.committed(station.transaction([0], [Output(small, 0, b"k", os.urandom(400)) for _ in range(20)]))
    refused = station.refused(station.transaction([0], [Output(small, 0, b"k", os.urandom(2000))]))

    assert (refused.reason, refused.poison) == ("aborted", True), refused
    assert len(values(log, Partition(small, 0))) == 20


def test_a_topic_deleted_under_way_is_no_records_fault(kafka: str, log: KafkaLog, app: str, topic_prefix: str, join: Join) -> None:
    doomed = log.create_topic(f"{topic_prefix}-doomed", 1, {}).name
    station = join(log, app).own({0, 1})
    station.committed(station.transaction([0], [Output(doomed, 0, b"k", b"v")]))
    delete_topic(kafka, doomed)
    eventually(lambda: log.topic(doomed) is None)

    for _ in range(2):
        refused = station.refused(station.transaction([0], [Output(doomed, 0, b"k", b"v")]))

        assert (refused.reason, refused.poison) == ("aborted", False), refused
        assert refused.refusal is not None and refused.refusal[:2] == (doomed, "Write")
    assert log.topic(doomed) is None
    log.create_topic(doomed, 1, {})
    station.committed(station.transaction([0], [Output(doomed, 0, b"k", b"v")]))



@pytest.mark.parametrize("processes", [True, False])
def test_a_record_too_large_is_poison_though_others_wait_behind_it(
    kafka: str, app: str, topic: str, join: Join, processes: bool
) -> None:
    """They cannot be delivered before the producer has got a new epoch, so the commit waits for them until its time is over."""
    log = KafkaLog(kafka, producer_processes=processes)
    station = join(log, app).own({0, 1})
    behind = [Output(topic, 0, b"k", b"behind") for _ in range(5)]

    refused = station.refused(station.transaction([0], [Output(topic, 0, b"k", b"good"), too_big_for_the_broker(topic), *behind]))

    assert (refused.reason, refused.poison) == ("aborted", True), refused
    assert f"{topic} [0]" in refused.message, "it says which partition took no more"
    station.committed(station.transaction([0], behind))
    assert values(log, Partition(topic, 0)) == [b"behind"] * 5
    log.close()
