"""One writer: fresh group metadata fences membership, not ownership, so the ownership stamps must.

Stands at the commit: what a worker that lost a shard may still try.
"""

from collections.abc import Callable
from contextlib import closing

import pytest
from confluent_kafka import TopicPartition

from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.kafka.confluent import GroupMetadata
from odradek_runtime.log.kafka.member import KafkaMember
from odradek_runtime.log.kafka.membership import Membership
from odradek_runtime.log.port import Gained, Log, Losing, Output, Partition, Transaction
from tests.contract.station import Station, values
from tests.kafka.eviction import evict
from tests.kafka.raw import GroupConsumer, committed_values, offsets_transaction, poll_until, transactional

Join = Callable[[Log, str], Station]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_fresh_metadata_does_not_fence_a_lost_shard(kafka: str, app: str, topic: str, protocol: str) -> None:
    """The experiment behind the stamps: a member commits an epoch of a shard that another one owns."""
    commands = f"{app}.commands"
    first = GroupConsumer(kafka, app, commands, protocol)
    poll_until(lambda: first.owned == {0, 1}, [first])
    second = GroupConsumer(kafka, app, commands, protocol)
    poll_until(lambda: len(first.owned) == len(second.owned) == 1, [first, second])
    (lost,) = second.owned
    producer = transactional(kafka, f"{app}-raw")

    outcome = offsets_transaction(producer, (topic, b"zombie"), TopicPartition(commands, lost, 5), first.metadata())

    assert outcome == "committed"  # ... though it was the other's shard
    for member in (first, second):
        member.client.close()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_stale_generation_is_refused_by_the_group(kafka: str, app: str, topic: str, protocol: str) -> None:
    commands = f"{app}.commands"
    first = GroupConsumer(kafka, app, commands, protocol)
    poll_until(lambda: first.owned == {0, 1}, [first])
    stale = first.metadata()
    second = GroupConsumer(kafka, app, commands, protocol)
    poll_until(lambda: len(first.owned) == len(second.owned) == 1, [first, second])
    producer = transactional(kafka, f"{app}-raw")

    outcome = offsets_transaction(producer, (topic, b"zombie"), TopicPartition(commands, 0, 5), stale)

    assert outcome in {"ILLEGAL_GENERATION", "STALE_MEMBER_EPOCH", "UNKNOWN_MEMBER_ID"}
    for member in (first, second):
        member.client.close()
    assert b"zombie" not in committed_values(kafka, topic, 0) + committed_values(kafka, topic, 1)


def test_an_evicted_member_that_has_rejoined_commits_nothing_old(
    kafka: str, log: KafkaLog, app: str, topic: str, join: Join
) -> None:
    station = join(log, app).own({0, 1})
    epoch = station.transaction([0, 1], [Output(topic, 0, b"k", b"old")])

    assert isinstance(station.member, KafkaMember)
    evict(kafka, app, station.member.owner.incarnation)
    station.wait(Losing, lambda losing: losing.lost).release()
    station.own({0, 1})

    assert station.refused(epoch).reason == "fenced"
    station.committed(station.transaction([0, 1], [Output(topic, 0, b"k", b"new")]))
    assert values(log, Partition(topic, 0)) == [b"new"]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_an_epoch_of_an_earlier_generation_is_sent_again(
    kafka: str, app: str, topic: str, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group moves on while an epoch is on its way: what touches only shards that stayed here loses nothing by that."""
    seen: list[GroupMetadata] = []
    late: list[GroupMetadata] = []
    fresh = Membership.metadata

    def metadata(membership: Membership, timeout_s: float) -> GroupMetadata:
        seen.append(late.pop() if late else fresh(membership, timeout_s))
        return seen[-1]

    monkeypatch.setattr(Membership, "metadata", metadata)
    with closing(KafkaLog(kafka, group_protocol=protocol)) as log:
        staying = Station(log, app, 2).join().own({0, 1})
        staying.committed(staying.transaction([0, 1], [Output(topic, 0, b"k", b"before")]))
        newcomer = Station(log, app, 2).join()
        staying.give_up(staying.wait(Losing))
        newcomer.wait(Gained, lambda gained: bool(gained.shards))

        late.append(seen[0])
        staying.committed(staying.transaction(list(staying.stamps), [Output(topic, 0, b"k", b"after")]))

        assert seen[1] == seen[0] != seen[-1], "its first attempt was of the earlier generation"
        assert values(log, Partition(topic, 0)) == [b"before", b"after"]
        for station in (staying, newcomer):
            station.leave()


def test_nothing_is_sent_before_the_first_assignment(log: KafkaLog, app: str, topic: str, join: Join) -> None:
    owner = join(log, app).own({0, 1})
    newcomer = join(log, app)
    forged = Transaction(1, {0: 1}, [Output(topic, 0, b"k", b"early")], offsets={Partition(f"{app}.commands", 0): 1})

    refused = newcomer.refused(forged)  # the owner has not let go: nothing can have been assigned

    assert refused.reason == "fenced"
    owner.give_up(owner.wait(Losing))
    newcomer.wait(Gained, lambda gained: bool(gained.shards))
    assert values(log, Partition(topic, 0)) == []


def test_a_transaction_that_nothing_would_fence_is_refused(log: KafkaLog, app: str, topic: str, join: Join) -> None:
    station = join(log, app).own({0, 1})
    stamp = station.stamps[0]

    with pytest.raises(ValueError, match="stamp"):
        station.member.commit(Transaction(1, {}, [Output(topic, 0, b"k", b"v")]))
    with pytest.raises(ValueError, match="offset"):
        station.member.commit(Transaction(1, {0: stamp}, [Output(topic, 0, b"k", b"v")]))
