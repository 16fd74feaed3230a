"""The census: what is there, by handler and status, exact once an app is quiet; and counted by the shard's owner alone."""

import threading
from collections.abc import Iterator

import pytest

from odradek import App, Context, ObjectContext, RetryPolicy, TerminalError
from odradek_runtime.core.metrics import Standing
from odradek_runtime.store.store import RocksStore, StoreError
from odradek_runtime.worker.upkeep import census
from odradek_runtime.worker.upkeep.census import KINDS
from odradek_runtime.worker.upkeep.sightings import STATUSES
from odradek_runtime.worker.worker import Worker
from tests.engine.harness import Rig

SOON = RetryPolicy(initial=0.001, max_attempts=1)
LATER = RetryPolicy(initial=3600.0, max_delay=3600.0)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts again soon."""
    monkeypatch.setattr(census, "TURN_S", 0.02)
    monkeypatch.setattr(census, "EVERY_S", 0.1)


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """Steps wait for it."""
    event = threading.Event()
    yield event
    event.set()


def make_app(held: threading.Event, shards: int = 3) -> App:
    app = App("census", shards=shards)
    thing, bad = app.object("thing"), app.topic("bad", value=int)

    @app.handler
    async def sleeps(ctx: Context) -> None:
        await ctx.sleep(86_400)

    @thing.handler
    async def works(ctx: ObjectContext) -> None:
        await ctx.run(held.wait, 60, name="held")

    @app.handler(retry=LATER)
    async def fails(ctx: Context) -> None:
        raise ValueError("no")

    @app.handler(retry=SOON, on_exhausted="pause")
    async def gives_up(ctx: Context) -> None:
        raise ValueError("no")

    @app.handler
    async def step_fails(ctx: Context) -> None:
        def step() -> None:
            raise OSError("not yet")

        await ctx.run(step, retry=LATER)

    @app.on(bad, on_error="pause")
    async def refuses(ctx: Context, n: int) -> None:
        raise TerminalError("no")

    @app.handler
    async def fine(ctx: Context) -> int:
        return 1

    assert all(callable(handler) for handler in (sleeps, works, fails, gives_up, step_fails, refuses, fine))
    return app


def standing(worker: Worker) -> Standing:
    found = worker.snapshot().get("standing")
    assert found is not None
    return found


def counted(*workers: Worker) -> dict[tuple[str, str], int]:
    """What there is of each, all workers together; what is 0 is left out."""
    total: dict[tuple[str, str], int] = {}
    for worker in workers:
        for (target, status), (number, _) in standing(worker).invocations.items():
            if number:
                place = target.split("/")[1], status
                total[place] = total.get(place, 0) + number
    return total


def fill(rig: Rig) -> dict[tuple[str, str], int]:
    """Some of everything; gives what the census has to say of it."""
    for target, number in (("sleeps", 7), ("fails", 4), ("gives_up", 3), ("step_fails", 2), ("fine", 5)):
        for _ in range(number):
            rig.ask(f"census/{target}", wait=False).reply()
    for number in range(6):
        rig.ask("thing/works", key=f"k{number % 2}", wait=False).reply()
    for _ in range(2):
        rig.ask("census/fine", wait=False, after_s=3600).reply()
    rig.publish("bad", ("k", 1), ("k2", "text"))
    return {
        ("sleeps", "suspended"): 7,
        ("fails", "backing_off"): 4,
        ("gives_up", "paused"): 3,
        ("step_fails", "suspended"): 2,
        ("works", "running"): 2,
        ("works", "inboxed"): 4,
        ("fine", "scheduled"): 2,
        ("refuses", "paused"): 2,
    }


def test_what_is_there_is_counted_by_handler_and_status(rig: Rig, held: threading.Event) -> None:
    worker = rig.start(make_app(held))
    expected = fill(rig)
    rig.until(lambda: counted(worker) == expected)
    found = standing(worker)
    assert set(found.invocations) == {(target, status) for target in worker.app.handlers() for status in STATUSES}
    pending = {"sleep": 7, "retry": 4, "step": 2, "start": 2, "timeout": 0, "purge": found.pending["purge"]}
    assert found.pending == pending
    assert found.due == dict.fromkeys(KINDS, 0)

    rig.later(600)
    assert standing(worker).invocations["census/fails", "backing_off"][1] >= 600
    assert standing(worker).invocations["census/fails", "paused"] == (0, 0.0)
    rig.until(lambda: standing(worker).age_s < 60)  # it has been counted since

    held.set()
    expected = {place: number for place, number in expected.items() if place[0] != "works"}
    rig.until(lambda: counted(worker) == expected)


def test_what_is_there_is_the_same_after_a_crash(rig: Rig, held: threading.Event) -> None:
    app = make_app(held)
    rig.start(app)
    expected = fill(rig)
    rig.until(lambda: counted(rig.worker) == expected)
    rig.crash()
    worker = rig.start(make_app(held))
    rig.until(lambda: counted(worker) == expected)


def test_a_shard_that_moves_is_counted_by_its_owner_alone(rig: Rig, held: threading.Event) -> None:
    first = rig.start(make_app(held, shards=4))
    for _ in range(40):
        rig.ask("census/sleeps", wait=False).reply()
    rig.until(lambda: counted(first) == {("sleeps", "suspended"): 40})
    second = rig.start(make_app(held, shards=4))
    rig.until(lambda: first.ready and len(second.snapshot().get("shards_owned", ())) == 2)
    most = 0

    def whole() -> bool:
        nonlocal most
        both = counted(first, second)
        most = max(most, both.get(("sleeps", "suspended"), 0))
        return both == {("sleeps", "suspended"): 40} and bool(counted(second))

    rig.until(whole)
    assert most == 40, "none is counted twice"
    rig.stop()
    rig.until(lambda: counted(first) == {("sleeps", "suspended"): 40})


def test_a_store_that_the_census_cannot_read_is_replaced_like_any_other(
    disk_rig: Rig, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = disk_rig
    worker = rig.start(make_app(held))
    for _ in range(9):
        rig.ask("census/sleeps", wait=False).reply()
    rig.until(lambda: counted(worker) == {("sleeps", "suspended"): 9})
    damaged, page = list[RocksStore](), RocksStore.page

    def damaged_once(store: RocksStore, start: bytes, stop: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
        if not damaged:
            damaged.append(store)
            raise StoreError("block checksum mismatch (a test)", "unusable")
        return page(store, start, stop)

    monkeypatch.setattr(RocksStore, "page", damaged_once)
    rig.until(lambda: worker.metrics.stores_rebuilt == 1 and worker.ready)
    rig.until(lambda: counted(worker) == {("sleeps", "suspended"): 9})


def test_what_other_code_has_paused_is_counted_until_the_right_code_is_back(rig: Rig) -> None:
    def version(*, right: bool) -> App:
        app = App("census", shards=1)

        @app.handler
        async def turns(ctx: Context) -> None:
            if not right:
                await ctx.run(int, name="other")
            await ctx.sleep(3600)

        assert callable(turns)
        return app

    rig.start(version(right=True))
    rig.ask("census/turns", wait=False).reply()
    rig.until(lambda: counted(rig.worker) == {("turns", "suspended"): 1})
    rig.restart(version(right=False))
    rig.until(lambda: counted(rig.worker) == {("turns", "suspended"): 1})
    rig.later(3700)
    rig.until(lambda: counted(rig.worker) == {("turns", "paused"): 1})
    assert standing(rig.worker).invocations["census/turns", "paused"][1] >= 3700
    rig.restart(version(right=True))
    rig.until(lambda: standing(rig.worker).age_s < 60 and standing(rig.worker).pending["purge"] == 1)
    rig.until(lambda: counted(rig.worker) == {})
