"""Verifications and rebuilds on a running worker: a sound store is found sound under load, and what was planted is found, alone."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from odradek import App, Context, ObjectContext, step
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import STORE_POSITION, StorePosition
from odradek_runtime.core.shard import Shard
from odradek_runtime.log.port import Losing, Output, Partition
from odradek_runtime.store.store import Store
from odradek_runtime.store.store_folder import BENCH
from odradek_runtime.worker.restore.progress import Progress
from odradek_runtime.worker.restore.takeover import Takeover
from odradek_runtime.worker.upkeep.census import Census
from odradek_runtime.worker.upkeep.jobs import Difference, Findings, Job
from odradek_runtime.worker.upkeep.upkeep import NotHere, UpkeepRefused
from odradek_runtime.worker.upkeep.verification import SHOWN, Verification
from odradek_runtime.worker.worker import Worker
from tests.engine.damage import flip, tables
from tests.engine.harness import Rig

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
    stopping = threading.Event()

    def feed() -> None:
        while not stopping.wait(0.03):
            start = len(published)
            numbers = range(start, start + 200)
            rig.publish("entries", *[(f"k{n % 100:03}", n) for n in numbers])
            published.extend(numbers)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def expected_totals(published: list[int]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for n in published:
        key = f"k{n % 100:03}"
        totals[key] = totals.get(key, 0) + n
    return totals


def totals(rig: Rig, app: App) -> dict[str, int]:
    return {f"k{n:03}": rig.state(app, "account", f"k{n:03}", "total") for n in range(100)}


def test_a_sound_store_is_found_sound_under_load(disk_rig: Rig) -> None:
    rig = disk_rig
    filled(rig)
    published: list[int] = []
    found: list[Findings] = []
    with load(rig, published):
        while len({each.journal_offset for each in found}) < 4:
            found.append(found_by(done(rig)))
    for each in found:
        assert (each.differences, each.shown, each.unknown, each.foreign) == (0, [], 0, {})
        assert each.keys > 200
        assert each.records > 200
    assert benches(rig) == []


def test_stores_in_memory_are_verified_too(rig: Rig) -> None:
    filled(rig)
    assert found_by(done(rig)).differences == 0


def changed(store: Store) -> Difference:
    key = b"saccount/k007/total"
    assert store.get(key) is not None
    store.write([(key, b"123456")])
    return Difference("state", "account/k007/total", 6, 4)


def removed(store: Store) -> Difference:
    key, value = next(iter(store.scan(b"i", b"j")))
    store.write([(key, None)])
    return Difference("invocation", key[1:].decode(), None, len(value))


def added(store: Store) -> Difference:
    store.write([(b"saccount/nobody/total", b"7")])
    return Difference("state", "account/nobody/total", 1, None)


def added_of_no_kind(store: Store) -> Difference:
    store.write([(b"\x07what", b"7")])
    return Difference("of no known kind", "'\\x07what'", 1, None)


def a_lost_timer(store: Store) -> Difference:
    key, value = next(iter(store.scan(b"t", b"u")))
    _, id_, _ = keys.split_timer(key)
    store.write([(key, None)])
    return Difference("timer", id_, None, len(value))


@pytest.mark.parametrize("plant", [changed, removed, added, added_of_no_kind, a_lost_timer])
def test_a_planted_difference_is_found_and_nothing_else(
    disk_rig: Rig, plant: Callable[[Store], Difference], caplog: pytest.LogCaptureFixture
) -> None:
    worker = filled(disk_rig)
    planted = plant(shard_of(worker).store)
    with caplog.at_level(logging.INFO, "odradek"):
        found = found_by(done(disk_rig))
    assert found.differences == 1
    (shown,) = found.shown
    assert (shown.kind, shown.store_bytes, shown.log_bytes) == (planted.kind, planted.store_bytes, planted.log_bytes)
    assert shown.key.startswith(planted.key)
    assert f"{ALICE} wants its store verified" in caplog.text
    assert f"the first: {planted.kind} {planted.key}" in caplog.text


def test_all_differences_are_counted_and_some_shown(disk_rig: Rig) -> None:
    worker = filled(disk_rig)
    shard_of(worker).store.write([(b"saccount/k%05d/total" % n, b"1") for n in range(3_000)])
    found = found_by(done(disk_rig))
    assert (found.differences, len(found.shown)) == (3_000, SHOWN)


def amid(monkeypatch: pytest.MonkeyPatch, what: Callable[[], None]) -> None:
    """Between the copy of the store and its restore from the log."""
    copy = Takeover.copy

    def late(self: Takeover, number: int, into: Store, upto: StorePosition, progress: Progress) -> dict[str, int]:
        what()
        return copy(self, number, into, upto, progress)

    monkeypatch.setattr(Takeover, "copy", late)


def test_a_copy_is_compared_at_its_own_position(disk_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written meanwhile is not read: it would differ, and be left out."""
    rig, app = disk_rig, ledger()
    worker = filled(rig)
    at = shard_of(worker).at
    before = (at.journal_offset, at.state_offset)

    def write() -> None:
        rig.publish("entries", *[(f"k{n % 100:03}", n) for n in range(501, 701)])
        rig.settled(app)

    amid(monkeypatch, write)
    found = found_by(done(rig))
    assert (found.journal_offset, found.state_offset) == before
    assert (found.differences, found.written_since) == (0, 0)


