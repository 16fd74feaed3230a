"""The store of one shard: a RocksDB that follows the changelogs and is never ahead of them (invariant 3).

Written once per committed epoch, in one batch that also holds the changelog positions. There is no write-ahead log: with one
column family RocksDB keeps write order, so a crash leaves a consistent prefix, position included, and the changelog gives
the rest. It is never trusted: every block that is read is checked against its checksum, and whatever the disk does is a
`StoreError`. `MemoryStore` is the twin without a disk.
"""

from __future__ import annotations

import logging
import threading
import time
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    Checkpoint,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from .data_folder import make_private
from .lock_file import holder

logger = logging.getLogger("odradek")

Change = tuple[bytes, bytes | None]

SCAN_PAIRS = 1_000
SCAN_BYTES = 1024 * 1024
"""A scan reads so much at a time. Between two such reads it holds nothing of the database, which could not be closed else."""
PAGE_PAIRS = 100
PAGE_SKIPS = 2_000
"""A page passes over so many deleted keys: a millisecond, for which every other thread waits."""
PAGE_KEY_BYTES = 48
"""No key of what is paged through is longer."""
WRITE_BUFFER_BYTES = 32 * 1024 * 1024
ALONE_BYTES = 2 * WRITE_BUFFER_BYTES
ARENA_BYTES = 128 * 1024
"""What a store takes at a time for what it has been written: RocksDB's own mebibyte, of sixty stores, would be all there is."""
FLUSH_LOOK_S = 0.01
FLUSH_S = 10.0
"""What has been written gets so much time to reach the files on its own before a copy is made."""
PASSED_ALL = "Too many internal keys skipped"


class StoreError(Exception):
    """The store cannot be opened, read or written; the message names the directory and the remedy.

    `kind`: "unusable", its files are no good any more; "in_use", another process has it; "refused", the machine lacks something
    (room on the disk), and the files are as good as before.
    """

    def __init__(self, message: str, kind: Literal["unusable", "in_use", "refused"]) -> None:
        super().__init__(message)
        self.kind = kind


