"""The folder of a worker's stores: one a shard. What has become unusable is set aside there, for somebody to look at.

Stands between the take-over, which asks for stores, and the disk. Nothing in a store is the only copy: the changelogs have it all.
"""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Protocol

from .data_folder import make_private
from .store import MemoryStore, RocksStore, Store, StoreError, StoreMemory

logger = logging.getLogger("odradek")

KEPT = 2
"""So many unusable stores of a shard are kept; older ones are removed."""
BENCH = ".bench"
"""How the folders end where shards are looked at."""
MIB = 1024 * 1024
BENCH_BYTES = 16 * MIB
"""So much memory its stores have for what is written, and for what is read: none of the live stores'."""
ROOM_BYTES = 64 * MIB
"""A disk with less room than this holds no store for long: RocksDB writes files of half this size."""


def stores_of(data_dir: Path, app: str) -> Path:
    """The folder of an app's stores below a worker's data folder."""
    return data_dir / "store" / app


class Stores(Protocol):
    """Where a worker's stores are. Raises StoreError."""

    def open(self, number: int) -> Store: ...

    def wipe(self, number: int) -> None:
        """Remove a closed store."""
        ...

    def set_aside(self, number: int) -> str:
        """Take a closed store out of the way and keep it; gives where it is now, empty when nothing was there."""
        ...

    def check(self) -> None:
        """Whether the disk takes stores at all."""
        ...

    def check_room(self, number: int, times: int) -> None:
        """Whether the disk takes the shard's store so many times more."""
        ...

    def bench(self, number: int) -> Bench:
        """A place beside the shard's store to look at it; what an earlier one has left there is removed."""
        ...

    def sweep(self) -> None:
        """Remove what benches of a process that has died have left."""
        ...


class Bench(Protocol):
    """Stores beside that of a shard, for as long as somebody looks at it. `clear` ends it. Raises StoreError."""

    def copy(self, store: Store) -> Store:
        """The shard's store as it is now, in its files; it goes on meanwhile."""
        ...

    def empty(self, name: str) -> Store:
        """A new one."""
        ...

    def clear(self) -> None:
        """Close and remove them all."""
        ...


class StoreFolder:
    """Stores below a directory, each in a folder that is named after its shard; `memory` is that of all together."""

    def __init__(self, directory: Path, memory: StoreMemory | None = None) -> None:
        self._directory = directory
        self._memory = memory or StoreMemory()

    def open(self, number: int) -> Store:
        return RocksStore(self._path(number), self._memory)

    def wipe(self, number: int) -> None:
        path = self._path(number)
        try:
            _remove(path)
        except OSError as error:
            raise StoreError(f"the store {path} cannot be removed: {error.strerror or error}", "refused") from error

    def set_aside(self, number: int) -> str:
        path = self._path(number)
        when = datetime.now().astimezone()
        aside = path.with_name(f"{number}.damaged-{when:%Y%m%dT%H%M%S.%f}")
        try:
            if not os.path.lexists(path):
                return ""
            path.rename(aside)
        except OSError as error:
            raise StoreError(f"the store {path} cannot be moved out of the way: {error.strerror or error}", "refused") from error
        for old in sorted(path.parent.glob(f"{number}.damaged-*"))[:-KEPT]:
            _remove_if_possible(old)
        return str(aside)

    def check(self) -> None:
        probe = self._directory / f"probe-{os.getpid()}"
        try:
            make_private(self._directory)
            probe.unlink(missing_ok=True)
            with os.fdopen(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(bytes(4096))
            probe.unlink()
            free = os.statvfs(self._directory)
        except OSError as error:
            why = f"no store can be kept in {self._directory}: {error.strerror or error}"
            raise StoreError(why, "refused") from error
        if free.f_bavail * free.f_frsize < ROOM_BYTES:
            raise StoreError(f"the disk that holds {self._directory} is full: free some room", "refused")

    def check_room(self, number: int, times: int) -> None:
        live = self._path(number)
        try:
            size, disk = _size(live), os.statvfs(self._directory)
        except OSError as error:
            raise StoreError(f"nobody knows what room there is beside {live}: {error.strerror or error}", "refused") from error
        free, needed = disk.f_bavail * disk.f_frsize, times * size + ROOM_BYTES
        if free < needed:
            raise StoreError(
                f"the disk that holds {live} has {free // MIB:,} MiB free, and {needed // MIB:,} MiB are needed: the store has "
                f"{size // MIB:,} MiB. Free some room",
                "refused",
            )

    def bench(self, number: int) -> Bench:
        self.check_room(number, 2)  # its files stay while they are linked, though it writes them anew; and what is built
        return FolderBench(self._directory / f"{number}{BENCH}")

    def sweep(self) -> None:
        for left in self._directory.glob(f"*{BENCH}"):
            _remove_if_possible(left)

    def _path(self, number: int) -> Path:
        return self._directory / str(number)


class FolderBench:
    """A folder beside that of the live store, on the same disk: a copy of it is made of links."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._memory = StoreMemory(BENCH_BYTES, BENCH_BYTES)
        self._open: list[Store] = []
        try:
            _remove(directory)
            make_private(directory)
        except OSError as error:
            raise StoreError(f"no store can be kept in {directory}: {error.strerror or error}", "refused") from error

    def copy(self, store: Store) -> Store:
        self._open.append(store.checkpoint(self._directory / "copy"))
        return self._open[-1]

    def empty(self, name: str) -> Store:
        self._open.append(RocksStore(self._directory / name, self._memory))
        return self._open[-1]

    def clear(self) -> None:
        while self._open:
            self._open.pop().close()
        _remove_if_possible(self._directory)


class MemoryBench:
    """The twin without a disk."""

    def copy(self, store: Store) -> Store:
        return store.checkpoint(Path())

    def empty(self, name: str) -> Store:
        return MemoryStore()

    def clear(self) -> None:
        """Nothing is left of it."""


class MemoryStores:
    """Stores without a disk; what is closed is gone."""

    def open(self, number: int) -> Store:
        return MemoryStore()

    def wipe(self, number: int) -> None:
        """Nothing is left of it."""

    def set_aside(self, number: int) -> str:
        return ""

    def check(self) -> None:
        """Memory takes them."""

    def check_room(self, number: int, times: int) -> None:
        """Memory takes them."""

    def bench(self, number: int) -> Bench:
        return MemoryBench()

    def sweep(self) -> None:
        """Memory goes with its process."""


def _size(folder: Path) -> int:
    """Of the files in a folder, which may come and go meanwhile."""
    size = 0
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_if_possible(path: Path) -> None:
    try:
        _remove(path)
    except OSError as error:
        logger.warning("%s cannot be removed: %s", path, error.strerror or error)
