"""A shard whose store is rebuilt while its worker runs: every total is exact afterwards; what is being restored is left alone."""

import logging
import threading
from collections.abc import Callable

import pytest

from odradek import App
from odradek_runtime.core.shard import Shard
from odradek_runtime.worker.restore.progress import Progress
from odradek_runtime.worker.restore.takeover import Takeover
from tests.engine.harness import Rig
from tests.engine.ledger import ALICE, done, filled, found_by, job, ledger, load, shard_of


def expected_totals(published: list[int]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for n in published:
        key = f"k{n % 100:03}"
        totals[key] = totals.get(key, 0) + n
    return totals


def totals(rig: Rig, app: App) -> dict[str, int]:
    return {f"k{n:03}": rig.state(app, "account", f"k{n:03}", "total") for n in range(100)}


def test_a_shard_is_rebuilt_under_load_and_every_total_is_exact(disk_rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig, app = disk_rig, ledger()
    worker = filled(rig, 0)
    published: list[int] = []
    with load(rig, published):
        rig.until(lambda: len(published) > 1_000)
        shard_of(worker).store.write([(b"saccount/nobody/total", b"7")])
        before = shard_of(worker).store
        with caplog.at_level(logging.INFO, "odradek"):
            given = done(rig, "rebuild")
        rig.until(lambda: len(published) > 2_000)
    assert given.status == "ended", given.reason
    assert given.done_records == given.total_records > 0
    assert shard_of(worker).store is not before
    assert f"its store is dropped, as {ALICE} has asked ({given.id})" in caplog.text
    rig.settled(app)
    rig.until(lambda: totals(rig, app) == expected_totals(published), 60)
    assert found_by(done(rig)).differences == 0
    assert worker.metrics.stores_rebuilt == 1
    assert rig.dead_letters(app) == []
    assert rig.directory is not None
    assert len(list((rig.directory / "store" / "ledger").glob("0.damaged-*"))) == 1
    rig.restart(app)
    assert found_by(done(rig)).differences == 0


def test_a_shard_that_is_being_restored_is_not_rebuilt(disk_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = disk_rig
    filled(rig)
    going, run = threading.Event(), Takeover.run

    def slow(self: Takeover, number: int, stamp: int, now_ms: Callable[[], float], progress: Progress) -> Shard:
        assert going.wait(30)
        return run(self, number, stamp, now_ms, progress)

    monkeypatch.setattr(Takeover, "run", slow)
    given = job(rig, "rebuild")
    rig.until(lambda: given.status == "restoring")
    assert job(rig, "rebuild") is given
    verified = done(rig)
    assert (verified.status, verified.reason) == ("failed", "shard 0 is being restored: verify it when it is open")
    going.set()
    rig.until(lambda: given.over)
    assert given.status == "ended"
