"""The folder of a worker's stores: one a shard. What has become unusable is set aside there, for somebody to look at.

Stands between the take-over, which asks for stores, and the disk. Nothing in a store is the only copy: the changelogs have it all.
"""

from __future__ import annotations

import logging
import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import Protocol

from .data_folder import make_private
from .store import MemoryStore, RocksStore, Store, StoreError, StoreMemory

logger = logging.getLogger("odradek")

KEPT = 2
"""So many unusable stores of a shard are kept; older ones are removed."""
ROOM_BYTES = 64 * 1024 * 1024
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

    def _path(self, number: int) -> Path:
        return self._directory / str(number)


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
