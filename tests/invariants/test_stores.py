"""The store after a crash: a prefix of what was written, positions included; and quiet stores reach the disk by time."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from odradek_runtime.core.records import keys
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.store.store import RocksStore
from odradek_runtime.worker.upkeep import housekeeping
from odradek_runtime.worker.upkeep.housekeeping import Housekeeping
from tests.invariants.conftest import MakeStage
from tests.invariants.counting import counting
from tests.kafka.raw import eventually

ROOT = Path(__file__).parents[2]


def test_a_crash_never_leaves_a_position_without_its_data(tmp_path: Path) -> None:
    """Batches of data, then a batch that holds a position alone, as a quiet shard writes it; then SIGKILL."""
    command = [sys.executable, "-m", "tests.invariants.store_writer", str(tmp_path)]
    writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"written\n"
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()

    store = RocksStore(tmp_path)
    position = int(store.get(keys.STORE_POSITION) or b"0")
    found = [store.get(b"s%d" % number) for number in range(position)]
    store.close()
    assert found == [b"v"] * position, f"the position says {position}, the data goes to {found.count(b'v')}"


def test_no_write_goes_through_the_write_ahead_log(tmp_path: Path) -> None:
    store = RocksStore(tmp_path)
    for changes in ([(b"k", b"v" * 1000)], [(keys.STORE_POSITION, b"1" * 1000)], [(b"k", None), (b"l", b"v" * 1000)]):
        store.write(changes)

    assert sum(path.stat().st_size for path in tmp_path.glob("*.log")) == 0
    store.close()


def test_a_quiet_store_is_flushed_by_time(
    stage: MakeStage, log: EmbeddedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One record, and then nothing: without the clock its change would stay in memory for ever."""
    monkeypatch.setattr(housekeeping, "TURN_S", 0.02)
    monkeypatch.setattr(housekeeping, "FLUSH_S", 0.05)
    here = stage(counting(), tmp_path).open()
    here.publish("counting-in", ("k", 1))
    here.until(lambda: here.values("counting-out"))
    here.until(lambda: here.quiet)
    files = tmp_path / "store" / "counting" / "0"
    assert list(files.glob("*.sst")) == []

    stopping = threading.Event()
    keeper = Housekeeping(log, here.engine, stopping)
    keeper.start()
    eventually(lambda: list(files.glob("*.sst")) != [])
    stopping.set()
    keeper.join()


def test_a_store_that_is_closed_while_it_is_flushed_can_be_opened_again(tmp_path: Path) -> None:
    """A worker that loses its shard and gets it back opens the same store, perhaps amid a flush by time."""
    kept: list[RocksStore] = []  # as a handler's context keeps the shard that ran last
    for number in range(3):
        store = RocksStore(tmp_path)
        kept.append(store)
        store.write([(b"%d/%d" % (number, key), os.urandom(2000)) for key in range(8_000)])
        begun = threading.Event()

        def flush(store: RocksStore = store, begun: threading.Event = begun) -> None:
            begun.set()
            store.flush()

        flushing = threading.Thread(target=flush)
        flushing.start()
        begun.wait()
        time.sleep(0.002)
        store.close()
        flushing.join()
        store.flush()
    RocksStore(tmp_path).close()
