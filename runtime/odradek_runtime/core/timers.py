"""The timers of one shard: durable in the journal, the nearest of them in memory.

Every timer key below `cursor` is in the heap; the rest stay in the store until their time comes near, so that a million
sleepers cost no memory. A fired or cancelled timer is one whose key is gone: the heap may hold it a little longer.

A timer is due when the wall clock says so. Where that clock jumps, waits that were to end about then keep their length by the
steady one (they are *carried*); delayed starts, which may stand for a date, never do.

Each time the wall clock is set back, another *clock* begins, and each timer says by which one its due time was reckoned. So the
next owner of the shard, who is told what the last clocks showed (`Shown`), carries those of a clock set back, and no others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import islice

from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import TIMER

WINDOW_MS = 60_000
REFILL = 1_000
"""At most so many timers are loaded at once: a request waits for it."""
JUMP_MS = 1_000.0
"""The wall clock has been set when it goes on by so much more, or less, than the steady one."""
CARRIED = 50_000
"""At most so many waits are carried over when the clock is set back."""
CLOCKS = 8
"""Of so many clocks that were set back, the newest, the next owner is told."""

Scan = Callable[[bytes, bytes], Iterator[tuple[bytes, bytes]]]


@dataclass(frozen=True, slots=True)
class Shown:
    """What wall clocks showed when an epoch closed. `now_ms`: the one of number `clock`; `before_ms`: those before, newest last."""

    clock: int = 0
    now_ms: float = 0.0
    before_ms: tuple[float, ...] = ()


class Timers:
    """Heap over timer keys (they sort by due time). `shown`: what the shard's last owner has noted."""

    def __init__(self, shown: Shown = Shown()) -> None:
        self.clock = shown.clock
        """The number of the wall clock, by which new timers are reckoned."""
        self._heap: list[bytes] = []
        # Below every key: a step that waits to be run again has the due time 0.
        self._cursor = keys.timer(0, "", 0)[:9]
        self._carried: list[tuple[float, bytes]] = []
        """Waits that go by the steady clock, and when they end by it."""
        self._inherited = shown
        self._apart_ms: float | None = None
        """How far the two clocks were apart at the last look; None before the first."""
        self._leap = (0.0, 0.0, 0.0)
        """The last jump ahead: from and to which wall time, and when by the steady clock."""
        self._before: list[tuple[float, float]] = []
        """What wall clocks showed when they were set back, and when that was by the steady clock; of the last `CLOCKS`."""

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

    def shown(self, now_ms: float, steady_ms: float) -> Shown:
        """For the next owner to know."""
        if self._apart_ms is None:
            return self._inherited
        before_ms = [was_ms + steady_ms - at_ms for was_ms, at_ms in self._before if steady_ms - at_ms < WINDOW_MS]
        return Shown(self.clock, now_ms, tuple(before_ms))

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

    def watch(self, now_ms: float, steady_ms: float, scan: Scan) -> bool:
        """Notice that the wall clock was set. Called before timers are made or looked for. True: the next owner has to know."""
        apart_ms, before_ms = now_ms - steady_ms, self._apart_ms
        self._apart_ms = apart_ms
        if before_ms is None:
            return self._take_over(now_ms, steady_ms, scan)
        jump_ms = apart_ms - before_ms
        if jump_ms > JUMP_MS:
            self._leap = (now_ms - jump_ms, now_ms, steady_ms)
        elif jump_ms < -JUMP_MS:
            self._set_back(now_ms - jump_ms, now_ms, steady_ms, scan)
        return jump_ms < -JUMP_MS

    def _take_over(self, now_ms: float, steady_ms: float, scan: Scan) -> bool:
        """The last owner's clocks, where they were ahead of this one: what they made and was near keeps its length."""
        assert not self._heap, "nothing is loaded before the first look"
        inherited, since_ms = self._inherited, now_ms - self._inherited.now_ms
        passed_ms = since_ms if 0.0 < since_ms < WINDOW_MS else 0.0  # by more, two clocks may be apart as well
        before_ms = [was_ms + passed_ms for was_ms in inherited.before_ms]
        self._before = [(was_ms, steady_ms) for was_ms in before_ms]
        for clock, was_ms in enumerate((*before_ms, inherited.now_ms), start=inherited.clock - len(before_ms)):
            if was_ms - now_ms > JUMP_MS:
                near, end = _near(was_ms, now_ms)
                made_by_it = (key for key, value in scan(near, end) if TIMER.decode(value).clock <= clock)
                self._carry(islice(made_by_it, CARRIED), was_ms, steady_ms)
        if inherited.now_ms - now_ms > JUMP_MS:
            self._begin_clock(inherited.now_ms, steady_ms)
        return self.clock != inherited.clock

    def _set_back(self, was_ms: float, now_ms: float, steady_ms: float, scan: Scan) -> None:
        """Waits that were to end within a minute do so, by the steady clock; all others follow the wall clock."""
        near, end = _near(was_ms, now_ms)
        self._carry([key for key in self._heap if near <= key < end], was_ms, steady_ms)
        self._carry((key for key, _ in islice(scan(max(self._cursor, near), end), CARRIED)), was_ms, steady_ms)
        self._cursor = min(self._cursor, keys.timer(int(now_ms) + WINDOW_MS, "", -(2**31)))
        self._heap = [key for key in self._heap if key < self._cursor]
        heapify(self._heap)
        self._leap = (0.0, 0.0, 0.0)
        self._begin_clock(was_ms, steady_ms)

    def _carry(self, found: Iterable[bytes], was_ms: float, steady_ms: float) -> None:
        for key in found:
            if _keeps_length(key):
                heappush(self._carried, (steady_ms + _due_ms(key) - was_ms, key))

    def _begin_clock(self, was_ms: float, steady_ms: float) -> None:
        self.clock += 1
        self._before = [*self._before, (was_ms, steady_ms)][-CLOCKS:]

    def _leapt_over(self, key: bytes) -> bool:
        """Due only because the wall clock has jumped over its time: it waits for as long as it was to."""
        before_ms, after_ms, at_ms = self._leap
        due_ms = _due_ms(key)
        if not before_ms < due_ms <= after_ms or not _keeps_length(key):
            return False
        heappush(self._carried, (at_ms + due_ms - before_ms, key))
        return True


def _near(was_ms: float, now_ms: float) -> tuple[bytes, bytes]:
    """From and to which timer key waits were about to end by a clock that is set back, and are not due by the one of now."""
    first_ms, end_ms = max(int(was_ms) - WINDOW_MS, int(now_ms)), int(was_ms) + WINDOW_MS
    return keys.timer(first_ms, "", -(2**31)), keys.timer(end_ms, "", -(2**31))


def _due_ms(key: bytes) -> int:
    return int.from_bytes(key[1:9], "big")


def _keeps_length(key: bytes) -> bool:
    """Whether it ends a wait, and is no delayed start."""
    return int.from_bytes(key[-4:], "big", signed=True) != keys.REF_START
