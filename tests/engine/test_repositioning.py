"""Resets as they are planned, carried out while no worker runs, and looked after while one does."""

import logging
from collections.abc import Callable

import pytest

from odradek import App
from odradek_runtime.log.port import Log, LogError, Partition
from odradek_runtime.recovery import repositioning
from odradek_runtime.recovery.orders import give
from odradek_runtime.recovery.repositioning import reposition
from odradek_runtime.recovery.reset_plan import Carried, Move, NoSuchPosition, plan
from tests.engine.harness import Rig
from tests.engine.test_resets import COINS, RECORDS, even, fill, place, reset, seen, till, total

BY = "ann@laptop"


def to(offset: int) -> Callable[[Log, Partition], int]:
    return lambda log, partition: offset


def moves(rig: Rig, offset: int, number: int | None = 0) -> list[Move]:
    return plan(rig.log, "till", "coins", number, to(offset))


@pytest.fixture
def app(disk_rig: Rig) -> App:
    """It has run, and runs no more."""
    rig, made = disk_rig, till()
    rig.log.create_topic("coins", 2, {})
    rig.start(made)
    fill(rig)
    rig.until(lambda: len(seen(rig)) == RECORDS)
    rig.settled(made)
    rig.stop()
    return made


def test_a_stopped_app_reads_from_elsewhere_when_it_starts(disk_rig: Rig, app: App, caplog: pytest.LogCaptureFixture) -> None:
    rig = disk_rig
    before = place(rig, app)
    reposition(rig.log, "till", "reset-a", [*moves(rig, 40), *moves(rig, 90, 1)], BY)
    assert (place(rig, app).offset, place(rig, app).reset, place(rig, app).until) == (40, "reset-a", before.offset)
    assert rig.log.committed_offsets("till", [COINS]) == {COINS: 40}
    assert len(rig.values("seen")) == RECORDS
    caplog.set_level(logging.WARNING, "odradek")
    rig.start(app)
    fill(rig, RECORDS, RECORDS + 20)
    rig.until(lambda: len(rig.values("seen")) == RECORDS + 20 + 60 + 10)
    rig.settled(app)
    assert seen(rig, "reset-a") == sorted([*even(80, RECORDS), *even(181, RECORDS)])
    assert seen(rig) == list(range(RECORDS + 20))
    assert total(rig, app) == RECORDS + 90
    assert caplog.messages == []


def test_one_after_another_and_the_same_again(disk_rig: Rig, app: App) -> None:
    rig = disk_rig
    reposition(rig.log, "till", "reset-a", moves(rig, 0), BY)
    reposition(rig.log, "till", "reset-b", moves(rig, 95), BY)
    reposition(rig.log, "till", "reset-b", moves(rig, 7), BY)
    assert (place(rig, app).offset, place(rig, app).reset, place(rig, app).until) == (95, "reset-b", 100)
    rig.start(app)
    rig.until(lambda: len(rig.values("seen")) == RECORDS + 5)
    rig.restart(app)
    give(rig.log, "till", "reset-c", [moves(rig, 98)[0].order("reset-c", BY)])
    rig.until(lambda: len(rig.values("seen")) == RECORDS + 7)
    assert (seen(rig, "reset-b"), seen(rig, "reset-c")) == (even(190, RECORDS), even(196, RECORDS))


def test_records_are_skipped(disk_rig: Rig, app: App) -> None:
    rig = disk_rig
    fill(rig, RECORDS, RECORDS + 100)
    reposition(rig.log, "till", "reset-a", moves(rig, 140), BY)
    rig.start(app)
    rig.until(lambda: len(rig.values("seen")) == RECORDS + 60)
    assert seen(rig) == sorted(set(range(RECORDS + 100)) - set(even(RECORDS, RECORDS + 80)))


def test_while_a_worker_runs_it_is_not_done_behind_its_back(disk_rig: Rig, app: App) -> None:
    disk_rig.start(app)
    with pytest.raises(LogError, match="workers of the app till run"):
        reposition(disk_rig.log, "till", "reset-a", moves(disk_rig, 0), BY)


