"""The store of one shard: a RocksDB that follows the changelogs and is never ahead of them (invariant 3).

Written once per committed epoch, in one batch that also holds the changelog positions. There is no write-ahead log: with one
column family RocksDB keeps write order, so a crash leaves a consistent prefix, position included, and the changelog gives
the rest. `MemoryStore` is the twin without a disk.
"""

from __future__ import annotations

import logging
import shutil
import threading
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from rocksdict import Options, Rdict, WriteBatch, WriteOptions

logger = logging.getLogger("odradek")

Change = tuple[bytes, bytes | None]


class StoreError(Exception):
    """The store cannot be opened or written; the message names the directory and the remedy."""


class Store(Protocol):
    """Bytes by key, sorted."""

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start <= key < stop, in order."""
        ...

    def write(self, changes: Iterable[Change]) -> None:
        """Apply all or none; None deletes."""
        ...

    def flush(self) -> None:
        """Make what was written survive a crash."""
        ...

    def close(self) -> None: ...


class RocksStore:
    """A store in a directory of its own. Raises StoreError when another process has it open or the disk refuses."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(32 * 1024 * 1024)
        options.set_keep_log_file_num(2)
        options.set_max_open_files(256)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._db = Rdict(str(directory), options)
        except Exception as error:
            raise _explained(directory, error) from error
        unlogged: Any = WriteOptions()  # its stub says that disable_wal is a method; it is a property
        unlogged.disable_wal = True
        self._unlogged: WriteOptions = unlogged
        self._closing = threading.Lock()
        self._closed = False

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._db.get(key)
        return value

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        pairs: Iterable[tuple[bytes, bytes]] = self._db.items(from_key=start)  # type: ignore[assignment]  # raw mode gives bytes
        for key, value in pairs:
            if key >= stop:
                return
            yield key, value

    def write(self, changes: Iterable[Change]) -> None:
        batch = WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for key, value in changes:
            if value is None:
                delete(key)
            else:
                put(key, value)
        try:
            self._db.write(batch, self._unlogged)
        except Exception as error:
            raise _explained(self.directory, error) from error

    def flush(self) -> None:
        """From any thread. A store that has been closed has nothing left to flush."""
        with self._closing:  # closed beside a flush, the database would stay open, and locked
            if self._closed:
                return
            try:
                self._db.flush()
            except Exception as error:
                raise _explained(self.directory, error) from error

    def close(self) -> None:
        with self._closing:
            self._closed = True
            try:
                self._db.close()
            except Exception as error:  # noqa: BLE001  (RocksDB repeats its last failed write here; the log has what is missing)
                logger.warning("%s", _explained(self.directory, error))

    @staticmethod
    def destroy(directory: Path) -> None:
        """Remove a closed store from the disk."""
        shutil.rmtree(directory, ignore_errors=True)


def _explained(directory: Path, error: Exception) -> StoreError:
    text = str(error)
    if "lock" in text.lower():
        return StoreError(
            f"the store {directory} is in use by another process: stop that worker, or give this one its own --data-dir"
        )
    if "No space" in text:
        return StoreError(f"the disk that holds {directory} is full: free some room; the worker goes on by itself")
    return StoreError(f"the store {directory} cannot be used: {text}")


class MemoryStore:
    """The in-memory twin."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []

    def get(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        index = bisect_left(self._keys, start)
        for key in self._keys[index:]:
            if key >= stop:
                return
            yield key, self._values[key]

    def write(self, changes: Iterable[Change]) -> None:
        for key, value in changes:
            if value is None:
                if self._values.pop(key, None) is not None:
                    del self._keys[bisect_left(self._keys, key)]
            else:
                if key not in self._values:
                    insort(self._keys, key)
                self._values[key] = value

    def flush(self) -> None:
        """Nothing to make durable."""

    def close(self) -> None:
        """Nothing to free."""
