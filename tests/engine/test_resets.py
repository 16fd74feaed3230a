"""Positions that are moved while the app runs: back, forth, twice, through epochs that fail, restarts, and work in flight."""

import itertools
import random
from typing import Any

import msgspec
import pytest

from odradek import App, ObjectContext, State
from odradek_runtime.core.records.formats import Command, Position
from odradek_runtime.log.port import Partition
from odradek_runtime.recovery.orders import give
from tests.engine.faults import Verdict
from tests.engine.harness import Rig

RECORDS = 200
ORDERS = itertools.count()
COINS = Partition("coins", 0)


def till() -> App:
    """Counts what comes, by key; `seen` says of each record how often its key has had one, and what delivered it."""
    app = App("till", shards=2)
    coins, seen = app.topic("coins", value=int), app.topic("seen", value=list[Any])
    count, box = State("count", int, default=0), app.object("box")

    @box.on(coins)
    async def drop(ctx: ObjectContext, value: int) -> None:
        ctx.set(count, ctx.get(count) + 1)
        if value % 10 == 7:
            await ctx.sleep(0.002)
        ctx.publish(seen, [value, ctx.record.replay or ""], key=ctx.key)

    return app


def fill(rig: Rig, start: int = 0, stop: int = RECORDS) -> None:
    """Partition 0 and 1 of two, in turns: half of their keys live on the other shard."""
    for number in (0, 1):
        rig.publish("coins", *[(f"k{n % 9}", n) for n in range(start + number, stop, 2)], partition=number)


def reset(rig: Rig, offset: int = 0, shard: int = 0, **fields: Any) -> str:
    """Order that one partition is read from this offset on; gives the order's id."""
    id_ = f"reset-{next(ORDERS)}"
    command = Command("reset", id=id_, topic="coins", partition=shard, offset=offset, target="ann@laptop")
    give(rig.log, "till", id_, [(shard, msgspec.structs.replace(command, **fields))])
    return id_


def seen(rig: Rig, reset: str = "") -> list[int]:
    """The values that came by this reset; "": when they were read first."""
    return sorted(value for value, by in rig.values("seen") if by == reset)


def total(rig: Rig, app: App) -> int:
    return sum(rig.state(app, "box", f"k{n}", "count") or 0 for n in range(9))


def place(rig: Rig, app: App) -> Position:
    """Where partition 0 stands, as the journal has it."""
    found = rig.positions(app, 0)
    assert found is not None
    return next(each for each in found.inputs if (each.topic, each.partition) == COINS)


def even(start: int, stop: int) -> list[int]:
    return list(range(start, stop, 2))


@pytest.fixture
def app(rig: Rig) -> App:
    made = till()
    rig.log.create_topic("coins", 2, {})
    rig.start(made)
    fill(rig)
    rig.until(lambda: len(seen(rig)) == RECORDS)
    rig.settled(made)
    return made


def test_records_are_read_again_from_an_offset_on_and_those_behind_the_mark_are_new(rig: Rig, app: App) -> None:
    id_ = reset(rig, 40)
    fill(rig, RECORDS, RECORDS + 100)
    rig.until(lambda: len(rig.values("seen")) == RECORDS + 100 + 60)
    rig.settled(app)
    assert seen(rig) == list(range(RECORDS + 100)), "once each, and nothing of the other partition again"
    assert seen(rig, id_) == even(80, RECORDS)
    assert total(rig, app) == RECORDS + 160
    assert place(rig, app) == Position("coins", 0, 150, place(rig, app).topic_id, id_, 100)
    assert rig.log.committed_offsets("till", [COINS]) == {COINS: 150}
    rig.restart(app)
    fill(rig, RECORDS + 100, RECORDS + 110)
    rig.until(lambda: len(seen(rig)) == RECORDS + 110)
    assert seen(rig, id_) == even(80, RECORDS)


def test_what_was_fetched_before_the_order_came_is_stale(rig: Rig, app: App) -> None:
    """Batches of both sides wait when the command is met: none of their records is skipped, or taken for one that was asked for."""
    rig.stop()
    fill(rig, RECORDS, 4_000)
    id_ = reset(rig, 40)
    rig.start(app)
    rig.until(lambda: place(rig, app).offset == 2_000)
    rig.until(lambda: rig.journal(app) == {})
    assert seen(rig) == list(range(4_000))
    assert seen(rig, id_) == even(80, 2 * place(rig, app).until)


def test_a_topic_that_is_made_again_after_a_reset_has_other_records(rig: Rig, app: App) -> None:
    reset(rig, 90)
    rig.settled(app)
    rig.stop()
    rig.log.delete_topic("coins")
    rig.log.create_topic("coins", 2, {})
    rig.publish("coins", ("k", 1000), partition=0)
    rig.start(app)
    rig.until(lambda: 1000 in seen(rig))
    assert place(rig, app).reset == ""


def test_records_are_skipped(rig: Rig, app: App) -> None:
    rig.stop()
    fill(rig, RECORDS, 6_000)
    id_ = reset(rig, 2_900)
    rig.start(app)
    rig.until(lambda: place(rig, app).reset == id_)
    rig.until(lambda: place(rig, app).offset == 3_000)
    rig.settled(app)
    rig.until(lambda: rig.journal(app) == {})
    skipped = sorted(set(range(6_000)) - set(seen(rig)))
    assert skipped, "those that had not been read when the order was met"
    assert skipped == even(skipped[0], 5_800)
    assert seen(rig, id_) == []


