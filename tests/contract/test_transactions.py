"""Commits: all or nothing, in order, positions told, and never by one who no longer owns the shard."""

import os

import pytest

from odradek_runtime.log.port import ChangelogPosition, Committed, Log, Message, Output, Partition, Records
from tests.contract.station import Station, content, publish, values


def test_everything_of_a_commit_is_there(log: Log, app: str, topic: str, station: Station) -> None:
    transaction = station.transaction(
        shards=[1],
        outputs=[Output(topic, 0, b"a", b"1", [("h", b"x")]), Output(f"{app}.commands", 2, b"c", b"go")],
        offsets={Partition(f"{app}.commands", 1): 17, Partition(topic, 1): 5},
    )
    transaction.state[1] = [(b"s", b"2"), (b"gone", None)]
    transaction.state_headers[1] = [("stamp", b"7")]
    transaction.journal[1] = [(b"j", b"3")]

    station.committed(transaction)

    (output,) = content(log, Partition(topic, 0))
    assert (output.key(), output.value(), output.headers()) == (b"a", b"1", [("h", b"x")])
    assert values(log, Partition(f"{app}.commands", 2)) == [b"go"]
    state = content(log, Partition(f"{app}.state", 1))
    assert [(m.key(), m.value()) for m in state] == [(b"s", b"2"), (b"gone", None)]
    assert all(m.headers() == [("stamp", b"7")] for m in state)
    (journal,) = content(log, Partition(f"{app}.journal", 1))
    assert (journal.key(), journal.value(), journal.headers() or []) == (b"j", b"3", [])
    assert station.member.settle(1) == 17


def test_records_keep_the_order_of_the_transaction(log: Log, app: str, topic: str, station: Station) -> None:
    for epoch in range(3):
        transaction = station.transaction(outputs=[Output(topic, 0, b"k", b"%d-%d" % (epoch, n)) for n in range(20)])
        transaction.state[0] = [(b"k%d" % n, b"%d-%d" % (epoch, n)) for n in range(20)]
        transaction.journal[0] = [(b"k%d" % n, b"%d-%d" % (epoch, n)) for n in range(20)]
        station.committed(transaction)

    expected = [b"%d-%d" % (epoch, n) for epoch in range(3) for n in range(20)]
    for name in (topic, f"{app}.state", f"{app}.journal"):
        assert values(log, Partition(name, 0)) == expected, name


def test_outputs_come_before_state_and_journal_where_they_share_a_partition(log: Log, app: str, station: Station) -> None:
    transaction = station.transaction(outputs=[Output(f"{app}.state", 0, b"o", b"output")])
    transaction.state[0] = [(b"s", b"state")]

    station.committed(transaction)

    assert values(log, Partition(f"{app}.state", 0)) == [b"output", b"state"]


def test_positions_lie_right_behind_the_last_record(log: Log, app: str, station: Station) -> None:
    for epoch in range(3):
        transaction = station.transaction(shards=[0, 2])
        transaction.state[0] = [(b"s%d" % n, b"%d-%d" % (epoch, n)) for n in range(epoch + 1)]
        transaction.journal[0] = [(b"j", b"%d" % epoch)]
        transaction.journal[2] = [(b"a", b"1"), (b"b", b"last-%d" % epoch)]

        positions = station.committed(transaction).positions

        check_position(log, Partition(f"{app}.state", 0), positions[0].state, b"%d-%d" % (epoch, epoch))
        check_position(log, Partition(f"{app}.journal", 0), positions[0].journal, b"%d" % epoch)
        check_position(log, Partition(f"{app}.journal", 2), positions[2].journal, b"last-%d" % epoch)
        assert positions[2].state is None


def check_position(log: Log, partition: Partition, position: int | None, last: bytes) -> None:
    assert position is not None
    end = log.offsets(partition)[1]
    assert [m for batch in log.scan(partition, position, end) for m in batch] == []
    assert [m.value() for batch in log.scan(partition, position - 1, position) for m in batch] == [last]


def test_a_commit_that_writes_no_changelog_has_no_position(station: Station) -> None:
    positions = station.committed(station.transaction()).positions

    assert positions.get(0, ChangelogPosition(None, None)) == ChangelogPosition(None, None)


