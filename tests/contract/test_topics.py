"""Topics: made once, never by accident; offsets, times, trimming."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from odradek_runtime.log.port import Log, LogError, Output, Partition
from tests.contract.station import content, publish, values


def test_a_created_topic_is_described(log: Log, topic_prefix: str) -> None:
    made = log.create_topic(topic_prefix, 3, {"cleanup.policy": "compact", "retention.ms": "-1"})

    assert (made.name, made.partitions) == (topic_prefix, 3)
    assert made.config["cleanup.policy"] == "compact"
    assert made.config["retention.ms"] == "-1"
    assert made.id
    assert log.topic(topic_prefix) == made


def test_asking_for_a_topic_does_not_create_it(log: Log, topic_prefix: str) -> None:
    assert log.topic(topic_prefix) is None
    with pytest.raises(LogError):
        log.offsets(Partition(topic_prefix, 0))
    assert log.topic(topic_prefix) is None
    assert topic_prefix not in log.topics()


def test_creating_a_topic_again_returns_what_exists(log: Log, topic_prefix: str) -> None:
    made = log.create_topic(topic_prefix, 3, {})

    again = log.create_topic(topic_prefix, 5, {})

    assert (again.id, again.partitions) == (made.id, 3)


def test_workers_may_race_to_create_a_topic(log: Log, topic_prefix: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        racing = [pool.submit(log.create_topic, topic_prefix, 2, {}) for _ in range(8)]
        made = [race.result() for race in racing]

    assert {(info.id, info.partitions) for info in made} == {(made[0].id, 2)}


def test_topics_have_ids_of_their_own_and_are_listed_in_order(log: Log, topic_prefix: str) -> None:
    names = [f"{topic_prefix}-{letter}" for letter in "cab"]
    ids = {log.create_topic(name, 1, {}).id for name in names}

    assert len(ids) == 3
    assert [name for name in log.topics() if name.startswith(topic_prefix)] == sorted(names)


@pytest.mark.parametrize(("name", "partitions"), [("no spaces", 1), ("", 1), ("zero-partitions", 0)])
def test_what_cannot_be_a_topic_is_refused(log: Log, name: str, partitions: int) -> None:
    with pytest.raises(LogError):
        log.create_topic(name, partitions, {})


def test_an_empty_partition_begins_where_it_ends(log: Log, topic: str) -> None:
    assert log.offsets(Partition(topic, 0)) == (0, 0)
    assert content(log, Partition(topic, 0)) == []


def test_the_end_lies_behind_the_last_record(log: Log, topic: str) -> None:
    publish(log, [Output(topic, 0, b"k", b"%d" % n) for n in range(3)])

    first, end = log.offsets(Partition(topic, 0))

    offsets = [message.offset() for message in content(log, Partition(topic, 0))]
    assert first == offsets[0] == 0
    assert offsets[-1] < end
    assert log.offsets(Partition(topic, 1)) == (0, 0)


def test_an_unknown_partition_is_an_error(log: Log, topic: str) -> None:
    with pytest.raises(LogError):
        log.offsets(Partition(topic, 2))
    with pytest.raises(LogError):
        list(log.scan(Partition(topic, 2), 0, 1))


def test_a_time_finds_the_first_record_at_or_after_it(log: Log, topic: str) -> None:
    now_ms = int(time.time() * 1000)
    publish(log, [Output(topic, 0, b"k", b"v", None, now_ms + n * 1000) for n in range(5)])
    offsets = [message.offset() for message in content(log, Partition(topic, 0))]

    found = [log.offset_at(Partition(topic, 0), now_ms + after) for after in (-5000, 0, 1, 1000, 3999, 4000)]

    assert found == [offsets[n] for n in (0, 0, 1, 1, 4, 4)]


def test_a_time_after_every_record_finds_the_end(log: Log, topic: str) -> None:
    publish(log, [Output(topic, 0, b"k", b"v", None, int(time.time() * 1000))])

    later_ms = int(time.time() * 1000) + 3_600_000
    assert log.offset_at(Partition(topic, 0), later_ms) == log.offsets(Partition(topic, 0))[1]
    assert log.offset_at(Partition(topic, 1), 0) == log.offsets(Partition(topic, 1))[1]


def test_the_time_of_the_next_record_is_told(log: Log, topic: str) -> None:
    now_ms = int(time.time() * 1000)
    publish(log, [Output(topic, 0, b"k", b"v", None, now_ms - 1000 * n) for n in (3, 1, 2)])
    first, second, third = (message.offset() for message in content(log, Partition(topic, 0)))
    end = log.offsets(Partition(topic, 0))[1]

    times = [log.times_at({Partition(topic, 0): at, Partition(topic, 1): 0}) for at in (first, second, third, third + 1, end)]

    assert times == [{Partition(topic, 0): now_ms - 1000 * n} for n in (3, 1, 2)] + [{}, {}]


def test_trimmed_records_are_gone_and_the_rest_keep_their_offsets(log: Log, topic: str) -> None:
    publish(log, [Output(topic, 0, b"k", b"%d" % n) for n in range(10)])
    before = content(log, Partition(topic, 0))

    log.trim(Partition(topic, 0), before[6].offset())

    first, end = log.offsets(Partition(topic, 0))
    assert first == before[6].offset()
    assert values(log, Partition(topic, 0)) == [b"6", b"7", b"8", b"9"]
    with pytest.raises(LogError):
        list(log.scan(Partition(topic, 0), first - 1, end))


def test_trimming_below_the_beginning_changes_nothing(log: Log, topic: str) -> None:
    publish(log, [Output(topic, 0, b"k", b"%d" % n) for n in range(4)])
    log.trim(Partition(topic, 0), 2)

    log.trim(Partition(topic, 0), 1)

    assert log.offsets(Partition(topic, 0))[0] == 2
    assert values(log, Partition(topic, 0)) == [b"2", b"3"]


def test_a_partition_trimmed_to_its_end_goes_on_there(log: Log, topic: str) -> None:
    publish(log, [Output(topic, 0, b"k", b"old")])
    end = log.offsets(Partition(topic, 0))[1]

    log.trim(Partition(topic, 0), end)
    publish(log, [Output(topic, 0, b"k", b"new")])

    assert log.offsets(Partition(topic, 0))[0] == end
    assert values(log, Partition(topic, 0)) == [b"new"]
    assert content(log, Partition(topic, 0))[0].offset() >= end


def test_a_deleted_topic_is_gone_and_comes_back_as_another(log: Log, topic_prefix: str) -> None:
    made = log.create_topic(topic_prefix, 2, {})
    publish(log, [Output(topic_prefix, 1, b"k", b"v")])

    log.delete_topic(topic_prefix)
    log.delete_topic(topic_prefix)  # it is not there: no error

    assert log.topic(topic_prefix) is None
    again = log.create_topic(topic_prefix, 2, {})
    assert again.id != made.id
    assert log.offsets(Partition(topic_prefix, 1)) == (0, 0)