def test_compaction_meanwhile_costs_no_false_difference(disk_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is written again behind the store's position, and the records that it had are gone: the positions' as well."""
    rig, app = disk_rig, ledger()
    worker = filled(rig)
    planted = shard_of(worker).store
    planted.write([(b"saccount/nobody/total", b"7")])

    def write_again_and_compact() -> None:
        rig.publish("entries", *[(f"k{n % 100:03}", n) for n in range(501, 701)])
        rig.settled(app)
        while rig.log.inner.clean():
            pass

    amid(monkeypatch, write_again_and_compact)
    found = found_by(done(rig))
    assert [each.key for each in found.shown] == ["account/nobody/total"]
    assert found.differences == 1
    assert found.written_since >= 101, "a hundred totals, and the positions"


def test_what_a_torn_epoch_left_is_no_difference(disk_rig: Rig) -> None:
    """Put right by the take-over that met it, its records stay in the changelogs for ever."""
    rig, app = disk_rig, ledger()
    worker = filled(rig)
    shard = shard_of(worker)
    key, value = next(iter(shard.store.scan(b"i", b"j")))
    stamp = [("odradek", b"%d.%d" % (shard.incarnation, 10**9))]
    rig.stop()
    publisher = rig.log.publisher("torn")
    torn = [Output("ledger.journal", 0, b"i" + key[1:], None), Output("ledger.state", 0, b"account/k007/total", b"-1", stamp)]
    publisher.publish(torn, 1)
    worker = rig.start(app)
    stored(rig)
    assert shard_of(worker).store.get(key) == value
    assert found_by(done(rig)).differences == 0
    rig.publish("entries", ("k007", 7))
    rig.settled(app)
    assert found_by(done(rig)).differences == 0


def test_what_others_wrote_is_left_out_and_told(disk_rig: Rig) -> None:
    rig = disk_rig
    filled(rig)
    publisher = rig.log.publisher("stranger")
    publisher.publish([Output("ledger.state", 0, b"no key of ours", b"x"), Output("ledger.journal", 0, b"\x01", b"x")], 1)
    rig.publish("entries", ("k001", 1), ("k002", 2))
    rig.settled(ledger())
    stored(rig)
    found = found_by(done(rig))
    assert (found.differences, found.foreign) == (0, {"ledger.state": 1, "ledger.journal": 1})


def test_a_damaged_store_is_told_with_the_way_out(disk_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Census, "round", lambda _: None)  # it would come upon the damage, and have the shard rebuilt
    worker = filled(disk_rig)
    store = shard_of(worker).store
    store.flush()
    assert disk_rig.directory is not None
    flip(tables(disk_rig.directory / "store" / "ledger" / "0")[0], 0.1, 0.3, 0.5)
    given = done(disk_rig)
    assert given.status == "failed"
    assert "is damaged" in given.reason
    assert "odradek rebuild --shard 0" in given.reason
    assert benches(disk_rig) == []


# --- one after another, and what ends them ---


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


# --- a store follows its position ---


def test_a_copy_is_what_the_store_is_between_two_writes(disk_rig: Rig, tmp_path: Path) -> None:
    worker = filled(disk_rig)
    live = shard_of(worker).store
    copy = live.checkpoint(tmp_path / "copy")
    before = dict(live.scan(b"", b"\xff"))
    live.write([(b"z", b"later"), (keys.STORE_POSITION, None)])
    assert dict(copy.scan(b"", b"\xff")) == before
    assert STORE_POSITION.decode(copy.get(keys.STORE_POSITION) or b"") == shard_of(worker).at
    live.write([(b"z", None), (keys.STORE_POSITION, before[keys.STORE_POSITION])])
    copy.close()


# --- rebuilding ---


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
