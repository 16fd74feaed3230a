"""Compaction and retention: what nobody needs goes, what somebody needs stays, and the folder does not grow for ever."""

import random
from contextlib import suppress
from pathlib import Path

import pytest

from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.embedded.cleaner import WORTH_COMPACTING
from odradek_runtime.log.embedded.disk import WRITE_BUFFER_BYTES, rows_between
from odradek_runtime.log.port import LogError, Output, Partition, Records, Trouble
from tests.contract.embedded.conftest import Clock, OpenLog, make_app
from tests.contract.station import Station, content, publish, values
from tests.kafka.raw import eventually

DAY_S = 24 * 3600
IN = Partition("in", 0)


def clean(log: EmbeddedLog) -> None:
    while log.clean():
        pass


def write(log: EmbeddedLog, *pairs: tuple[bytes, bytes | None]) -> None:
    publish(log, [Output("in", 0, key, value) for key, value in pairs])


def table(log: EmbeddedLog) -> list[tuple[int, bytes | None, bytes | None]]:
    return [(m.offset(), m.key(), m.value()) for m in content(log, IN)]


def row_count(log: EmbeddedLog) -> int:
    """Rows of every kind, not records alone."""
    with log.disk.reading() as db:
        return sum(1 for _ in rows_between(db, b"\x00", b"\xff"))


def folder_bytes(log: EmbeddedLog) -> int:
    total = 0
    for path in log.disk.path.rglob("*"):
        with suppress(FileNotFoundError):  # RocksDB has just given it back
            total += path.stat().st_size if path.is_file() else 0
    return total


def becomes_small(log: EmbeddedLog, limit_bytes: int) -> None:
    """RocksDB gives room back in threads of its own, some time after the writes."""
    eventually(lambda: folder_bytes(log) < limit_bytes)


def test_compaction_keeps_the_last_of_each_key_at_its_offset(open_log: OpenLog) -> None:
    log = open_log()
    log.create_topic("in", 1, {"cleanup.policy": "compact"})
    write(log, (b"a", b"1"), (b"b", b"1"), (b"a", b"2"))
    clean(log)
    write(log, (b"b", b"2"), (b"c", b"1"), (b"b", b"3"))
    clean(log)

    assert table(log) == [(2, b"a", b"2"), (4, b"c", b"1"), (5, b"b", b"3")]
    assert log.offsets(IN) == (0, 6)
    assert [m.offset() for batch in log.scan(IN, 0, 3) for m in batch] == [2]
    assert list(log.scan(IN, 0, 2)) == []


def test_compaction_goes_on_after_a_restart(open_log: OpenLog) -> None:
    log = open_log()
    log.create_topic("in", 1, {"cleanup.policy": "compact"})
    write(log, (b"a", b"1"), (b"b", b"1"))
    clean(log)
    log.close()
    log = open_log()
    write(log, (b"a", b"2"))

    clean(log)

    assert table(log) == [(1, b"b", b"1"), (2, b"a", b"2")]
    write(log, (b"d", b"1"))
    assert log.offsets(IN) == (0, 4)


def test_a_tombstone_goes_when_its_time_has_come(open_log: OpenLog, clock: Clock) -> None:
    log = open_log(clock=clock)
    log.create_topic("in", 1, {"cleanup.policy": "compact", "delete.retention.ms": str(DAY_S * 1000)})
    write(log, (b"a", b"1"), (b"b", b"1"), (b"a", None))
    clean(log)
    assert table(log) == [(1, b"b", b"1"), (2, b"a", None)]

    clock.now_s += DAY_S - 1
    clean(log)
    assert len(table(log)) == 2
    clock.now_s += 2
    clean(log)

    assert table(log) == [(1, b"b", b"1")]
    assert log.offsets(IN) == (0, 3)


def test_a_key_that_came_back_outlives_its_tombstone(open_log: OpenLog, clock: Clock) -> None:
    log = open_log(clock=clock)
    log.create_topic("in", 1, {"cleanup.policy": "compact"})
    write(log, (b"a", b"1"), (b"a", None))
    clean(log)
    write(log, (b"a", b"2"))
    clock.now_s += 2 * DAY_S

    clean(log)
    assert table(log) == [(2, b"a", b"2")]
    write(log, (b"a", b"3"))
    clean(log)

    assert table(log) == [(3, b"a", b"3")]


def test_a_tombstone_that_fell_due_before_its_successor_was_seen(open_log: OpenLog, clock: Clock) -> None:
    log = open_log(clock=clock)
    log.create_topic("in", 1, {"cleanup.policy": "compact"})
    write(log, (b"a", None))
    clean(log)
    clock.now_s += 2 * DAY_S
    clean(log)
    assert table(log) == []

    write(log, (b"a", b"2"), (b"a", b"3"))
    clean(log)

    assert table(log) == [(2, b"a", b"3")]


