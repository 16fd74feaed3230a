"""Simulated disks, each with one shard's store: a crash may leave it as it is, older, empty or torn; it may be full, or lie.

As RocksDB without its write-ahead log: a crash leaves a prefix of what was written, whole batches, never less than was flushed.
What is damaged is an error wherever it is read, until the store has been replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from odradek_runtime.log.simulated.faults import Faults
from odradek_runtime.store.store import Change, MemoryStore, StoreError

Effect = Callable[[str], None]
"""Told of what is about to be seen outside the process, or has been; it may raise."""


class Disk:
    """What outlives a process, of one shard on one node."""

    def __init__(self, faults: Faults) -> None:
        self.holder: SimulatedStore | None = None
        self._faults = faults
        self._flushed: dict[bytes, bytes] = {}
        self._batches: list[list[Change]] = []
        self.bad: set[bytes] = set()
        """Keys in blocks that cannot be read."""
        self._torn = False
        self._gone = False

    def open(self, effect: Effect, who: str) -> SimulatedStore:
        """As RocksDB: one holder at a time."""
        if self.holder is not None:
            raise StoreError(f"the store is in use by {self.holder.who} (simulated)", "in_use")
        if self._torn:
            raise StoreError("the store's manifest is no manifest (simulated)", "unusable")
        self.holder = SimulatedStore(self, self._faults, effect, who)
        self.holder.load(self._flushed, self._batches)
        return self.holder

    def wrote(self, changes: list[Change]) -> None:
        self._batches.append(changes)

    def flush(self) -> None:
        self._gone = self._gone or self._faults.hit("folder_gone")
        if self._gone:
            raise StoreError("the store's folder is gone (simulated)", "unusable")
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
        if self._gone or self._faults.hit("store_lost"):
            self.wipe()
        elif self._batches and self._faults.hit("store_stale"):
            del self._batches[self._faults.source("store_stale").randrange(len(self._batches)) :]
        self._torn = self._torn or self._faults.hit("torn_files")

    def wipe(self) -> None:
        self._flushed, self._batches, self.bad = {}, [], set()
        self._torn = self._gone = False


class SimulatedStore(MemoryStore):
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
        if self._faults.hit("bad_block"):
            self._disk.bad.add(key)
        self._check(key)
        return super().get(key)

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        pairs = list(super().scan(start, stop))
        if pairs and self._faults.hit("bad_block"):
            self._disk.bad.add(self._faults.source("bad_block").choice(pairs)[0])
        for key, value in pairs:
            self._check(key)
            yield key, value

    def _check(self, key: bytes) -> None:
        if key in self._disk.bad:
            raise StoreError(f"block checksum mismatch at {key!r} (simulated)", "unusable")

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
        return dict(super().scan(b"", b"\xff"))
