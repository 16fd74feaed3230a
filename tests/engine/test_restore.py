"""Restores: with the store only the delta is read, without it everything comes back, and what is torn is left out."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from odradek import App, Context, ObjectContext
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import POSITIONS, SLOT, Slot
from odradek_runtime.core.shard import Shard
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Output
from odradek_runtime.routing import fresh_id
from odradek_runtime.store.store import RocksStore
from odradek_runtime.worker.restore.startup import INTERNAL
from odradek_runtime.worker.restore.takeover import Takeover
from odradek_runtime.worker.worker import Worker
from tests.engine.harness import Rig


def ledger(shards: int = 2) -> App:
    app = App("ledger", shards=shards)
    entries, account = app.topic("entries", value=int), app.object("account")

    @account.on(entries)
    async def book(ctx: ObjectContext, n: int) -> None:
        ctx.set("total", ctx.get("total", int, 0) + n)
        if n == 7:
            await ctx.sleep(100_000)
        if n == 8:
            ctx.clear()

    @app.handler
    async def nap(ctx: Context) -> str:
        await ctx.sleep(1000)
        return "slept"

    @account.handler
    async def total(ctx: ObjectContext) -> int:
        return ctx.get("total", int, 0)

    return app


def stores(rig: Rig, app: App) -> dict[int, dict[bytes, bytes]]:
    """What every shard's store holds, without the position of the changelogs and of the inputs."""
    assert rig.directory is not None
    found: dict[int, dict[bytes, bytes]] = {}
    for number in range(rig.partitions(f"{app.name}.commands")):
        store = RocksStore(rig.directory / "store" / app.name / str(number))
        pairs = dict(store.scan(b"\0", b"\xff"))
        store.close()
        pairs.pop(keys.STORE_POSITION)
        pairs.pop(keys.POSITIONS)
        found[number] = pairs
    return found


def fill(rig: Rig, app: App, count: int = 300) -> None:
    rig.publish("entries", *[(f"k{n % 50}", n % 11) for n in range(count)])
    rig.settled(app)


def test_a_restart_with_the_store_reads_the_delta_alone(disk_rig: Rig) -> None:
    rig, app = disk_rig, ledger()
    rig.start(app)
    fill(rig, app)
    rig.restart(app)
    rig.publish("entries", ("k1", 1))
    rig.settled(app)
    rig.stop()
    rig.log.scanned.clear()
    rig.start(app)
    assert sum(rig.log.scanned.values()) <= 4, rig.log.scanned
    rig.stop()
    assert rig.directory is not None
    shutil.rmtree(rig.directory / "store")
    rig.log.scanned.clear()
    rig.start(app)
    assert rig.log.scanned["ledger.state"] > 40


@pytest.mark.parametrize("compacted", [False, True], ids=["whole log", "compacted log"])
def test_without_the_store_all_is_rebuilt_byte_for_byte(disk_rig: Rig, compacted: bool) -> None:
    rig, app = disk_rig, ledger()
    rig.start(app)
    fill(rig, app)
    naps = [rig.ask("ledger/nap") for _ in range(5)]
    rig.until(lambda: len([i for i in rig.invocations(app) if i.target == "ledger/nap"]) == 5)
    rig.stop()
    before = stores(rig, app)
    assert sum(len(pairs) for pairs in before.values()) > 60
    assert rig.directory is not None
    shutil.rmtree(rig.directory / "store")
    while compacted and rig.log.inner.clean():
        pass
    rig.start(app)
    rig.stop()
    assert stores(rig, app) == before
    rig.start(app)
    rig.later(1001)
    assert [rig.attach(nap.id).value() for nap in naps] == ["slept"] * 5


TORN = fresh_id(None, b"torn--------", hash_=0)


def torn_log(rig: Rig, app: App) -> None:
    """What a transaction leaves behind that was torn in two: records of an epoch without the positions that close it."""
    found = rig.positions(app, 0)
    assert found is not None
    stamp = f"{found.incarnation}.{found.epoch + 1}".encode()
    publisher = rig.log.publisher("torn")
    publisher.publish(
        [
            Output("ledger.state", 0, b"account/torn/total", b"666", [("odradek", stamp)]),
            Output("ledger.state", 0, next(k for k in rig.changelog("ledger.state", 0)), b"667", [("odradek", stamp)]),
            Output("ledger.journal", 0, keys.paused(TORN), SLOT.encode(Slot(TORN))),
        ],
        1,
    )
    publisher.close()


