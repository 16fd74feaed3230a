"""The timers of one shard: durable in the journal, the nearest of them in memory.

Every timer key below `cursor` is in the heap; the rest stay in the store until their time comes near, so that a million
sleepers cost no memory. A fired or cancelled timer is one whose key is gone: the heap may hold it a little longer.

A timer is due when the wall clock says so. Where that clock jumps, waits that were to end about then keep their length by the
steady one (they are *carried*); delayed starts, which may stand for a date, never do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from itertools import islice

from . import keys

WINDOW_MS = 60_000
REFILL = 1_000
"""At most so many timers are loaded at once: a request waits for it."""
JUMP_MS = 1_000.0
"""The wall clock has been set when it goes on by so much more, or less, than the steady one."""
CARRIED = 50_000
"""At most so many waits are carried over when the clock is set back."""

Scan = Callable[[bytes, bytes], Iterator[tuple[bytes, bytes]]]


class Timers:
    """Heap over timer keys (they sort by due time). `seen_ms`: the newest wall time that the shard's last owner has noted."""

    def __init__(self, seen_ms: float = 0.0) -> None:
        self._heap: list[bytes] = []
        # Below every key: a step that waits to be run again has the due time 0.
        self._cursor = keys.timer(0, "", 0)[:9]
        self._carried: list[tuple[float, bytes]] = []
        """Waits that go by the steady clock, and when they end by it."""
        self._seen_ms = seen_ms
        self._apart_ms: float | None = None
        """How far the two clocks were apart at the last look; None before the first."""
        self._leap = (0.0, 0.0, 0.0)
        """The last jump ahead: from and to which wall time, and when by the steady clock."""
        self._before = (0.0, 0.0)
        """What the wall clock showed when it was set back, and when that was by the steady clock."""

    def __len__(self) -> int:
        """How many are in memory."""
        return len(self._heap) + len(self._carried)

    def add(self, key: bytes) -> None:
        """A timer was written; it is kept here if its time is near."""
        if key < self._cursor:
            heappush(self._heap, key)

    def wait_ms(self, now_ms: float, steady_ms: float) -> float:
        """In how many milliseconds to look again; 0 or less: now."""
        wait_ms = (_due_ms(self._heap[0]) if self._heap else self._cursor_ms()) - now_ms
        return min(wait_ms, self._carried[0][0] - steady_ms) if self._carried else wait_ms

    def pop_due(self, now_ms: float, steady_ms: float, scan: Scan) -> bytes | None:
        """The next timer key whose time has come; the caller checks that it is still set."""
        if self._carried and self._carried[0][0] <= steady_ms:
            return heappop(self._carried)[1]
        if not self._heap and self._cursor_ms() <= now_ms:
            self._refill(now_ms, scan)
        while self._heap and _due_ms(self._heap[0]) <= now_ms:
            key = heappop(self._heap)
            if not self._leapt_over(key):
                return key
        return None

    def noted_ms(self, now_ms: float, steady_ms: float) -> float:
        """The wall time for the next owner to know: while waits are carried over, that of the clock before it was set back."""
        if self._apart_ms is None:
            return max(now_ms, self._seen_ms)
        was_ms, at_ms = self._before
        return max(now_ms, was_ms + steady_ms - at_ms) if steady_ms - at_ms < WINDOW_MS else now_ms

    def _cursor_ms(self) -> int:
        return _due_ms(self._cursor)

    def _refill(self, now_ms: float, scan: Scan) -> None:
        end = keys.timer(int(now_ms) + WINDOW_MS, "", -(2**31))
        for loaded, (key, _) in enumerate(scan(self._cursor, end), start=1):
            heappush(self._heap, key)
            if loaded == REFILL:
                self._cursor = key + b"\0"
                return
        self._cursor = end

    # --- a wall clock that jumps ---

    def watch(self, now_ms: float, steady_ms: float, scan: Scan) -> None:
        """Notice that the wall clock has been set. Called before every look at what is due."""
        apart_ms = now_ms - steady_ms
        jump_ms = min(now_ms - self._seen_ms, 0.0) if self._apart_ms is None else apart_ms - self._apart_ms
        self._apart_ms = apart_ms
        if jump_ms < -JUMP_MS:
            self._set_back(now_ms - jump_ms, now_ms, steady_ms, scan)
        elif jump_ms > JUMP_MS:
            self._leap = (now_ms - jump_ms, now_ms, steady_ms)

    def _set_back(self, was_ms: float, now_ms: float, steady_ms: float, scan: Scan) -> None:
        """Waits that were to end within a minute do so, by the steady clock; all others follow the wall clock."""
        near = keys.timer(max(int(was_ms) - WINDOW_MS, int(now_ms)), "", -(2**31))
        end = keys.timer(int(was_ms) + WINDOW_MS, "", -(2**31))
        found = [key for key in self._heap if near <= key < end]
        found += [key for key, _ in islice(scan(max(self._cursor, near), end), CARRIED)]
        for key in found:
            if _keeps_length(key):
                heappush(self._carried, (steady_ms + _due_ms(key) - was_ms, key))
        self._cursor = min(self._cursor, keys.timer(int(now_ms) + WINDOW_MS, "", -(2**31)))
        self._heap = [key for key in self._heap if key < self._cursor]
        heapify(self._heap)
        self._leap = (0.0, 0.0, 0.0)
        self._before = (was_ms, steady_ms)

    def _leapt_over(self, key: bytes) -> bool:
        """Due only because the wall clock has jumped over its time: it waits for as long as it was to."""
        before_ms, after_ms, at_ms = self._leap
        due_ms = _due_ms(key)
        if not before_ms < due_ms <= after_ms or not _keeps_length(key):
            return False
        heappush(self._carried, (at_ms + due_ms - before_ms, key))
        return True


def _due_ms(key: bytes) -> int:
    return int.from_bytes(key[1:9], "big")


def _keeps_length(key: bytes) -> bool:
    """Whether it ends a wait, and is no delayed start."""
    return int.from_bytes(key[-4:], "big", signed=True) != keys.REF_START