def test_an_order_that_comes_again_does_nothing(rig: Rig, app: App) -> None:
    first = reset(rig, 90)
    rig.until(lambda: len(seen(rig, first)) == 10)
    reset(rig, 0, id=first)
    second = reset(rig, 95)
    rig.until(lambda: len(seen(rig, second)) == 5)
    rig.settled(app)
    assert seen(rig, first) == even(180, 200)
    give(rig.log, "till", second, [(0, Command("reset", id=second, topic="coins", partition=0, offset=0))])
    rig.settled(app)
    assert len(rig.values("seen")) == RECORDS + 15


def test_a_reset_while_the_last_one_is_still_at_work(rig: Rig, app: App) -> None:
    last = [reset(rig) for _ in range(10)][-1]
    rig.until(lambda: len(seen(rig, last)) == 100)
    rig.settled(app)
    assert total(rig, app) == len(rig.values("seen")), "what came by an earlier one came whole"


@pytest.mark.parametrize("verdict", ["aborted", "unknown, applied", "unknown, lost"])
def test_epochs_that_fail_move_nothing_twice(rig: Rig, app: App, verdict: Verdict) -> None:
    chance = random.Random(verdict)
    rig.log.judge = lambda _: verdict if chance.random() < 0.3 else "pass"
    id_, other = reset(rig, 0), reset(rig, 60, 1)
    rig.until(lambda: seen(rig, id_) and seen(rig, other))  # met after new records these would be read again, too
    fill(rig, RECORDS, RECORDS + 100)
    rig.until(lambda: len(rig.values("seen")) == RECORDS + 100 + 100 + 40)
    rig.log.judge = lambda _: "pass"
    rig.settled(app)
    assert (seen(rig), seen(rig, id_), seen(rig, other)) == (
        list(range(RECORDS + 100)), even(0, RECORDS), [n + 1 for n in even(120, RECORDS)],
    )  # fmt: skip
    assert total(rig, app) == RECORDS + 100 + 140


def test_a_crash_in_the_middle(disk_rig: Rig) -> None:
    rig, app = disk_rig, till()
    rig.log.create_topic("coins", 2, {})
    rig.start(app, epoch_events=10)
    fill(rig)
    rig.until(lambda: len(seen(rig)) == RECORDS)
    last = len(rig.log.transactions) + 8
    rig.log.judge = lambda _: "pass" if len(rig.log.transactions) < last else "unknown, lost"
    id_ = reset(rig, 0)
    rig.until(lambda: len(rig.log.transactions) > last)
    assert 0 < len(seen(rig, id_)) < 100
    rig.crash()
    rig.log.judge = lambda _: "pass"
    rig.start(app)
    rig.until(lambda: len(rig.values("seen")) == RECORDS + 100)
    rig.settled(app)
    assert seen(rig, id_) == even(0, RECORDS)
    assert total(rig, app) == RECORDS + 100


def test_an_invocation_is_in_flight_while_its_record_is_read_again(rig: Rig) -> None:
    app = App("till", shards=1)
    coins, seen_ = app.topic("coins", value=int), app.topic("seen", value=list[Any])
    box = app.object("box")

    @box.on(coins)
    async def drop(ctx: ObjectContext, value: int) -> None:
        by = ctx.record.replay or ""
        await ctx.sleep(1000)
        ctx.publish(seen_, [value, by], key=ctx.key)

    rig.start(app)
    rig.publish("coins", ("k", 1))
    rig.until(lambda: len(rig.invocations(app)) == 1)
    id_ = reset(rig, 0)
    rig.until(lambda: len(rig.invocations(app)) == 2)
    assert {each.replay: each.status for each in rig.invocations(app)} == {"": "running", id_: "inboxed"}
    rig.later(1001)
    rig.until(lambda: len(rig.values("seen")) == 1)
    rig.later(1001)
    rig.until(lambda: len(rig.values("seen")) == 2)
    assert rig.values("seen") == [[1, ""], [1, id_]]
    rig.until(lambda: rig.journal(app) == {})


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"id": "fix-7"}, "id"),
        ({"id": "reset-"}, "id"),
        ({"topic": "seen"}, "topic"),
        ({"topic": "till.commands"}, "topic"),
        ({"partition": 1}, "partition"),
        ({"partition": 7}, "partition"),
        ({"offset": -1}, "offset"),
        ({"offset": 2**62}, "offset"),
        ({"offset": RECORDS // 2 + 1}, "offset"),
        ({"topic_id": "another"}, "topic_id"),
    ],
)
def test_what_cannot_be_is_refused(rig: Rig, app: App, fields: dict[str, Any], field: str) -> None:
    reset(rig, **fields)
    rig.until(lambda: rig.dead_letters(app))
    (letter,) = rig.dead_letters(app)
    assert letter["odradek-field"] == field
    fill(rig, RECORDS, RECORDS + 20)
    rig.until(lambda: len(rig.values("seen")) == RECORDS + 20)
    rig.settled(app)
    assert seen(rig) == list(range(RECORDS + 20)), "nothing is skipped"