@pytest.mark.parametrize("wiped", [False, True], ids=["with the store", "without it"])
def test_a_torn_epoch_is_left_out_and_put_right(disk_rig: Rig, wiped: bool) -> None:
    rig, app = disk_rig, ledger()
    rig.start(app)
    fill(rig, app)
    rig.stop()
    before, states = stores(rig, app), rig.changelog("ledger.state")
    torn_log(rig, app)
    assert rig.changelog("ledger.state") != states
    assert rig.directory is not None
    if wiped:
        shutil.rmtree(rig.directory / "store")
    rig.start(app)
    assert rig.changelog("ledger.state") == states, "healed for every later reader"
    assert keys.paused(TORN) not in rig.journal(app)
    rig.stop()
    assert stores(rig, app) == before
    shutil.rmtree(rig.directory / "store")
    rig.start(app)
    rig.stop()
    assert stores(rig, app) == before, "and so it stays"


def test_a_store_of_other_topics_is_thrown_away(tmp_path: Path) -> None:
    """The log was deleted, and another one begun without it: nothing of the old state may shine through."""
    rig = Rig(EmbeddedLog(tmp_path / "log", fsync=False, clean_interval_s=0), tmp_path, 10_000)
    app = ledger()
    rig.start(app)
    fill(rig, app)
    rig.stop()
    rig.log.close()
    shutil.rmtree(tmp_path / "log")
    (tmp_path / "store").rename(tmp_path / "kept")
    rig = Rig(EmbeddedLog(tmp_path / "log", fsync=False, clean_interval_s=0), tmp_path, 10_000)
    rig.start(app)
    rig.stop()
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "kept").rename(tmp_path / "store")
    rig.start(app)
    assert rig.call("account/total", key="k1") == 0
    rig.close()


def test_a_store_beyond_the_log_is_thrown_away(tmp_path: Path) -> None:
    """The log was put back to an older copy: its topics are the same, but the store knows what never happened."""
    first = Rig(EmbeddedLog(tmp_path / "log", fsync=False, clean_interval_s=0), tmp_path, 10_000)
    app = ledger()
    first.start(app)
    first.publish("entries", ("k1", 1))
    first.settled(app)
    first.stop()
    first.log.close()
    shutil.copytree(tmp_path / "log", tmp_path / "copy")
    second = Rig(EmbeddedLog(tmp_path / "log", fsync=False, clean_interval_s=0), tmp_path, 10_000)
    second.start(app)
    fill(second, app)
    second.stop()
    second.log.close()
    third = Rig(EmbeddedLog(tmp_path / "copy", fsync=False, clean_interval_s=0), tmp_path, 10_000)
    third.start(app)
    assert third.call("account/total", key="k1") == 1
    assert third.call("account/total", key="k2") == 0
    third.close()


def test_a_store_older_than_the_tombstones_is_thrown_away(disk_rig: Rig) -> None:
    rig, app = disk_rig, ledger()
    rig.start(app)
    fill(rig, app)
    rig.stop()
    rig.later(86_400)
    rig.log.scanned.clear()
    rig.start(app)
    assert rig.log.scanned["ledger.state"] > 40


def test_the_inputs_positions_are_the_journals(disk_rig: Rig) -> None:
    rig, app = disk_rig, ledger()
    rig.start(app)
    fill(rig, app)
    before = rig.changelog("ledger.state")
    for crash in (False, True, False):
        rig.restart(app, crash=crash)
        rig.settled(app)
    assert rig.changelog("ledger.state") == before
    found = [POSITIONS.decode(raw) for n in range(2) if (raw := rig.changelog("ledger.journal", n).get(keys.POSITIONS))]
    assert [p.incarnation for p in found] == [4, 4]
    assert [p.shards for p in found] == [2, 2]


