"""The group: every shard has one owner, moves wait for their release, and who was evicted commits nothing."""

from collections.abc import Callable

import pytest

from odradek_runtime.log.port import Gained, Log, LogError, Losing, Output, Partition, Peer
from tests.contract.conftest import SHARDS
from tests.contract.station import LogHarness, Station, values

ALL = set(range(SHARDS))
Join = Callable[..., Station]


def settle_between(*stations: Station) -> None:
    """Pass events on until every shard is owned once and the load is even."""
    while True:
        owned = [shard for station in stations for shard in station.stamps]
        sizes = [len(station.stamps) for station in stations]
        if sorted(owned) == sorted(ALL) and max(sizes) - min(sizes) <= 1:
            return
        for station in stations:
            station.give_up_what_is_asked(0.02)


def test_the_first_member_gets_every_shard(join: Join) -> None:
    station = join()

    station.own(ALL)

    assert len(set(station.stamps.values())) == SHARDS


def test_two_members_share_the_shards(log: Log, app: str, join: Join) -> None:
    first = join("http://one").own(ALL)
    second = join("http://two")

    settle_between(first, second)

    assert set(first.stamps) | set(second.stamps) == ALL
    assert not set(first.stamps) & set(second.stamps)
    assert {peer.url: peer.shards for peer in log.peers(app)} == {
        "http://one": tuple(sorted(first.stamps)),
        "http://two": tuple(sorted(second.stamps)),
    }


def test_three_members_share_evenly_and_a_leaver_hands_over(join: Join) -> None:
    first, second, third = join(), join(), join()
    settle_between(first, second, third)

    second.leave()

    settle_between(first, third)


def test_nobody_is_a_peer_before_joining_or_after_leaving(log: Log, app: str, join: Join) -> None:
    assert list(log.peers(app)) == []
    station = join().own(ALL)
    assert list(log.peers(app)) == [Peer(None, tuple(range(SHARDS)))]

    station.leave()

    assert list(log.peers(app)) == []


def test_a_shard_waits_for_its_release(log: Log, topic: str, join: Join) -> None:
    first = join().own(ALL)
    second = join()
    losing = first.wait(Losing)
    assert not losing.lost
    assert 0 < len(losing.shards) < SHARDS

    first.committed(first.transaction(losing.shards, [Output(topic, 0, b"k", b"before release")]))
    assert not any(gained.shards for gained in second.drain(Gained))
    stale = first.transaction(losing.shards, [Output(topic, 0, b"k", b"after release")])
    first.give_up(losing)

    assert first.refused(stale).reason == "fenced"
    second.own(set(losing.shards))
    second.committed(second.transaction(losing.shards, [Output(topic, 0, b"k", b"new owner")]))
    assert values(log, Partition(topic, 0)) == [b"before release", b"new owner"]


def test_what_a_member_keeps_it_can_still_commit(log: Log, topic: str, join: Join) -> None:
    first = join().own(ALL)
    second = join()
    losing = first.wait(Losing)
    kept = sorted(ALL - set(losing.shards))
    transaction = first.transaction(kept, [Output(topic, 0, b"k", b"kept")])

    first.give_up(losing)
    second.own(set(losing.shards))

    first.committed(transaction)
    assert values(log, Partition(topic, 0)) == [b"kept"]


def test_release_may_be_called_twice(join: Join) -> None:
    first = join().own(ALL)
    second = join()
    losing = first.wait(Losing)

    first.give_up(losing)
    losing.release()

    second.own(set(losing.shards))
    first.silence(Losing)


def test_leaving_hands_over_at_once(app: str, join: Join) -> None:
    first = join().own(ALL)
    second = join()
    settle_between(first, second)
    mine = sorted(first.stamps)
    first.committed(first.transaction(mine, offsets={Partition(f"{app}.commands", shard): 7 for shard in mine}))

    first.leave()

    second.own(ALL)
    assert [second.member.settle(shard) for shard in mine] == [7] * len(mine)


def test_the_newcomer_may_leave_before_it_got_anything(join: Join) -> None:
    first = join().own(ALL)
    second = join()
    losing = first.wait(Losing)

    second.leave()
    first.give_up(losing)

    first.own(ALL)


def test_an_evicted_member_is_fenced_and_comes_back(log_factory: LogHarness, log: Log, topic: str, join: Join) -> None:
    zombie = join().own(ALL)
    heir = join()
    settle_between(zombie, heir)
    mine = sorted(zombie.stamps)
    old_stamps = set(zombie.every_stamp)
    epoch = zombie.transaction(mine, [Output(topic, 0, b"k", b"zombie")])

    log_factory.evict(zombie.member)
    losing = zombie.wait(Losing, lambda event: event.lost)
    heir.own(ALL)

    assert set(losing.shards) == set(mine)
    assert zombie.refused(epoch).reason == "fenced"
    heir.committed(heir.transaction(mine, [Output(topic, 0, b"k", b"heir")]))
    losing.release()
    settle_between(zombie, heir)
    assert zombie.refused(epoch).reason == "fenced"
    assert not old_stamps & set(zombie.stamps.values())
    zombie.committed(zombie.transaction(sorted(zombie.stamps), [Output(topic, 0, b"k", b"back")]))
    assert values(log, Partition(topic, 0)) == [b"heir", b"back"]


def test_a_shard_that_returns_has_a_stamp_never_used_before(join: Join) -> None:
    first = join().own(ALL)
    for _ in range(3):
        second = join()
        settle_between(first, second)
        second.leave()
        first.own(ALL)

    assert len(first.every_stamp) == len(set(first.every_stamp))
    assert len(first.every_stamp) > SHARDS


def test_the_apps_of_one_log_do_not_disturb_each_other(log: Log, app: str, join: Join) -> None:
    other = f"{app}-other"
    for name in ("commands", "journal", "state"):
        log.create_topic(f"{other}.{name}", 2, {})
    mine = join().own(ALL)
    theirs = Station(log, other, 2).join().own({0, 1})

    transaction = theirs.transaction([0], offsets={Partition(f"{other}.commands", 0): 99})
    transaction.journal[0] = [(b"k", b"theirs")]
    theirs.committed(transaction)

    assert mine.member.settle(0) is None
    assert values(log, Partition(f"{app}.journal", 0)) == []
    assert values(log, Partition(f"{other}.journal", 0)) == [b"theirs"]
    mine.silence(Losing, 0.05)
    theirs.leave()


def test_the_groups_offsets_are_told_and_forgotten(log: Log, app: str, topic: str, join: Join) -> None:
    station = join().own(ALL)
    commands, read = Partition(f"{app}.commands", 0), Partition(topic, 0)
    station.committed(station.transaction([0], offsets={commands: 3, read: 5}))

    assert log.committed_offsets(app, [commands, read, Partition(topic, 1)]) == {commands: 3, read: 5}
    with pytest.raises(LogError):
        log.forget_group(app)  # it has a member
    station.leave()
    log.forget_group(app)
    log.forget_group(app)  # it is not there: no error

    assert log.committed_offsets(app, [commands, read]) == {}
