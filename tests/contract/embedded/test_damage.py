"""Damage: bytes that have changed under the embedded log are found where they are read, and stop it; a torn tail does not."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from rocksdict import Options, Rdict

from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import LogError, Output, Partition
from tests.engine.damage import DAMAGES, flip, tables

OUT = Partition("out", 0)
COUNT = 20_000

WRITER = """
import os, sys
from pathlib import Path
from odradek_runtime.log.port import Output
from odradek_runtime.log.embedded import EmbeddedLog

log = EmbeddedLog(Path(sys.argv[1]), clean_interval_s=0)
log.create_topic("out", 1, {})
publisher = log.publisher("writer")
for number in range(1, 101):
    publisher.publish([Output("out", 0, b"k", os.urandom(300))], number)
os._exit(0)
"""


def written(folder: Path) -> None:
    """A log with its records in data files."""
    log = EmbeddedLog(folder, fsync=False, clean_interval_s=0)
    log.create_topic("out", 1, {})
    publisher = log.publisher("test")
    publisher.publish([Output("out", 0, b"k", os.urandom(60)) for _ in range(COUNT)], 1)
    publisher.close()
    log.close()
    EmbeddedLog(folder, fsync=False, clean_interval_s=0).close()
    assert tables(folder / "db")


def test_a_row_that_somebody_else_has_written_names_itself_and_the_way_out(tmp_path: Path) -> None:
    """Its checksum holds: nothing is damaged, and it is no record all the same."""
    written(tmp_path)
    db = Rdict(str(tmp_path / "db"), Options(raw_mode=True))
    row = next(name for name in cast("Iterator[bytes]", db.keys()) if name.startswith(b"R"))
    db[row] = b"\x02\xff"
    db.close()

    log = EmbeddedLog(tmp_path, fsync=False, clean_interval_s=0)
    with pytest.raises(LogError, match=r"a record \(out\[0\]@0\) that this version .* Put a copy") as refused:
        list(log.scan(OUT, 0, COUNT))
    log.close()
    assert not refused.value.retriable


def crashed(folder: Path) -> Path:
    """The write-ahead log of a process that ended without closing anything."""
    subprocess.run([sys.executable, "-c", WRITER, str(folder)], env={"PYTHONPATH": ":".join(sys.path)}, check=True)
    return max((folder / "db").glob("*.log"), key=lambda path: path.stat().st_size)


def count(log: EmbeddedLog) -> int:
    return sum(len(batch) for batch in log.scan(OUT, *log.offsets(OUT)))


def test_a_flipped_block_is_found_with_its_file_and_offset(tmp_path: Path) -> None:
    """A scan would end there without a word, and what lies behind would never be processed."""
    written(tmp_path)
    damaged = tables(tmp_path / "db")[0]
    flip(damaged, 0.5)
    log = EmbeddedLog(tmp_path, fsync=False, clean_interval_s=0)
    with pytest.raises(LogError, match=rf"is damaged: {damaged} at offset \d+.*the only copy.*put a copy") as raised:
        count(log)
    assert not raised.value.retriable
    publisher = log.publisher("test")
    with pytest.raises(LogError, match="is damaged"):  # nothing is added to it either
        publisher.publish([Output("out", 0, b"k", b"v")], 2)
    log.close()


def test_the_members_hear_of_damage_that_somebody_else_meets(tmp_path: Path) -> None:
    """Cleaning, or a command that reads beside the worker: the worker ends, though it reads nothing there itself."""
    written(tmp_path)
    flip(tables(tmp_path / "db")[0], 0.5)
    log = EmbeddedLog(tmp_path, fsync=False, clean_interval_s=0)
    log.create_topic("app.commands", 1, {})
    heard: list[object] = []
    member = log.member("app", 1, None)
    member.join(heard.append)
    with pytest.raises(LogError):
        count(log)
    assert [event for event in heard if getattr(event, "fatal", False)]
    log.close()


@pytest.mark.parametrize("damage", [d for name, d in DAMAGES.items() if name not in ("flipped block", "a file in its place")])
def test_a_log_that_cannot_be_opened_says_so(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """Without CURRENT RocksDB would begin a new, empty one."""
    written(tmp_path)
    damage(tmp_path / "db")
    before = sorted(path.name for path in (tmp_path / "db").glob("*.sst"))
    for _ in range(2):
        with pytest.raises(LogError, match="is damaged") as raised:
            EmbeddedLog(tmp_path, fsync=False, clean_interval_s=0)
        assert not raised.value.retriable
    assert sorted(path.name for path in (tmp_path / "db").glob("*.sst")) == before


@pytest.mark.parametrize("place", [0.2, 0.5])
def test_bytes_that_changed_in_the_write_ahead_log_are_damage(tmp_path: Path, place: float) -> None:
    """What lies behind them is committed, too: to drop it in silence would undo acknowledged commits."""
    flip(crashed(tmp_path), place)
    with pytest.raises(LogError, match="is damaged: its write-ahead log"):
        EmbeddedLog(tmp_path, clean_interval_s=0)


@pytest.mark.parametrize("cut", [5, 150, -4096])
def test_a_torn_tail_after_a_crash_is_no_damage(tmp_path: Path, cut: int) -> None:
    """What the crash cut off was not acknowledged; nor do zeros count, which a file system leaves where it had made room."""
    journal = crashed(tmp_path)
    with journal.open("r+b") as file:
        file.truncate(journal.stat().st_size - cut)
    log = EmbeddedLog(tmp_path, clean_interval_s=0)
    assert count(log) == (99 if cut > 0 else 100)
    log.close()
