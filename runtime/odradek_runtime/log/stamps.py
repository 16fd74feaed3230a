"""Ownership stamps: a number per owned shard that changes whenever the shard may have been elsewhere.

Stands between the membership, which bumps them, and the committer, which sends no epoch whose stamps are old: fresh
group metadata alone fences membership, not ownership.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping


class Stamps:
    """The stamps of one member. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: dict[int, int] = {}
        self._last = 0

    def gain(self, shards: Iterable[int]) -> dict[int, int]:
        """New stamps for shards that are now ours."""
        with self._lock:
            gained: dict[int, int] = {}
            for shard in shards:
                self._last += 1
                gained[shard] = self._current[shard] = self._last
            return gained

    def bump(self, shards: Iterable[int]) -> None:
        """Whatever was begun on these shards is void from now on."""
        with self._lock:
            for shard in shards:
                self._current.pop(shard, None)

    def stale(self, stamps: Mapping[int, int]) -> list[int]:
        """The shards among these whose stamp is no longer the current one."""
        with self._lock:
            return [shard for shard, stamp in stamps.items() if self._current.get(shard) != stamp]
