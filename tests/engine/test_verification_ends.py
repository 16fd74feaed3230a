"""Verifications one after another, and what ends them early: a shard that moves, a worker that stops, a full disk, a defect."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from odradek import App, Context
from odradek_runtime.log.port import Losing
from odradek_runtime.store.store_folder import BENCH
from odradek_runtime.worker.upkeep.jobs import Findings
from odradek_runtime.worker.upkeep.upkeep import NotHere, UpkeepRefused
from odradek_runtime.worker.upkeep.verification import Verification
from tests.engine.harness import Rig
from tests.engine.ledger import amid, benches, done, filled, found_by, job, ledger, shard_of


@contextmanager
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Verifications stand still while they restore, until the event is set."""
    going = threading.Event()
    amid(monkeypatch, lambda: assert_(going.wait(30)))
    try:
        yield going
    finally:
        going.set()


def assert_(held: object) -> None:
    assert held


def two_shards() -> App:
    app = App("pair", shards=2)

    @app.handler
    async def nap(ctx: Context, name: int) -> None:
        await ctx.sleep(timedelta(days=3))

    return app


def test_one_at_a_time_and_the_same_twice_is_one(disk_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = disk_rig
    rig.start(two_shards())
    for name in range(20):
        rig.ask("pair/nap", name, wait=False)
    with held(monkeypatch) as going:
        first = job(rig)
        rig.until(lambda: first.status == "restoring")
        second = job(rig, number=1)
        assert job(rig) is first
        assert job(rig, number=1) is second
        assert second.status == "waiting"
        going.set()
        rig.until(lambda: first.over and second.over)
    assert found_by(first).differences == found_by(second).differences == 0
    assert job(rig) is not first
    assert rig.worker.upkeep is not None
    assert rig.worker.upkeep.find(first.id) is first
    rig.until(lambda: not benches(rig))


def test_a_shard_that_moves_away_ends_it(disk_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = disk_rig
    worker = filled(rig)
    released = threading.Event()
    with held(monkeypatch) as going:
        given = job(rig)
        rig.until(lambda: given.status == "restoring")
        worker._queue.put(Losing((0,), lost=False, release=released.set))
        assert released.wait(15)
        going.set()
        rig.until(lambda: given.over)
    assert (given.status, given.reason) == ("failed", "the shard has moved to another worker meanwhile: verify it again")
    assert benches(rig) == []
    with pytest.raises(NotHere):
        job(rig)
    with pytest.raises(NotHere):
        job(rig, "rebuild")


def test_a_worker_that_stops_ends_it(disk_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = disk_rig
    filled(rig)
    with held(monkeypatch) as going:
        given = job(rig)
        rig.until(lambda: given.status == "restoring")
        threading.Timer(0.2, going.set).start()
        rig.stop()
    assert (given.status, given.reason) == ("failed", "the worker has stopped meanwhile: verify it again")
    assert benches(rig) == []


def test_what_a_crash_has_left_is_removed_at_the_next_start(disk_rig: Rig) -> None:
    rig = disk_rig
    filled(rig)
    assert rig.directory is not None
    left = rig.directory / "store" / "ledger" / f"0{BENCH}"
    shard_of(rig.worker).store.checkpoint(left)
    (left / "more").mkdir()
    rig.restart(ledger())
    assert benches(rig) == []
    left.mkdir()
    (left / "a file").write_text("of a verification that died with its thread")
    assert found_by(done(rig)).differences == 0
    assert benches(rig) == []


class Full:
    """What statvfs says of a disk that is nearly full."""

    f_bavail, f_frsize = 1_000, 4_096


def test_a_disk_without_room_refuses_both(disk_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(disk_rig)
    monkeypatch.setattr(os, "statvfs", lambda _: Full())
    given = done(disk_rig)
    assert given.status == "failed"
    assert "has 3 MiB free" in given.reason
    assert "Free some room" in given.reason
    with pytest.raises(UpkeepRefused, match="Free some room"):
        job(disk_rig, "rebuild")


def test_a_verification_that_fails_in_an_unknown_way_holds_nobody_up(disk_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(disk_rig)

    def broken(*_: Any) -> Findings:
        raise RuntimeError("a test")

    with monkeypatch.context() as patched:
        patched.setattr(Verification, "run", broken)
        given = done(disk_rig)
    assert (given.status, given.reason) == ("failed", "a defect of odradek: the worker's log has it")
    assert found_by(done(disk_rig)).differences == 0
