"""The embedded log's RocksDB: one process at a time, atomic durable writes, and a way back after a full disk.

Owns the folder, its lock file and the open database. Everything above it thinks in rows (rows.py).
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
)

from odradek_runtime.log.port import LogError
from odradek_runtime.store.data_folder import make_private
from odradek_runtime.store.lock_file import Held, LockFileError, holder, take

WRITE_BUFFER_BYTES = 16 * 1024 * 1024
BLOCK_CACHE_BYTES = 64 * 1024 * 1024
RESERVE_BYTES = 64 * 1024 * 1024
"""Room that must stay free on the disk, so that RocksDB can always flush and reopen."""

_log = logging.getLogger("odradek.log")


class DiskError(LogError):
    """A write failed. `reached` None: whether it is on disk shows only when the database has been reopened."""

    def __init__(self, message: str, *, reached: bool | None) -> None:
        super().__init__(message)
        self.reached = reached


class DamageError(LogError):
    """What is on the disk is not what was written. There is no other copy, so nothing goes on."""

    def __init__(self, folder: Path, reason: str) -> None:
        found = re.search(r"in (\S+) offset (\d+)", reason) or re.search(r"(\S+/[\w-]+\.?\w*)", reason)
        logs = ", ".join(sorted(str(path) for path in folder.glob("*.log")))
        where = " at offset ".join(found.groups()) if found else f"its write-ahead log ({logs})"
        super().__init__(
            f"the embedded log in {folder.parent} is damaged: {where}: {reason}. It is the only copy: put a copy of the"
            f" folder {folder.parent} back, or move the folder away to start with nothing",
            retriable=False,
        )


class Disk:
    """An open folder. `directory` None: a temporary one, removed at close. `on_damage` hears of damage once, from any thread."""

    def __init__(self, directory: Path | None, *, fsync: bool, reserve_bytes: int = RESERVE_BYTES) -> None:
        self._temporary = directory is None
        self.path = Path(tempfile.mkdtemp(prefix="odradek-")) if directory is None else directory
        self.reserve_bytes = reserve_bytes
        self._lock_fd = _take_lock(self.path)
        self._options = _options()
        self._fsync = fsync and not self._temporary
        self._turn = threading.Condition()
        self._readers = 0
        self._db: Rdict | None = None
        self._failure = "the log is closed"
        self._closed = False
        self._damage: DamageError | None = None
        self.on_damage: Callable[[DamageError], None] | None = None
        try:
            self._db = self._open()
        except LogError:
            os.close(self._lock_fd)
            raise

    def _open(self) -> Rdict:
        folder = self.path / "db"
        if not (folder / "CURRENT").exists() and any(p.stat().st_size for p in (*folder.glob("*.sst"), *folder.glob("*.log"))):
            raise DamageError(folder, f"{folder / 'CURRENT'} is missing, and there is data beside it")  # RocksDB would begin anew
        try:
            return Rdict(str(folder), self._options)
        except Exception as error:
            if (damage := self._damaged(error)) is not None:
                raise damage from error
            if "While lock file" in str(error):
                raise LogError(f"the log in {self.path} is open in {holder(folder / 'LOCK')}: stop it", retriable=False) from error
            message = f"cannot open the log in {self.path}: {error}. Free disk space or check its permissions"
            raise DiskError(message, reached=None) from error

    @property
    def broken(self) -> bool:
        """True from a failed write until `reopen` has succeeded."""
        return self._db is None

    def _damaged(self, error: Exception) -> DamageError | None:
        """What a failure says of the files; None when it says nothing of them."""
        text = str(error)
        if not text.startswith("Corruption") and "No such file" not in text:
            return None
        if self._damage is None:
            self._damage = DamageError(self.path / "db", text)
            if self.on_damage is not None:
                self.on_damage(self._damage)
        return self._damage

    @contextmanager
    def reading(self) -> Generator[Rdict]:
        """The database, which stays open inside the block. Raises LogError, also for what is read in the block."""
        with self._using() as db:
            try:
                yield db
            except Exception as error:
                if type(error) is not Exception:  # RocksDB's are bare ones
                    raise
                raise self._damaged(error) or LogError(f"the log in {self.path} cannot be read: {error}") from error

    @contextmanager
    def _using(self) -> Generator[Rdict]:
        with self._turn:
            if self._damage is not None:
                raise self._damage
            if self._db is None:
                raise LogError(self._failure, retriable=not self._closed)
            self._readers += 1
            db = self._db
        try:
            yield db
        finally:
            with self._turn:
                self._readers -= 1
                if not self._readers:
                    self._turn.notify_all()

    def get(self, row: bytes) -> bytes | None:
        with self.reading() as db:
            return db.get(row)

    def prefixed(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """All rows whose name begins so (for the few rows that describe others)."""
        with self.reading() as db:
            return list(rows_between(db, prefix, prefix + b"\xff" * 8))

    def write(self, batch: WriteBatch, *, durable: bool = True) -> None:
        """All rows or none, on disk when it returns if the log was opened so. Raises DiskError."""
        free = os.statvfs(self.path)
        room = free.f_bavail * free.f_frsize
        if room < self.reserve_bytes + batch.size_in_bytes():
            message = (
                f"the disk of {self.path} has {room // 2**20} MiB left and the log keeps"
                f" {self.reserve_bytes // 2**20} MiB in reserve: free some space, it goes on by itself"
            )
            raise DiskError(message, reached=False)
        try:
            with self._using() as db:
                db.write(batch)
                if durable and self._fsync:
                    # Not `sync` in the write's options: that waits for the disk with the interpreter's lock held.
                    db.flush_wal(sync=True)
        except DiskError:
            raise
        except LogError as error:
            raise DiskError(str(error), reached=False) from error
        except Exception as error:
            self._damaged(error)
            self._fail(f"writing the log in {self.path} failed: {error}. Free disk space, it goes on by itself")
            raise DiskError(self._failure, reached=None) from error

    def _fail(self, message: str) -> None:
        with self._turn:
            db, self._db, self._failure = self._db, None, message
            self._turn.wait_for(lambda: not self._readers)
            if db is not None:
                _close(db)

    def reopen(self) -> None:
        """After a failed write: recover what reached the disk. Raises DiskError while there is no room for it."""
        with self._turn:
            if self._closed:
                raise LogError(self._failure, retriable=False)
            if self._db is None:
                self._db = self._open()

    def compact(self, begin: bytes, end: bytes) -> None:
        """Give the room of deleted rows back to the file system."""
        with self.reading() as db:
            db.compact_range(begin, end)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._fail("the log is closed")
        os.close(self._lock_fd)
        if self._temporary:
            shutil.rmtree(self.path, ignore_errors=True)


def _close(db: Rdict) -> None:
    try:
        db.close()
    except Exception as error:  # noqa: BLE001  # rocksdict raises bare Exceptions
        # After a failed write it also fails to flush; what reached the disk is recovered when it is opened again.
        _log.info("closing the embedded log's database: %s", error)


def rows_between(db: Rdict, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Rows with begin <= name < end, in order.

    A generator, because it must hold the options: RocksDB keeps a bare pointer to the bound that lives in them. Where the rows
    end, an iterator is asked why: at a block that cannot be read they end without a word.
    """
    options = ReadOptions()
    options.set_iterate_upper_bound(end)
    options.set_verify_checksums(True)
    name = begin
    for name, value in cast("Iterator[tuple[bytes, bytes]]", db.items(from_key=begin, read_opt=options)):
        yield name, value
    at = db.iter(options)
    at.seek(name)
    if at.valid() and at.key() == name:
        at.next()
    at.status()
    if at.valid():
        yield from rows_between(db, at.key(), end)


