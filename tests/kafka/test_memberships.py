"""Both group protocols and static membership: shards are shared, handed over and committed under each."""

from collections.abc import Callable, Iterator

import pytest

from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.port import Log, Losing, Output, Partition
from tests.contract.station import Station, values

Join = Callable[[Log, str], Station]


@pytest.fixture(params=["classic", "consumer"])
def protocol_log(kafka: str, request: pytest.FixtureRequest) -> Iterator[KafkaLog]:
    """A log of each protocol."""
    log = KafkaLog(kafka, group_protocol=request.param)
    yield log
    log.close()


def share(first: Station, second: Station) -> None:
    """Until each has one shard of two."""
    while sorted([*first.stamps, *second.stamps]) != [0, 1] or len(first.stamps) != 1:
        for station in (first, second):
            station.give_up_what_is_asked(0.02)


def test_two_members_share_commit_and_hand_over(protocol_log: KafkaLog, app: str, topic: str, join: Join) -> None:
    first = join(protocol_log, app).own({0, 1})
    first.committed(first.transaction([0, 1], [Output(topic, 0, b"k", b"alone")]))
    second = join(protocol_log, app)
    share(first, second)

    for station in (first, second):
        (mine,) = station.stamps
        commands = {Partition(f"{app}.commands", mine): 10 + mine}
        station.committed(station.transaction([mine], [Output(topic, 1, b"k", b"%d" % mine)], offsets=commands))
    second.leave()
    first.own({0, 1})

    assert [first.member.settle(shard) for shard in (0, 1)] == [10, 11]
    first.committed(first.transaction([0, 1], [Output(topic, 0, b"k", b"again")]))
    assert values(protocol_log, Partition(topic, 0)) == [b"alone", b"again"]
    assert sorted(value or b"" for value in values(protocol_log, Partition(topic, 1))) == [b"0", b"1"]


def test_a_commit_goes_on_while_a_release_is_awaited(protocol_log: KafkaLog, app: str, topic: str, join: Join) -> None:
    """The commit needs the group's metadata while the membership thread stands in its callback."""
    first = join(protocol_log, app).own({0, 1})
    join(protocol_log, app)
    losing = first.wait(Losing)

    for number in range(10):
        first.committed(first.transaction([0, 1], [Output(topic, 0, b"k", b"%d" % number)]))
    first.give_up(losing)

    assert len(values(protocol_log, Partition(topic, 0))) == 10


def test_a_release_that_never_comes_holds_nobody_up_for_ever(kafka: str, app: str, topic: str, join: Join) -> None:
    log = KafkaLog(kafka, release_timeout_s=1.0)
    first = join(log, app).own({0, 1})
    second = join(log, app)
    losing = first.wait(Losing)
    epoch = first.transaction(losing.shards, [Output(topic, 0, b"k", b"too late")])

    second.own(set(losing.shards))

    assert first.refused(epoch).reason == "fenced"
    second.committed(second.transaction(losing.shards, [Output(topic, 0, b"k", b"heir")]))
    assert values(log, Partition(topic, 0)) == [b"heir"]
    log.close()


def test_a_static_member_comes_back_to_its_shards(kafka: str, app: str, topic: str) -> None:
    logs = [KafkaLog(kafka, group_instance_id=f"{app}-worker-0") for _ in range(2)]
    first = Station(logs[0], app, 2).join().own({0, 1})
    first.committed(first.transaction([0, 1], [Output(topic, 0, b"k", b"first")]))
    first.leave()

    second = Station(logs[1], app, 2).join().own({0, 1})

    second.committed(second.transaction([0, 1], [Output(topic, 0, b"k", b"second")]))
    assert values(logs[1], Partition(topic, 0)) == [b"first", b"second"]
    second.leave()
    for log in logs:
        log.close()


def test_a_static_member_that_was_restarted_is_not_taken_for_dead(kafka: str, app: str, topic: str) -> None:
    """The group shows it with the client id of its first process: its own incarnation is not to be seen there."""
    log = KafkaLog(kafka, group_instance_id=f"{app}-worker-0")
    Station(log, app, 2).join().own({0, 1}).leave()
    restarted = Station(log, app, 2).join().own({0, 1})
    restarted.committed(restarted.transaction([0, 1], [Output(topic, 0, b"k", b"1")]))

    assert log.member(app, 2, None).settle(0) == 1

    for number in (b"2", b"3"):  # by both producers: neither was fenced
        restarted.committed(restarted.transaction([0, 1], [Output(topic, 0, b"k", number)]))
    restarted.leave()
    log.close()
