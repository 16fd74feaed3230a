"""State that is cleared with a reset of an app that stands still: all of an object's, in the changelog, and nothing else."""

import shutil
from collections import Counter
from pathlib import Path
from queue import Queue

import pytest

from odradek import App, ObjectContext, State
from odradek_runtime.log.port import Event, LogError
from odradek_runtime.recovery import clearing, repositioning
from odradek_runtime.recovery.clearing import objects_in
from odradek_runtime.recovery.repositioning import reposition
from odradek_runtime.recovery.reset_plan import plan
from tests.engine.harness import Rig

RECORDS = 120
KEYS = 9
BY = "ann@laptop"


def books() -> App:
    """Two objects with names that begin alike count the records of one topic, by key."""
    app = App("books", shards=2)
    coins = app.topic("coins", value=int)
    count, noted = State("count", int, default=0), State("noted", int)
    box, boxes = app.object("box"), app.object("box-es")

    @box.on(coins)
    async def drop(ctx: ObjectContext, value: int) -> None:
        ctx.set(count, ctx.get(count) + 1)
        ctx.set(noted, value)

    @boxes.on(coins)
    async def kept(ctx: ObjectContext, value: int) -> None:
        ctx.set(count, ctx.get(count) + 1)

    return app


@pytest.fixture
def rig(disk_rig: Rig) -> Rig:
    """The app has run, and runs no more."""
    disk_rig.log.create_topic("coins", 2, {})
    disk_rig.start(books())
    disk_rig.publish("coins", *[(f"k{n % KEYS}", n) for n in range(RECORDS)])
    disk_rig.until(lambda: total(disk_rig, "box") == total(disk_rig, "box-es") == RECORDS)
    disk_rig.settled(books())
    disk_rig.stop()
    return disk_rig


def total(rig: Rig, object_: str) -> int:
    return sum(rig.state(books(), object_, f"k{n}", "count") or 0 for n in range(KEYS))


def everything(rig: Rig, *cleared: str) -> None:
    moves = plan(rig.log, "books", "coins", None, lambda log, partition: 0)
    reposition(rig.log, "books", "reset-a", [move for move in moves if move.to != move.now], BY, cleared=cleared)


@pytest.mark.parametrize("stores", ["kept", "gone"])
def test_what_is_read_again_finds_no_state_of_that_object(rig: Rig, tmp_path: Path, stores: str) -> None:
    assert objects_in(rig.log, "books") == Counter({"box": 2 * KEYS, "box-es": KEYS})
    everything(rig, "box")
    assert objects_in(rig.log, "books") == Counter({"box-es": KEYS})
    if stores == "gone":
        shutil.rmtree(tmp_path / "store")
    rig.start(books())
    rig.until(lambda: total(rig, "box-es") == 2 * RECORDS)
    assert total(rig, "box") == RECORDS
    assert rig.state(books(), "box", "k0", "noted") == max(n for n in range(RECORDS) if n % KEYS == 0)


def test_in_many_transactions_and_again_after_it_was_interrupted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clearing, "BATCH", 1)
    committed, times = repositioning._committed, Counter[str]()

    def interrupted(events: Queue[Event], app: str) -> None:
        committed(events, app)
        times["committed"] += 1
        if times["committed"] == 1:
            raise LogError("somebody pulls the plug")

    monkeypatch.setattr(repositioning, "_committed", interrupted)
    with pytest.raises(LogError, match="plug"):
        everything(rig, "box", "box-es")
    left = objects_in(rig.log, "books").total()
    assert 0 < left < 3 * KEYS
    assert {move.now for move in plan(rig.log, "books", "coins", None, lambda log, partition: 0)} != {0}
    everything(rig, "box", "box-es")
    assert objects_in(rig.log, "books").total() == 0
    rig.start(books())
    rig.until(lambda: total(rig, "box") == total(rig, "box-es") == RECORDS)


def test_nothing_is_cleared_beside_a_worker(rig: Rig) -> None:
    rig.start(books())
    with pytest.raises(LogError, match="workers of the app books run"):
        everything(rig, "box")
    assert objects_in(rig.log, "books")["box"] == 2 * KEYS