def test_a_subscription_that_is_gone_and_comes_back_goes_on_where_it_was(disk_rig: Rig) -> None:
    rig, app = disk_rig, ledger()
    rig.start(app)
    rig.publish("entries", ("free", 3))
    fill(rig, app)
    without = App("ledger", shards=2)
    account = without.object("account")

    @account.handler
    async def total(ctx: ObjectContext) -> int:
        return ctx.get("total", int, 0)

    rig.restart(without)
    assert rig.call("account/total", key="free") == 3
    rig.publish("entries", ("free", 4))
    rig.restart(app)
    rig.settled(app)
    assert rig.call("account/total", key="free") == 7


HOLDER = """
import sys, time
from pathlib import Path
from odradek_runtime.store.store import RocksStore
store = RocksStore(Path(sys.argv[1]))
print("open", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the store of shard 0 open."""
    path = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "store" / "ledger" / "0")]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "open\n"
    yield process
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_a_store_in_use_by_another_process_is_waited_for_and_said(
    tmp_path: Path, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(EmbeddedLog(tmp_path / "log", fsync=False, clean_interval_s=0), tmp_path, 10_000)
    for name, config in INTERNAL.items():  # the app has run before, as its store shows
        rig.log.create_topic(f"ledger.{name}", 2, config)
    worker: Worker = rig.begin(ledger())
    rig.until(lambda: f"is in use by process {holder.pid} (" in caplog.text)
    assert "stop it, or give this worker its own --data-dir" in caplog.text
    assert not worker.ready
    holder.send_signal(signal.SIGKILL)
    rig.until(lambda: worker.ready)
    rig.close()


LOAD = """
import sys
from pathlib import Path
from odradek_runtime.log.embedded import EmbeddedLog
from tests.engine.harness import Rig
from tests.engine.test_restore import ledger
directory = Path(sys.argv[1])
rig = Rig(EmbeddedLog(directory / "log", fsync=False), directory, int(sys.argv[2]))
rig.start(ledger())
n = 0
while True:
    rig.publish("entries", *[(f"k{i % 50}", 1) for i in range(n, n + 100)])
    n += 100
    print(n, flush=True)
"""


@contextmanager
def loading(directory: Path, cache: int) -> Generator[subprocess.Popen[str]]:
    """A worker under load in a process of its own, which is killed at the end; a crash of its own leaves a stack on stderr."""
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    command = [sys.executable, "-X", "faulthandler", "-c", LOAD, str(directory), str(cache)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("cache", [10_000, 0], ids=["kept", "replayed"])
def test_kill_9_under_load_counts_everything_once(tmp_path: Path, cache: int) -> None:
    for kill in range(2):
        with loading(tmp_path, cache) as process:
            assert process.stdout is not None
            for line in range(4 + kill * 3):
                said = process.stdout.readline()
                assert said, f"the worker of round {kill} ended by itself after {line} lines: exit code {process.wait()}"
    rig = Rig(EmbeddedLog(tmp_path / "log", fsync=False, clean_interval_s=0), tmp_path, cache)
    app = ledger()
    rig.start(app)
    rig.settled(app)
    published = len(rig.records("entries"))
    assert published >= 1100
    totals = [int(value) for value in rig.changelog("ledger.state").values()]
    assert sum(totals) == published
    rig.stop()
    before = stores(rig, app)
    shutil.rmtree(tmp_path / "store")
    rig.start(app)
    rig.stop()
    assert stores(rig, app) == before
    rig.close()


@pytest.mark.parametrize("over", ["before the worker is stopped", "after that"])
def test_a_restore_that_is_over_when_its_engine_is_dead_leaves_its_store_to_the_next(
    disk_rig: Rig, over: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, app, begun, let_end = disk_rig, ledger(1), threading.Event(), threading.Event()
    rig.start(app)
    run = Takeover.run

    def held(*args: Any) -> Shard:
        shard = run(*args)
        begun.set()
        assert let_end.wait(30)
        return shard

    monkeypatch.setattr(Takeover, "run", held)
    rig.log.judge = lambda _: "unknown, lost"
    rig.publish("entries", ("a", 1))
    rig.until(begun.is_set)
    worker = rig.workers.pop()
    rig.log.members.pop().die()
    rig.until_failed(worker)
    if over == "before the worker is stopped":
        let_end.set()
    worker.stop()
    let_end.set()
    monkeypatch.setattr(Takeover, "run", run)
    rig.log.judge = lambda _: "pass"
    rig.start(app)  # it could not, while somebody has the store