def last_row(db: Rdict, end: bytes) -> bytes:
    """The name of the last row up to here; empty when there is none."""
    at = db.iter()
    at.seek_for_prev(end)
    at.status()
    return cast("bytes", at.key()) if at.valid() else b""


def get_all(db: Rdict, names: list[bytes]) -> list[bytes | None]:
    """The values of these rows, in this order."""
    return cast("list[bytes | None]", db.get(cast("list[str | int | float | bytes | bool]", names))) if names else []


def _options() -> Options:
    options = Options(raw_mode=True)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(3)
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(2)
    options.set_max_open_files(256)
    options.set_paranoid_checks(True)
    # What a crash cut off at the end is no damage; bytes that have changed before it are, and nothing behind them may be dropped.
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_level_compaction_dynamic_level_bytes(True)
    options.add_compact_on_deletion_collector_factory(10_000, 5_000, 0.5)
    table = BlockBasedOptions()
    table.set_block_cache(Cache(BLOCK_CACHE_BYTES))
    options.set_block_based_table_factory(table)
    return options


def _take_lock(folder: Path) -> int:
    """Raises LogError naming the process that has the folder open; the lock goes with its process."""
    try:
        make_private(folder)
        return take(folder / "LOCK")
    except Held as held:
        raise LogError(
            f"the log in {folder} is open in {held}: stop that process, talk to it over HTTP,"
            " or choose another folder with --data-dir",
            retriable=False,
        ) from None
    except LockFileError as error:
        raise LogError(str(error), retriable=False) from None
