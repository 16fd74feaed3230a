"""Damaged stores: a store that cannot be read is set aside and its shard rebuilt; no handler, record or timer feels it."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from odradek import App, Context, ObjectContext, Topic
from odradek_runtime.store.store import RocksStore, Store, StoreError
from odradek_runtime.store.store_folder import StoreFolder
from odradek_runtime.worker.worker import Worker
from tests.engine.damage import DAMAGES, flip, flip_a_block, tables
from tests.engine.harness import Rig

APP = "ledger"
SWALLOWS: list[type[BaseException]] = [Exception, BaseException]


def ledger(swallows: type[BaseException] | None = None) -> App:
    """One shard: accounts that add up what comes in; naps that end with a record."""
    app = App(APP, shards=1)
    entries, sums, woken = app.topic("entries", value=int), app.topic("sums", value=int), app.topic("woken", value=int)
    account = app.object("account")

    def book(ctx: ObjectContext, n: int, sums: Topic[str, int]) -> None:
        total = ctx.get("total", int, 0) + n
        ctx.set("total", total)
        ctx.set("padding", os.urandom(100).hex())
        ctx.publish(sums, total, key=ctx.key)

    @account.on(entries)
    async def booked(ctx: ObjectContext, n: int) -> None:
        if swallows is None:
            book(ctx, n, sums)
            return
        try:
            book(ctx, n, sums)
        except swallows:
            ctx.publish(sums, -1, key=ctx.key)

    @app.handler
    async def nap(ctx: Context, name: int) -> None:
        await ctx.sleep(1000)
        ctx.publish(woken, name)

    @account.handler
    async def total(ctx: ObjectContext) -> int:
        if swallows is None:
            return ctx.get("total", int, 0)
        try:
            return ctx.get("total", int, 0)
        except swallows:
            return -1

    return app


def store_of(rig: Rig) -> Path:
    assert rig.directory is not None
    return rig.directory / "store" / APP / "0"


def aside(rig: Rig) -> list[Path]:
    return sorted(store_of(rig).parent.glob("0.damaged-*"))


def fill(rig: Rig, app: App, keys: int) -> None:
    rig.publish("entries", *[(f"k{n:06}", 1) for n in range(keys)])
    rig.settled(app)


def restart_damaged(rig: Rig, app: App, damage: Callable[[Path], None], **settings: int) -> Worker:
    rig.stop()
    damage(store_of(rig))
    return rig.start(app, **settings)


def test_a_scan_that_meets_a_damaged_block_is_an_error(tmp_path: Path) -> None:
    """Its iterator would end there as at the end of the store: 6,004 of 20,000 entries, and no word."""
    store = RocksStore(tmp_path)
    store.write([(b"t%06d" % n, os.urandom(40)) for n in range(20_000)])
    store.flush()
    store.close()
    flip_a_block(tmp_path)
    store = RocksStore(tmp_path)
    with pytest.raises(StoreError, match=r"damaged.*block checksum mismatch") as raised:
        list(store.scan(b"t", b"u"))
    assert raised.value.kind == "unusable"
    store.close()
    RocksStore(tmp_path).close()  # though somebody still holds the error: no iterator keeps the database open


def test_a_scan_goes_on_where_it_was_however_much_there_is(tmp_path: Path) -> None:
    store = RocksStore(tmp_path)
    pairs = [(b"k%06d" % n, b"v" * (n % 3000)) for n in range(5_000)]
    store.write([*pairs, (b"j", b"before"), (b"l", b"behind")])
    assert list(store.scan(b"k", b"l")) == pairs
    assert list(store.scan(b"k000010", b"k000012")) == pairs[10:12]
    assert list(store.scan(b"m", b"n")) == []
    store.close()


def test_a_store_in_use_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    """A block checksum mismatch has a lock in it, too."""
    store = RocksStore(tmp_path)
    with pytest.raises(StoreError, match=f"in use by process {os.getpid()} ") as raised:
        RocksStore(tmp_path)
    assert raised.value.kind == "in_use"
    store.close()


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_store_is_set_aside_and_the_shard_rebuilt(
    disk_rig: Rig, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """A thousand accounts, a new record for each after the damage: every total is right, nothing is a dead letter."""
    rig, app = disk_rig, ledger()
    rig.start(app)
    fill(rig, app, 1_000)
    with caplog.at_level(logging.ERROR):
        restart_damaged(rig, app, damage)
        fill(rig, app, 1_000)
    assert rig.dead_letters(app) == []
    assert sorted(rig.values("sums")) == [1] * 1_000 + [2] * 1_000
    if damage is not DAMAGES["no CURRENT"]:  # without it and without other files RocksDB takes it for a new store
        (kept,) = aside(rig)
        assert f"is kept in {kept}, and the shard is rebuilt from the log" in caplog.text
        assert rig.worker.metrics.stores_rebuilt == 1
    assert rig.call("account/total", key="k000500") == 2
    assert rig.worker.metrics.retries == 0


def test_a_store_that_cannot_be_set_aside_yet_is_not_opened_again(
    disk_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, app = disk_rig, ledger()
    rig.start(app)
    fill(rig, app, 1_000)
    opened, refused = list[int](), list[int]()
    shut = [True]
    set_aside, open_ = StoreFolder.set_aside, StoreFolder.open

    def refuse(stores: StoreFolder, number: int) -> str:
        if shut[0]:
            refused.append(len(opened))
            raise StoreError("the store cannot be moved out of the way: Permission denied (a test)", "refused")
        return set_aside(stores, number)

    def note(stores: StoreFolder, number: int) -> Store:
        opened.append(number)
        return open_(stores, number)

    monkeypatch.setattr(StoreFolder, "set_aside", refuse)
    monkeypatch.setattr(StoreFolder, "open", note)
    rig.stop()
    flip_a_block(store_of(rig))
    worker = rig.begin(app)
    rig.publish("entries", *[(f"k{n:06}", 1) for n in range(1_000)])
    rig.until(lambda: len(refused) >= 3)
    assert len(set(refused)) == 1, "opened though it is known to be damaged"
    assert not worker.ready
    shut[0] = False
    rig.settled(app)
    assert sorted(rig.values("sums")) == [1] * 1_000 + [2] * 1_000
    assert worker.metrics.stores_rebuilt == 1 and len(aside(rig)) == 1


@pytest.mark.parametrize("swallows", SWALLOWS)
def test_what_a_handler_makes_of_a_store_error_never_counts(disk_rig: Rig, swallows: type[BaseException]) -> None:
    """Handlers that catch everything answer or publish -1: no epoch with that in it is committed."""
    rig, app = disk_rig, ledger(swallows)
    rig.start(app)
    fill(rig, app, 1_000)
    restart_damaged(rig, app, flip_a_block)
    assert {rig.call("account/total", key=f"k{n:06}") for n in range(0, 1_000, 7)} == {1}
    fill(rig, app, 1_000)
    assert sorted(rig.values("sums")) == [1] * 1_000 + [2] * 1_000
    assert rig.dead_letters(app) == []
    assert len(aside(rig)) == 1


def test_every_timer_of_a_damaged_store_fires_once(disk_rig: Rig) -> None:
    """3,000 of them; a scan that ended at the damage would leave out those behind it."""
    rig, app = disk_rig, ledger()
    rig.start(app, epoch_linger_s=0.05)
    names = list(range(3_000))
    for name in names:
        rig.ask("ledger/nap", name, wait=False)
    rig.until(lambda: len(rig.invocations(app)) == 3_000)
    rig.stop()
    store = store_of(rig)
    flip(tables(store)[0], *(place / 20 for place in range(1, 18)))
    rig.start(app)
    rig.later(1_001)
    rig.until(lambda: len(rig.values("woken")) >= 3_000)
    rig.settled(app)
    assert sorted(rig.values("woken")) == names
    assert len(aside(rig)) == 1


@pytest.mark.parametrize("then", ["gone", "a file"])
def test_a_folder_that_goes_while_it_is_in_use_is_made_anew(disk_rig: Rig, then: str) -> None:
    rig, app = disk_rig, ledger()
    worker = rig.start(app)
    fill(rig, app, 100)
    shutil.rmtree(store_of(rig))
    if then == "a file":
        store_of(rig).write_text("something else")
    while not worker.metrics.stores_rebuilt:
        housekeep(worker)
    rig.until(lambda: worker.ready)
    fill(rig, app, 100)
    assert sorted(rig.values("sums")) == [1] * 100 + [2] * 100
    assert store_of(rig).is_dir()
    rig.restart(app)
    assert rig.call("account/total", key="k000050") == 2


def test_no_more_than_a_few_damaged_stores_are_kept(disk_rig: Rig) -> None:
    rig, app = disk_rig, ledger()
    rig.start(app)
    fill(rig, app, 200)
    for _ in range(4):
        restart_damaged(rig, app, DAMAGES["no MANIFEST"])
    assert len(aside(rig)) == 2
    assert rig.call("account/total", key="k000050") == 1


def test_a_shard_that_no_disk_holds_says_so_and_goes_on_when_one_does(disk_rig: Rig) -> None:
    """On the embedded log there is no other worker: it keeps trying."""
    rig, app = disk_rig, ledger()
    rig.start(app)
    fill(rig, app, 50)
    rig.stop()
    folder = store_of(rig).parent.parent
    shutil.rmtree(folder)
    folder.write_text("a file where the folder of all stores should be")
    worker = rig.begin(app)
    rig.until(lambda: str(folder) in repr(worker.snapshot().get("restoring")))
    assert not worker.ready
    folder.unlink()
    rig.until(lambda: worker.ready)
    assert rig.call("account/total", key="k000020") == 1


def housekeep(worker: Worker) -> None:
    """What its thread does every minute."""
    worker._housekeeping._flushed_s = -1e9
    worker._housekeeping.round()