def test_a_worker_that_comes_first_has_the_shards(disk_rig: Rig, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts between the look at the group and the join."""
    disk_rig.start(app)
    monkeypatch.setattr(disk_rig.log, "peers", lambda app: [])
    monkeypatch.setattr(repositioning, "JOIN_S", 0.5)
    with pytest.raises(LogError, match=r"gives this command \d of 2 shards"):
        reposition(disk_rig.log, "till", "reset-a", moves(disk_rig, 0), BY)
    assert place(disk_rig, app).offset == 100


@pytest.mark.parametrize("verdict", ["aborted", "unknown, lost"])
def test_what_the_log_refuses_has_not_happened(disk_rig: Rig, app: App, verdict: str) -> None:
    disk_rig.log.judge = lambda _: verdict  # type: ignore[assignment, return-value]
    with pytest.raises(LogError, match="were not moved"):
        reposition(disk_rig.log, "till", "reset-a", moves(disk_rig, 0), BY)
    assert place(disk_rig, app).offset == 100
    disk_rig.log.judge = lambda _: "pass"
    reposition(disk_rig.log, "till", "reset-a", moves(disk_rig, 0), BY)
    assert place(disk_rig, app).offset == 0


def test_a_torn_epoch_is_for_a_worker(disk_rig: Rig, app: App) -> None:
    disk_rig.publish("till.journal", (b"i" + b"x" * 30, b"torn"), partition=0)
    with pytest.raises(LogError, match=r"epoch of shard 0 is torn, .* start the app once"):
        reposition(disk_rig.log, "till", "reset-a", moves(disk_rig, 0), BY)
    reposition(disk_rig.log, "till", "reset-a", moves(disk_rig, 0, 1), BY)


def test_a_plan_says_what_is_read_again_skipped_and_gone(disk_rig: Rig, app: App) -> None:
    rig = disk_rig
    fill(rig, RECORDS, RECORDS + 40)
    rig.log.trim(COINS, 10)
    told = [(m.partition.partition, m.now, m.to, m.again, m.skipped, m.gone) for m in moves(rig, 4, None)]
    assert told == [(0, 100, 10, 90, 0, 6), (1, 100, 4, 96, 0, 0)]
    (far,) = moves(rig, 1_000)
    assert (far.to, far.again, far.skipped) == (120, 0, 20)


@pytest.mark.parametrize(
    ("app_name", "topic", "number", "said"),
    [
        ("shop", "coins", None, "no app 'shop' here"),
        ("till", "seen", None, "does not subscribe"),
        ("till", "till.commands", None, "its own bookkeeping"),
        ("till", "till.journal", None, "does not subscribe"),
        ("till", "coins", 2, "partitions 0 to 1, not 2"),
    ],
)
def test_what_is_not_there_cannot_be_planned(
    disk_rig: Rig, app: App, app_name: str, topic: str, number: int | None, said: str
) -> None:
    with pytest.raises(NoSuchPosition, match=said):
        plan(disk_rig.log, app_name, topic, number, to(0))


def test_an_order_is_followed_until_it_has_been_carried_out(disk_rig: Rig, app: App) -> None:
    rig, planned = disk_rig, moves(disk_rig, 90, None)
    give(rig.log, "till", "reset-a", [move.order("reset-a", BY) for move in planned])
    carried = Carried(rig.log, "till", "reset-a", planned)
    assert not carried.done()
    assert carried.open == planned, "nobody runs who would take it"
    rig.start(app)
    rig.until(carried.done)
    rig.until(lambda: len(seen(rig, "reset-a")) == 20)


def test_an_order_that_is_refused_is_told_of(disk_rig: Rig, app: App) -> None:
    rig, planned = disk_rig, moves(disk_rig, 90)
    rig.start(app)
    id_ = reset(rig, 90, topic_id="another")
    carried = Carried(rig.log, "till", id_, planned)
    with pytest.raises(NoSuchPosition, match=r"refused the order, which is in till\.dead-letters"):
        rig.until(carried.done)