def test_keys_that_look_alike_are_kept_apart(open_log: OpenLog) -> None:
    log = open_log()
    log.create_topic("in", 2, {"cleanup.policy": "compact"})
    keys = [b"", b"\x00", b"\x00\x00", b"a", b"a\x00", b"\xff", b"\xff" * 12]
    publish(log, [Output("in", p, key, b"old") for key in keys for p in (0, 1)])
    publish(log, [Output("in", p, key, b"new") for key in keys for p in (0, 1)])

    clean(log)

    for p in (0, 1):
        assert [(m.key(), m.value()) for m in content(log, Partition("in", p))] == [(key, b"new") for key in keys]


def test_records_older_than_the_retention_go(open_log: OpenLog, clock: Clock) -> None:
    log = open_log(clock=clock)
    log.create_topic("in", 1, {"retention.ms": str(DAY_S * 1000)})
    publish(log, [Output("in", 0, b"k", b"old")] * 2_500)
    clock.now_s += DAY_S / 2
    publish(log, [Output("in", 0, b"k", b"young")] * 10)
    clean(log)
    assert log.offsets(IN) == (0, 2_510)

    clock.now_s += DAY_S / 2 + 1
    clean(log)
    first, end = log.offsets(IN)
    assert (first, end) == (2_500, 2_510)
    assert values(log, IN) == [b"young"] * 10
    clock.now_s += DAY_S
    clean(log)

    assert log.offsets(IN) == (2_510, 2_510)
    with pytest.raises(LogError):
        list(log.scan(IN, first, end))


def test_without_a_limit_nothing_goes(open_log: OpenLog, clock: Clock) -> None:
    log = open_log(clock=clock)
    log.create_topic("in", 1, {"retention.ms": "-1", "retention.bytes": "-1"})
    log.create_topic("week", 1, {})
    for topic in ("in", "week"):
        publish(log, [Output(topic, 0, b"k", b"v")] * 1_200)

    clock.now_s += 7 * DAY_S + 1
    clean(log)

    assert log.offsets(IN) == (0, 1_200)
    assert log.offsets(Partition("week", 0)) == (1_200, 1_200)


def test_the_oldest_go_when_a_partition_is_too_large(open_log: OpenLog) -> None:
    log = open_log()
    log.create_topic("in", 1, {"retention.bytes": "500000"})
    for start in range(0, 20_000, 1_000):
        publish(log, [Output("in", 0, b"k", b"%06d" % n + bytes(94)) for n in range(start, start + 1_000)])

    clean(log)

    left = values(log, IN)
    assert 500_000 - 120_000 < sum(len(value or b"") for value in left) < 500_000 + 120_000
    assert left[-1] == b"019999" + bytes(94)
    assert len(left) == 20_000 - log.offsets(IN)[0]


def test_a_reader_behind_the_retention_is_told_and_goes_on(open_log: OpenLog) -> None:
    log = open_log()
    make_app(log, "app", 1)
    log.create_topic("in", 1, {})
    write(log, *[(b"k", b"%d" % n) for n in range(10)])
    log.trim(IN, 6)
    station = Station(log, "app", 1).join().own({0})

    station.member.read({IN: 2}, 1)

    assert "2..5 were deleted" in station.wait(Trouble).message
    assert [m.value() for m in station.wait(Records).messages] == [b"6", b"7", b"8", b"9"]
    station.leave()


def test_a_changelog_rewritten_for_ever_stays_small(tmp_path: Path) -> None:
    """500 times the same 1,000 keys (300 MB), with the background thread as it runs in production."""
    worth_keeping = WORTH_COMPACTING * 650 + 4 * WRITE_BUFFER_BYTES  # deleted rows that files are not rewritten for yet: 194 MB
    log = EmbeddedLog(tmp_path / "log", fsync=False, clean_interval_s=0.01)
    make_app(log, "app", 1)
    station = Station(log, "app", 1).join().own({0})
    noise = random.Random(1).randbytes(600_000)  # nothing that compresses away
    for turn in range(500):
        transaction = station.transaction()
        transaction.state[0] = [(b"key-%d" % n, b"%d" % turn + noise[n * 600 : n * 600 + 600]) for n in range(1_000)]
        station.committed(transaction)
        if turn % 100 == 99:
            clean(log)
            becomes_small(log, worth_keeping)
    state = content(log, Partition("app.state", 0))

    assert [m.key() for m in state] == [b"key-%d" % n for n in range(1_000)]
    assert all(m.value() == b"499" + noise[n * 600 : n * 600 + 600] for n, m in enumerate(state))
    assert log.offsets(Partition("app.state", 0)) == (0, 500_000)
    assert row_count(log) < 2_500
    station.leave()
    log.close()


def test_a_queue_that_is_trimmed_stays_small(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log", fsync=False, clean_interval_s=0.01)
    log.create_topic("in", 1, {"retention.ms": "-1"})
    publisher = log.publisher("p")
    noise = random.Random(1).randbytes(1_000_000)
    for turn in range(1, 101):
        publisher.publish([Output("in", 0, b"k", noise[n * 1_000 : n * 1_000 + 1_000]) for n in range(1_000)], turn)
        log.trim(IN, turn * 1_000 - 100)
    clean(log)

    assert len(content(log, IN)) == 100
    assert row_count(log) < 200
    becomes_small(log, 70_000_000)  # after writing 100 MB
    log.close()