def test_a_poisonous_record_leaves_nothing_of_its_transaction(log: Log, app: str, topic: str, station: Station) -> None:
    station.committed(station.transaction(offsets={Partition(f"{app}.commands", 0): 3}))
    station.member.read({Partition(topic, 0): 0}, 1)
    transaction = station.transaction(
        outputs=[Output(topic, 0, b"k", b"good"), Output(topic, 0, b"k", os.urandom(2_000_000))],
        offsets={Partition(f"{app}.commands", 0): 4},
    )
    transaction.state[0] = [(b"s", b"state")]
    transaction.journal[0] = [(b"j", b"journal")]

    refused = station.refused(transaction)

    assert (refused.reason, refused.poison) == ("aborted", True)
    assert topic in refused.message
    for name in (topic, f"{app}.state", f"{app}.journal"):
        assert values(log, Partition(name, 0)) == []
    assert station.member.settle(0) == 3
    station.committed(station.transaction(outputs=[Output(topic, 0, b"k", b"next")]))
    assert [m.value() for m in station.messages(1)] == [b"next"]


def test_a_partition_that_does_not_exist_is_poison(log: Log, topic: str, station: Station) -> None:
    refused = station.refused(station.transaction(outputs=[Output(topic, 0, b"k", b"v"), Output(topic, 9, b"k", b"v")]))

    assert (refused.reason, refused.poison) == ("aborted", True)
    assert values(log, Partition(topic, 0)) == []


@pytest.mark.parametrize("drift", [-1, 1])
def test_a_stale_stamp_is_fenced_and_leaves_nothing(log: Log, app: str, topic: str, station: Station, drift: int) -> None:
    station.committed(station.transaction(shards=[0, 1]))
    stale = station.transaction(
        shards=[0, 1],
        outputs=[Output(topic, 0, b"k", b"zombie")],
        offsets={Partition(f"{app}.commands", 0): 9, Partition(f"{app}.commands", 1): 9},
    )
    stale.stamps = {**stale.stamps, 1: stale.stamps[1] + drift * 1000}
    stale.state[0] = [(b"s", b"zombie")]

    refused = station.refused(stale)

    assert (refused.reason, refused.poison) == ("fenced", False)
    assert values(log, Partition(topic, 0)) == []
    assert values(log, Partition(f"{app}.state", 0)) == []
    assert [station.member.settle(shard) for shard in (0, 1)] == [1, 1]
    station.committed(station.transaction(outputs=[Output(topic, 0, b"k", b"owner")]))
    assert values(log, Partition(topic, 0)) == [b"owner"]


def test_settle_gives_what_was_committed_last(app: str, station: Station) -> None:
    assert [station.member.settle(shard) for shard in range(4)] == [None] * 4

    for offset in (5, 8):
        station.committed(station.transaction(shards=[2], offsets={Partition(f"{app}.commands", 2): offset}))

    assert [station.member.settle(shard) for shard in range(4)] == [None, None, 8, None]


def test_a_large_transaction_commits_whole(log: Log, topic: str, station: Station) -> None:
    outputs = [Output(topic, None, b"k%d" % n, b"v" * 100) for n in range(10_000)]

    station.committed(station.transaction(outputs=outputs))

    found = [m for p in (0, 1) for m in content(log, Partition(topic, p))]
    assert sorted(m.key() or b"" for m in found) == sorted(b"k%d" % n for n in range(10_000))


def test_commits_end_in_order_and_once(log: Log, topic: str, station: Station) -> None:
    for n in range(50):
        station.committed(station.transaction(outputs=[Output(topic, 0, b"k", b"%d" % n)]))

    assert values(log, Partition(topic, 0)) == [b"%d" % n for n in range(50)]
    station.silence(Committed, 0.05)


def test_what_is_read_can_be_committed_while_more_arrives(log: Log, topic: str, station: Station) -> None:
    publish(log, [Output(topic, 0, b"k", b"%d" % n) for n in range(5_000)])
    station.member.read({Partition(topic, 0): 0}, 1)

    found: list[Message] = []
    while len(found) < 5_000:
        records = station.wait(Records)
        found += records.messages
        copies = [Output(topic, 1, m.key(), m.value()) for m in records.messages]
        position = records.messages[-1].offset() + 1
        station.committed(station.transaction(outputs=copies, offsets={Partition(topic, 0): position}))
        records.taken()

    assert values(log, Partition(topic, 1)) == [b"%d" % n for n in range(5_000)]
