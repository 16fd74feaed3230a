"""Records: what is written comes back as it was, where it should, in order."""

import os
import time

import pytest

from odradek_runtime.log.port import Headers, Log, LogError, Output, Partition
from tests.contract.station import content, publish, values

MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
"""Hashes that Kafka's own tests give for these keys."""


@pytest.mark.parametrize("partitions", [2, 7])
def test_a_key_goes_to_the_partition_that_kafka_gives_it(log: Log, topic_prefix: str, partitions: int) -> None:
    log.create_topic(topic_prefix, partitions, {})

    publish(log, [Output(topic_prefix, None, key, b"v") for key in MURMUR2])

    found = {m.key(): p for p in range(partitions) for m in content(log, Partition(topic_prefix, p))}
    assert found == {key: (hash_ & 0x7FFFFFFF) % partitions for key, hash_ in MURMUR2.items()}


def test_a_record_without_key_goes_somewhere(log: Log, topic: str) -> None:
    publish(log, [Output(topic, None, None, b"%d" % n) for n in range(10)])

    found = [value for p in range(2) for value in values(log, Partition(topic, p))]
    assert sorted(v for v in found if v is not None) == [b"%d" % n for n in range(10)]


def test_a_given_partition_wins_over_the_key(log: Log, topic: str) -> None:
    publish(log, [Output(topic, p, b"same", b"%d" % p) for p in (0, 1)])

    assert [values(log, Partition(topic, p)) for p in (0, 1)] == [[b"0"], [b"1"]]


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (b"k", b"v", None),
        (None, b"v", None),
        (b"k", None, None),
        (None, None, None),
        (b"", b"", [("", b"")]),
        (b"\x00\xff" * 200, bytes(range(256)) * 100, None),
        (b"k", b"v", [("a", b"1"), ("b", None), ("a", b"2"), ("é", b"\x00" * 300)]),
        (None, None, [("trace", b"x")]),
    ],
)
def test_a_record_comes_back_as_it_was(
    log: Log, topic: str, key: bytes | None, value: bytes | None, headers: Headers | None
) -> None:
    publish(log, [Output(topic, 1, key, value, headers, 1_700_000_000_123)])

    (message,) = content(log, Partition(topic, 1))

    assert (message.topic(), message.partition(), message.offset()) == (topic, 1, 0)
    assert (message.key(), message.value()) == (key, value)
    assert list(message.headers() or []) == list(headers or [])
    assert message.timestamp() == (1, 1_700_000_000_123)


def test_a_record_without_a_time_gets_the_present_one(log: Log, topic: str) -> None:
    before_ms = int(time.time() * 1000)
    publish(log, [Output(topic, 0, b"k", b"v")])
    after_ms = int(time.time() * 1000)

    (message,) = content(log, Partition(topic, 0))

    assert message.timestamp()[0] == 1
    assert before_ms <= message.timestamp()[1] <= after_ms


def test_a_partition_keeps_the_order_of_writing(log: Log, topic: str) -> None:
    for start in range(0, 30, 10):
        publish(log, [Output(topic, 0, b"k%d" % (n % 3), b"%d" % n) for n in range(start, start + 10)])

    found = content(log, Partition(topic, 0))

    assert [m.value() for m in found] == [b"%d" % n for n in range(30)]
    offsets = [m.offset() for m in found]
    assert offsets == sorted(set(offsets))


def test_a_scan_gives_exactly_the_offsets_asked_for(log: Log, topic: str) -> None:
    publish(log, [Output(topic, 0, b"k", b"%d" % n) for n in range(10)])
    offsets = [m.offset() for m in content(log, Partition(topic, 0))]

    found = [m.value() for batch in log.scan(Partition(topic, 0), offsets[3], offsets[7]) for m in batch]

    assert found == [b"3", b"4", b"5", b"6"]
    assert list(log.scan(Partition(topic, 0), offsets[5], offsets[5])) == []


def test_a_long_scan_comes_in_batches(log: Log, topic: str) -> None:
    publish(log, [Output(topic, 0, b"k", b"%d" % n) for n in range(3_500)])

    batches = list(log.scan(Partition(topic, 0), *log.offsets(Partition(topic, 0))))

    assert all(0 < len(batch) <= 1_000 for batch in batches)
    assert [m.value() for batch in batches for m in batch] == [b"%d" % n for n in range(3_500)]


def test_what_comes_during_a_scan_is_not_part_of_it(log: Log, topic: str) -> None:
    publish(log, [Output(topic, 0, b"k", b"old")])

    scan = log.scan(Partition(topic, 0), *log.offsets(Partition(topic, 0)))
    publish(log, [Output(topic, 0, b"k", b"new")])

    assert [m.value() for batch in scan for m in batch] == [b"old"]


def test_a_publisher_goes_on_where_it_was(log: Log, topic: str, topic_prefix: str) -> None:
    first = log.publisher(topic_prefix)
    assert first.position() == 0
    first.publish([Output(topic, 0, b"k", b"a"), Output(topic, 1, b"k", b"b")], 2)
    first.publish([Output(topic, 0, b"k", b"c")], 7)
    assert first.position() == 7
    first.close()

    again = log.publisher(topic_prefix)

    assert again.position() == 7
    assert log.publisher(f"{topic_prefix}-other").position() == 0
    again.publish([], 9)
    assert again.position() == 9
    assert values(log, Partition(topic, 0)) == [b"a", b"c"]


def test_a_newer_publisher_of_the_same_name_fences_the_older(log: Log, topic: str, topic_prefix: str) -> None:
    older = log.publisher(topic_prefix)
    older.publish([Output(topic, 0, b"k", b"a")], 1)
    newer = log.publisher(topic_prefix)
    assert newer.position() == 1

    with pytest.raises(LogError) as refused:
        older.publish([Output(topic, 0, b"k", b"twice")], 2)

    assert not refused.value.retriable
    newer.publish([Output(topic, 0, b"k", b"b")], 2)
    assert values(log, Partition(topic, 0)) == [b"a", b"b"]
    assert newer.position() == 2


def test_a_bad_record_leaves_nothing_of_its_batch(log: Log, topic: str, topic_prefix: str) -> None:
    publisher = log.publisher(topic_prefix)

    with pytest.raises(LogError):
        publisher.publish([Output(topic, 0, b"k", b"good"), Output(topic, 0, b"k", os.urandom(2_000_000))], 2)

    publisher = log.publisher(topic_prefix)
    assert publisher.position() == 0
    assert values(log, Partition(topic, 0)) == []
    publisher.publish([Output(topic, 0, b"k", b"good")], 1)
    assert values(log, Partition(topic, 0)) == [b"good"]


def test_a_sparing_scan_holds_little_at_once_and_gives_all(log: Log, topic: str) -> None:
    for number in range(4):
        publish(log, [Output(topic, 0, None, b"%04d" % n + os.urandom(100_000)) for n in range(16 * number, 16 * number + 16)])
    where = Partition(topic, 0)
    sizes: list[int] = []
    found: list[bytes] = []
    for batch in log.scan(where, *log.offsets(where), sparing=True):
        time.sleep(0.05)  # who takes his time gets no more at once for it
        sizes.append(sum(len(message.value() or b"") for message in batch))
        found += [(message.value() or b"")[:4] for message in batch]
    assert found == [b"%04d" % n for n in range(64)]
    assert max(sizes) <= 1_600_000
