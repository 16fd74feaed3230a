"""Reading through a member: positions, generations, pauses, and no more outstanding than a few batches."""

from odradek_runtime.log.port import Log, Message, Output, Partition, Records
from tests.contract.station import Station, content, publish


def numbers(topic: str, partition: int, start: int, stop: int) -> list[Output]:
    """Records whose values are these numbers."""
    return [Output(topic, partition, b"k", b"%d" % n) for n in range(start, stop)]


def texts(messages: list[Message]) -> list[bytes | None]:
    return [message.value() for message in messages]


def test_records_arrive_in_the_order_of_their_partition(log: Log, topic: str, station: Station) -> None:
    publish(log, numbers(topic, 0, 0, 1500) + numbers(topic, 1, 0, 1500))

    station.member.read({Partition(topic, 0): 0, Partition(topic, 1): 0}, 1)
    found = station.messages(3000)

    for partition in (0, 1):
        mine = [m for m in found if m.partition() == partition]
        assert texts(mine) == [b"%d" % n for n in range(1500)]
        assert [m.offset() for m in mine] == [m.offset() for m in content(log, Partition(topic, partition))]


def test_a_batch_has_at_most_two_thousand_records_and_its_generation(log: Log, topic: str, station: Station) -> None:
    publish(log, numbers(topic, 0, 0, 5000))

    station.member.read({Partition(topic, 0): 0}, 5)

    count = 0
    for records in station.batches():
        assert 0 < len(records.messages) <= 2000
        assert records.generation == 5
        count += len(records.messages)
        if count == 5000:
            break


def test_reading_begins_at_the_given_offset(log: Log, topic: str, station: Station) -> None:
    publish(log, numbers(topic, 0, 0, 10))
    offset = content(log, Partition(topic, 0))[6].offset()

    station.member.read({Partition(topic, 0): offset}, 1)

    assert texts(station.messages(4)) == [b"6", b"7", b"8", b"9"]


def test_new_records_arrive_while_reading(log: Log, topic: str, station: Station) -> None:
    station.member.read({Partition(topic, 0): 0, Partition(topic, 1): 0}, 1)

    for n in range(5):
        publish(log, numbers(topic, n % 2, n, n + 1))
        assert texts(station.messages(1)) == [b"%d" % n]


def test_records_of_the_own_commit_arrive(topic: str, station: Station) -> None:
    station.member.read({Partition(topic, 0): 0}, 1)

    station.committed(station.transaction(outputs=numbers(topic, 0, 0, 3)))

    assert texts(station.messages(3)) == [b"0", b"1", b"2"]


def test_another_read_repositions_and_marks_older_batches_stale(log: Log, topic: str, station: Station) -> None:
    publish(log, numbers(topic, 0, 0, 9000))
    offset = content(log, Partition(topic, 0))[8990].offset()
    station.member.read({Partition(topic, 0): 0}, 1)
    held = station.wait(Records)

    station.member.read({Partition(topic, 0): offset}, 2)
    held.taken()

    fresh: list[Message] = []
    for records in station.batches():
        assert records.generation in (1, 2)
        fresh += records.messages if records.generation == 2 else []
        if len(fresh) >= 10:
            break
    assert texts(fresh) == [b"%d" % n for n in range(8990, 9000)]


def test_repositioning_one_partition_leaves_the_others(log: Log, topic: str, station: Station) -> None:
    publish(log, numbers(topic, 0, 0, 5) + numbers(topic, 1, 0, 5))
    station.member.read({Partition(topic, 0): 0, Partition(topic, 1): 0}, 1)
    station.messages(10)

    station.member.read({Partition(topic, 1): 0}, 2)
    again = station.messages(5)
    publish(log, numbers(topic, 0, 5, 6))

    assert {m.partition() for m in again} == {1}
    assert texts(station.messages(1)) == [b"5"]


def test_a_paused_partition_keeps_its_position(log: Log, topic: str, station: Station) -> None:
    both = [Partition(topic, 0), Partition(topic, 1)]
    publish(log, numbers(topic, 0, 0, 5))
    station.member.read(dict.fromkeys(both, 0), 1)
    station.messages(5)

    station.member.pause([both[0]])
    publish(log, numbers(topic, 0, 5, 10) + numbers(topic, 1, 100, 105))
    flowing = station.messages(5)
    station.silence(Records)
    station.member.resume([both[0]])

    assert texts(flowing) == [b"%d" % n for n in range(100, 105)]
    assert texts(station.messages(5)) == [b"%d" % n for n in range(5, 10)]


def test_a_partition_no_longer_read_is_silent_until_it_is_read_again(log: Log, topic: str, station: Station) -> None:
    publish(log, numbers(topic, 0, 0, 2))
    station.member.read({Partition(topic, 0): 0}, 1)
    station.messages(2)

    station.member.stop_reading([Partition(topic, 0)])
    publish(log, numbers(topic, 0, 2, 4))
    station.silence(Records)
    station.member.read({Partition(topic, 0): content(log, Partition(topic, 0))[1].offset()}, 2)

    assert texts(station.messages(3)) == [b"1", b"2", b"3"]


def test_pausing_what_is_not_read_does_no_harm(log: Log, topic: str, station: Station) -> None:
    station.member.pause([Partition(topic, 0)])
    station.member.resume([Partition(topic, 0)])
    station.member.stop_reading([Partition(topic, 0)])
    publish(log, numbers(topic, 0, 0, 1))

    station.member.read({Partition(topic, 0): 0}, 1)

    assert texts(station.messages(1)) == [b"0"]


def test_only_a_few_batches_are_outstanding(log: Log, topic: str, station: Station) -> None:
    for start in range(0, 20_000, 5_000):
        publish(log, numbers(topic, 0, start, start + 5_000))
    station.member.read({Partition(topic, 0): 0}, 1)

    held = station.drain(Records)

    assert 1 <= len(held) <= 4
    assert sum(len(records.messages) for records in held) <= 6_000
    for records in held:
        records.taken()
    found = [m for records in held for m in records.messages] + station.messages(
        20_000 - sum(len(records.messages) for records in held)
    )
    assert texts(found) == [b"%d" % n for n in range(20_000)]


def test_nothing_arrives_after_leaving(log: Log, topic: str, station: Station) -> None:
    station.member.read({Partition(topic, 0): 0}, 1)
    publish(log, numbers(topic, 0, 0, 1))
    station.messages(1)

    station.leave()
    publish(log, numbers(topic, 0, 1, 2))

    station.silence(Records)
