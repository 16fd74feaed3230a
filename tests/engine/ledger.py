"""A ledger: a worker with a store that holds everything a store may, and the verifications and rebuilds that tests ask of it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from odradek import App, Context, ObjectContext, step
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import STORE_POSITION, StorePosition
from odradek_runtime.core.shard import Shard
from odradek_runtime.log.port import Partition
from odradek_runtime.store.store import Store
from odradek_runtime.store.store_folder import BENCH
from odradek_runtime.worker.restore.progress import Progress
from odradek_runtime.worker.restore.takeover import Takeover
from odradek_runtime.worker.upkeep.jobs import Findings, Job
from odradek_runtime.worker.worker import Worker
from tests.engine.harness import Rig
from tests.repeating import repeating

ALICE = "alice@desk"


def ledger() -> App:
    """One shard: accounts that add up what comes in, with a step now and then; naps that sleep on."""
    app = App("ledger", shards=1)
    entries, sums = app.topic("entries", value=int), app.topic("sums", value=int)
    account = app.object("account")

    @step
    async def noted(n: int) -> int:
        return n

    @account.on(entries)
    async def booked(ctx: ObjectContext, n: int) -> None:
        total = ctx.get("total", int, 0) + (await noted(n) if n % 500 == 0 else n)
        ctx.set("total", total)
        ctx.set("padding", os.urandom(20).hex())
        if n % 7 == 0:
            ctx.clear("padding")
        ctx.publish(sums, total, key=ctx.key)

    @app.handler
    async def nap(ctx: Context, name: int) -> None:
        await ctx.sleep(timedelta(days=3))

    return app


def shard_of(worker: Worker, number: int = 0) -> Shard:
    assert worker._engine is not None
    return worker._engine.machine.shards[number]


def job(rig: Rig, kind: str = "verify", number: int = 0) -> Job:
    assert rig.worker.upkeep is not None
    return rig.worker.upkeep.verify(number, ALICE) if kind == "verify" else rig.worker.upkeep.rebuild(number, ALICE)


def done(rig: Rig, kind: str = "verify") -> Job:
    given = job(rig, kind)
    rig.until(lambda: given.over, 60)
    return given


def found_by(given: Job) -> Findings:
    assert given.status == "ended", given.reason
    assert given.findings is not None
    return given.findings


def benches(rig: Rig) -> list[Path]:
    assert rig.directory is not None
    return list((rig.directory / "store").glob(f"*/*{BENCH}"))


def stored(rig: Rig) -> None:
    """Wait until the store has all that the log has."""

    def reached() -> bool:
        ends = [rig.log.offsets(Partition(f"ledger.{topic}", 0))[1] for topic in ("journal", "state")]  # it may still grow
        at = STORE_POSITION.decode(shard_of(rig.worker).store.get(keys.STORE_POSITION) or b"")
        return [at.journal_offset, at.state_offset] == ends

    rig.until(reached)


def filled(rig: Rig, records: int = 500) -> Worker:
    """A worker with everything in its store that a store may have."""
    app = ledger()
    worker = rig.start(app)
    for name in range(20):
        rig.ask("ledger/nap", name, wait=False)
    rig.publish("entries", *[(f"k{n % 100:03}", n) for n in range(records)])
    rig.settled(app)
    rig.until(lambda: len(rig.values("sums")) == records)
    stored(rig)
    return worker


@contextmanager
def load(rig: Rig, published: list[int]) -> Iterator[None]:
    """Some thousand records a second, until the body has ended."""

    def feed() -> None:
        start = len(published)
        numbers = range(start, start + 200)
        rig.publish("entries", *[(f"k{n % 100:03}", n) for n in numbers])
        published.extend(numbers)

    with repeating(feed, 0.03):
        yield


def amid(monkeypatch: pytest.MonkeyPatch, what: Callable[[], None]) -> None:
    """Between the copy of the store and its restore from the log."""
    copy = Takeover.copy

    def late(self: Takeover, number: int, into: Store, upto: StorePosition, progress: Progress) -> dict[str, int]:
        what()
        return copy(self, number, into, upto, progress)

    monkeypatch.setattr(Takeover, "copy", late)
