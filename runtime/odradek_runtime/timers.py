"""The timers of one shard: durable in the journal, the nearest of them in memory.

Every timer key below `cursor` is in the heap; the rest stay in the store until their time comes near, so that a million
sleepers cost no memory. A fired or cancelled timer is one whose key is gone: the heap may hold it a little longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush

from . import keys

WINDOW_MS = 60_000
REFILL = 50_000
"""At most so many timers are loaded at once."""

Scan = Callable[[bytes, bytes], Iterator[tuple[bytes, bytes]]]


class Timers:
    """Heap over timer keys (they sort by due time)."""

    def __init__(self) -> None:
        self._heap: list[bytes] = []
        # Below every key: a step that waits to be run again has the due time 0.
        self._cursor = keys.timer(0, "", 0)[:9]

    def __len__(self) -> int:
        """How many are in memory."""
        return len(self._heap)

    def add(self, key: bytes) -> None:
        """A timer was written; it is kept here if its time is near."""
        if key < self._cursor:
            heappush(self._heap, key)

    def next_due_ms(self) -> int:
        """When to look again, Unix milliseconds."""
        return keys.split_timer(self._heap[0])[0] if self._heap else self._cursor_ms()

    def pop_due(self, now_ms: float, scan: Scan) -> bytes | None:
        """The next timer key whose time has come; the caller checks that it is still set."""
        if not self._heap and self._cursor_ms() <= now_ms:
            self._refill(now_ms, scan)
        if self._heap and keys.split_timer(self._heap[0])[0] <= now_ms:
            return heappop(self._heap)
        return None

    def _cursor_ms(self) -> int:
        return int.from_bytes(self._cursor[1:9], "big")

    def _refill(self, now_ms: float, scan: Scan) -> None:
        end = keys.timer(int(now_ms) + WINDOW_MS, "", -(2**31))
        for loaded, (key, _) in enumerate(scan(self._cursor, end), start=1):
            heappush(self._heap, key)
            if loaded == REFILL:
                self._cursor = key + b"\0"
                return
        self._cursor = end
