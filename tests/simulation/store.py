"""Simulated disks: a store that a crash may leave as it is, older, or empty, and that may be full.

As RocksDB without its write-ahead log: a crash leaves a prefix of what was written, whole batches, never less than was flushed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from odradek_runtime.store import Change, MemoryStore, StoreError

from .faults import Faults

Effect = Callable[[str], None]


class Disk:
    """What outlives a process, of one shard on one node."""

    def __init__(self, faults: Faults) -> None:
        self.holder: SimStore | None = None
        self._faults = faults
        self._flushed: dict[bytes, bytes] = {}
        self._batches: list[list[Change]] = []

    def open(self, effect: Effect, who: str) -> SimStore:
        """As RocksDB: one holder at a time."""
        if self.holder is not None:
            raise StoreError(f"the store is in use by {self.holder.who} (simulated)", "in_use")
        self.holder = SimStore(self, self._faults, effect, who)
        self.holder.load(self._flushed, self._batches)
        return self.holder

    def wrote(self, changes: list[Change]) -> None:
        self._batches.append(changes)

    def flush(self) -> None:
        for batch in self._batches:
            for key, value in batch:
                if value is None:
                    self._flushed.pop(key, None)
                else:
                    self._flushed[key] = value
        self._batches = []

    def crash(self) -> None:
        """The process has died."""
        self.holder = None
        if self._faults.hit("store_lost"):
            self.wipe()
        elif self._batches and self._faults.hit("store_stale"):
            del self._batches[self._faults.rng.randrange(len(self._batches)) :]

    def wipe(self) -> None:
        self._flushed, self._batches = {}, []


class SimStore(MemoryStore):
    """An open store on a disk."""

    def __init__(self, disk: Disk, faults: Faults, effect: Effect, who: str) -> None:
        super().__init__()
        self.who = who
        self._disk = disk
        self._faults = faults
        self._effect = effect
        self._closed = False

    def load(self, flushed: dict[bytes, bytes], batches: list[list[Change]]) -> None:
        super().write(flushed.items())
        for batch in batches:
            super().write(batch)

    def write(self, changes: Iterable[Change]) -> None:
        assert not self._closed, "nobody writes to a closed store"
        batch = list(changes)
        self._effect("store is written")
        if self._faults.hit("store_error"):
            raise StoreError("the disk is full (simulated)", "refused")
        super().write(batch)
        self._disk.wrote(batch)
        self._effect("store was written")

    def get(self, key: bytes) -> bytes | None:
        assert not self._closed, "nobody reads a closed store"
        return super().get(key)

    def flush(self) -> None:
        if self._faults.hit("store_error"):
            raise StoreError("the disk is full (simulated)", "refused")
        self._disk.flush()

    def close(self) -> None:
        self._closed = True
        if self._disk.holder is self:
            self._disk.holder = None

    def content(self) -> dict[bytes, bytes]:
        """Everything in it."""
        return dict(self.scan(b"", b"\xff"))
