"""The embedded group beyond the port: the deadline of a release, expired sessions, misuse."""

import pytest

from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.embedded.member import EmbeddedMember
from odradek_runtime.log.port import Gained, LogError, Losing, Output, Partition
from tests.contract.embedded.conftest import OpenLog, make_app
from tests.contract.station import Station, values


@pytest.fixture
def log(open_log: OpenLog) -> EmbeddedLog:
    log = open_log(release_deadline_s=0.05)
    make_app(log, "app", 4)
    return log


def evict(station: Station) -> None:
    assert isinstance(station.member, EmbeddedMember)
    station.member.evict()


def test_shards_not_released_in_time_are_taken_by_force(log: EmbeddedLog) -> None:
    slow = Station(log, "app", 4).join().own({0, 1, 2, 3})
    heir = Station(log, "app", 4).join()
    losing = slow.wait(Losing)
    epoch = slow.transaction(losing.shards, [Output("app.commands", 0, b"k", b"slow")])

    taken = slow.wait(Losing, lambda event: event.lost)
    heir.own(set(losing.shards))

    assert taken.shards == losing.shards
    assert slow.refused(epoch).reason == "fenced"
    losing.release()
    taken.release()
    heir.committed(heir.transaction(losing.shards, [Output("app.commands", 0, b"k", b"heir")]))
    assert values(log, Partition("app.commands", 0)) == [b"heir"]
    slow.committed(slow.transaction(sorted(slow.stamps)))
    slow.leave()
    heir.own({0, 1, 2, 3}).leave()


def test_leaving_without_having_released_hands_over(log: EmbeddedLog) -> None:
    first = Station(log, "app", 4).join().own({0, 1, 2, 3})
    second = Station(log, "app", 4).join()
    first.wait(Losing)

    first.leave()

    second.own({0, 1, 2, 3}).leave()


def test_an_evicted_member_stays_out_until_it_has_let_go(open_log: OpenLog) -> None:
    log = open_log()
    make_app(log, "app", 4)
    zombie = Station(log, "app", 4).join().own({0, 1, 2, 3})

    evict(zombie)
    losing = zombie.wait(Losing)

    assert losing.lost
    assert list(log.peers("app")) == []
    zombie.silence(Gained, 0.05)
    losing.release()
    zombie.own({0, 1, 2, 3}).leave()


def test_an_evicted_member_that_leaves_does_not_come_back(open_log: OpenLog) -> None:
    log = open_log()
    make_app(log, "app", 4)
    zombie = Station(log, "app", 4).join().own({0, 1, 2, 3})
    evict(zombie)
    losing = zombie.wait(Losing)

    zombie.leave()
    losing.release()

    assert list(log.peers("app")) == []


def test_records_without_key_take_turns(log: EmbeddedLog) -> None:
    log.publisher("p").publish([Output("app.commands", None, None, b"v") for _ in range(40)], 40)

    assert [len(values(log, Partition("app.commands", p))) for p in range(4)] == [10] * 4


def test_shards_and_partitions_must_agree(log: EmbeddedLog) -> None:
    with pytest.raises(LogError, match="4 partitions for 3 shards"):
        log.member("app", 3, None).join(lambda _: None)
    with pytest.raises(LogError, match="does not exist"):
        log.member("nobody", 3, None).join(lambda _: None)


def test_a_member_refuses_what_the_engine_must_not_do(log: EmbeddedLog) -> None:
    station = Station(log, "app", 4).join().own({0, 1, 2, 3})
    bare = station.transaction([0])
    bare.state[1] = [(b"k", b"v")]

    with pytest.raises(ValueError, match=r"shards \[1\] without their stamps"):
        station.member.commit(bare)
    station.member.read({}, 3)
    with pytest.raises(ValueError, match="generation 3 is not greater"):
        station.member.read({}, 3)
    station.leave()