class Store(Protocol):
    """Bytes by key, sorted. Everything but `close` raises StoreError."""

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start <= key < stop, in order. What is written meanwhile may be among them."""
        ...

    def page(self, start: bytes, stop: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """From any thread: the first few pairs with start <= key < stop (perhaps none), and where to go on; `stop` at the end.

        The work is bounded, whatever has been deleted there. A store that is closed has no pairs.
        """
        ...

    def write(self, changes: Iterable[Change]) -> None:
        """Apply all or none; None deletes."""
        ...

    def flush(self) -> None:
        """Make what was written survive a crash."""
        ...

    def checkpoint(self, directory: Path) -> Store:
        """From any thread: what it holds at one moment between two writes, as a store of its own that nobody writes to.

        The folder must not be there; a store on the disk makes it, of links to its own files. Raises StoreError ("in_use") for
        one that is closed.
        """
        ...

    def close(self) -> None: ...


class StoreMemory:
    """What all stores of a worker hold together: writes that are not in their files yet, and blocks read from these.

    Without it each store would take its own, and a worker with sixty shards sixty times as much.
    """

    def __init__(self, tables_bytes: int = ALONE_BYTES, blocks_bytes: int = ALONE_BYTES) -> None:
        self.tables = WriteBufferManager(tables_bytes, allow_stall=False)
        self.blocks = Cache(blocks_bytes)


class RocksStore:
    """A store in a directory of its own. `memory`: shared with the worker's other stores, if there are any.

    `read_only`: it is there already, and stays as it is.
    """

    def __init__(self, directory: Path, memory: StoreMemory | None = None, *, read_only: bool = False) -> None:
        self.directory = directory
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_paranoid_checks(True)
        options.set_keep_log_file_num(2)
        options.set_max_open_files(256)
        memory = memory or StoreMemory()
        options.set_write_buffer_size(WRITE_BUFFER_BYTES)
        options.set_write_buffer_manager(memory.tables)
        options.set_arena_block_size(ARENA_BYTES)
        table = BlockBasedOptions()
        table.set_block_cache(memory.blocks)
        table.set_cache_index_and_filter_blocks(True)  # else they are held beside it
        table.set_pin_l0_filter_and_index_blocks_in_cache(True)
        options.set_block_based_table_factory(table)
        try:
            make_private(directory)
            access = AccessType.read_only() if read_only else AccessType.read_write()
            self._db = Rdict(str(directory), options, access_type=access)
        except Exception as error:
            raise _explained(directory, error) from error
        unlogged: Any = WriteOptions()  # its stub says that disable_wal is a method; it is a property
        unlogged.disable_wal = True
        self._unlogged: WriteOptions = unlogged
        checked: Any = ReadOptions()  # its stub has lost an argument
        checked.set_verify_checksums(True)
        checked.fill_cache(not read_only)  # it is read once, from end to end
        self._db.set_read_options(checked)
        self._closing = threading.Lock()
        self._closed = False
        self._stride = 1 << 8 * PAGE_KEY_BYTES
        """How far a page looks ahead, in keys taken as numbers: less where much has been deleted."""

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:
            raise _explained(self.directory, error) from error
        return value

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        more = True
        while more:
            pairs, more = self._read(start, stop)
            yield from pairs
            if more and pairs:
                start = pairs[-1][0] + b"\0"

    def _read(self, start: bytes, stop: bytes) -> tuple[list[tuple[bytes, bytes]], bool]:
        """The next pairs of a scan, and whether there are more."""
        found: list[tuple[bytes, bytes]] = []
        size = 0
        try:
            for pair in cast("Iterator[tuple[bytes, bytes]]", self._db.items(from_key=start)):  # raw mode gives bytes
                if pair[0] >= stop:
                    return found, False
                found.append(pair)
                size += len(pair[1])
                if len(found) >= SCAN_PAIRS or size >= SCAN_BYTES:
                    return found, True
        except Exception as error:
            raise _explained(self.directory, error) from error
        return found, self._goes_on(found[-1][0] + b"\0" if found else start)

    def _goes_on(self, start: bytes) -> bool:
        """Whether there is anything from here on. Pairs end here, as they do, without a word, at a block that cannot be read."""
        at: RdictIter | None = None
        try:
            at = self._db.iter()
            at.seek(start)
            at.status()
            return at.valid()
        except Exception as error:
            raise _explained(self.directory, error) from error
        finally:
            at = None  # whoever keeps the error keeps this frame, and an iterator keeps the database open

    def page(self, start: bytes, stop: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
        ahead = int.from_bytes(start.ljust(PAGE_KEY_BYTES, b"\0"), "big") + self._stride
        until = min(ahead.to_bytes(PAGE_KEY_BYTES + 1, "big")[1:], stop) if ahead < 1 << 8 * PAGE_KEY_BYTES else stop
        with self._closing:  # closed beside a read, the database would stay open, and locked
            if self._closed:
                return [], stop
            pairs, whole = self._between(start, until)
        if whole:
            self._stride = min(self._stride << 4, 1 << 8 * PAGE_KEY_BYTES)
            return pairs, until
        if not pairs:
            self._stride = max(self._stride >> 8, 1)
        return pairs, pairs[-1][0] + b"\0" if pairs else start

    def _between(self, start: bytes, until: bytes) -> tuple[list[tuple[bytes, bytes]], bool]:
        """A page of pairs, and whether that is all there is before `until`."""
        bounded = ReadOptions()
        bounded.set_verify_checksums(True)
        bounded.set_iterate_upper_bound(until)
        bounded.set_max_skippable_internal_keys(PAGE_SKIPS)
        at: RdictIter | None = None
        found: list[tuple[bytes, bytes]] = []
        size = 0
        try:
            at = self._db.iter(bounded)
            at.seek(start)
            while at.valid():
                if len(found) == PAGE_PAIRS or size >= SCAN_BYTES:
                    return found, False
                found.append((cast("bytes", at.key()), cast("bytes", at.value())))
                size += len(found[-1][1])
                at.next()
            at.status()
        except Exception as error:
            if PASSED_ALL in str(error):
                return found, False
            raise _explained(self.directory, error) from error
        finally:
            at = None  # whoever keeps the error keeps this frame, and an iterator keeps the database open
        return found, True

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

    def checkpoint(self, directory: Path) -> Store:
        self._flush_aside()
        with self._closing:
            if self._closed:
                raise StoreError(f"the store {self.directory} is closed", "in_use")
            try:
                Checkpoint(self._db).create_checkpoint(str(directory))
            except Exception as error:
                raise _explained(self.directory, error) from error
        return RocksStore(directory, read_only=True)

    def _flush_aside(self) -> None:
        """A copy flushes what has been written; so that all other threads do not wait for that, most of it is flushed before."""
        until_s = time.monotonic() + FLUSH_S
        asked = False
        while time.monotonic() < until_s:
            with self._closing:
                if self._closed:
                    return
                try:
                    if not asked:
                        self._db.flush(wait=False)
                    if not self._db.property_int_value("rocksdb.num-immutable-mem-table"):
                        return
                except Exception as error:
                    raise _explained(self.directory, error) from error
            asked = True
            time.sleep(FLUSH_LOOK_S)

    def close(self) -> None:
        with self._closing:
            self._closed = True
            try:
                self._db.close()
            except Exception as error:  # noqa: BLE001  (RocksDB repeats its last failed write here; the log has what is missing)
                logger.warning("%s", _explained(self.directory, error))


SCARCE = ("No space", "Too many open files", "Cannot allocate memory")
"""What RocksDB says when the machine lacks something: the files are as good as before."""


def _explained(directory: Path, error: Exception) -> StoreError:
    text = str(error)
    if "While lock file" in text or "lock hold by" in text:
        return StoreError(
            f"the store {directory} is in use by {holder(directory / 'LOCK')}: stop it, or give this worker its own --data-dir",
            "in_use",
        )
    if SCARCE[0] in text:
        return StoreError(f"the disk that holds {directory} is full: free some room; the worker goes on by itself", "refused")
    if any(scarce in text for scarce in SCARCE):
        return StoreError(f"the store {directory} cannot be used now: {text}", "refused")
    state = "is damaged" if text.startswith("Corruption") else "cannot be used"
    return StoreError(f"the store {directory} {state}: {text}", "unusable")


class MemoryStore:
    """The in-memory twin."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._writing = threading.Lock()

    def get(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        index = bisect_left(self._keys, start)
        for key in self._keys[index:]:
            if key >= stop:
                return
            yield key, self._values[key]

    def page(self, start: bytes, stop: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
        index = bisect_left(self._keys, start)
        keys = [key for key in self._keys[index : index + PAGE_PAIRS] if key < stop]
        pairs = [(key, self._values.get(key)) for key in keys]
        after = keys[-1] + b"\0" if len(keys) == PAGE_PAIRS else stop
        return [(key, value) for key, value in pairs if value is not None], after

    def write(self, changes: Iterable[Change]) -> None:
        with self._writing:
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

    def checkpoint(self, directory: Path) -> Store:
        copy = MemoryStore()
        with self._writing:
            copy._keys, copy._values = list(self._keys), dict(self._values)
        return copy

    def close(self) -> None:
        """Nothing to free."""
