"""The scheduler decides what happens next: everything in a simulated cluster is an event with a time, drawn from one seed.

Time is virtual: it jumps to the next event, and `clock` shows it to whoever needs one. A blocking question may run in a strand,
a stack of its own that moves only while the scheduler lets it: wherever it would block, the world goes on first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Protocol

from odradek_runtime.clock import Clock

Action = Callable[[], None]
HISTORY = 50_000
"""Events that are remembered."""


class Stuck(AssertionError):
    """Nothing is left to happen, or too much has, and still somebody waits."""


class Strand(Protocol):
    """A blocking function on a stack of its own."""

    def give_way(self, delay_ms: float, what: str) -> None:
        """Called in the strand: let the world go on for so long."""
        ...


class Scheduler:
    """The events of one world, in the order that the seed gives them."""

    def __init__(self, seed: int, now_ms: float) -> None:
        self.rng = Random(f"{seed}/schedule")
        self.now_ms = now_ms
        self.count = 0
        self.history: deque[tuple[int, float, str]] = deque(maxlen=HISTORY)
        """Each event with its number and its time, and what was noted within it."""
        self.strand: Strand | None = None
        """The one that moves now; None outside of all."""
        self._heap: list[tuple[float, int, str, Action]] = []
        self._sequence = 0

    def clock(self, shown_ms: Callable[[float], float] = lambda now_ms: now_ms) -> Clock:
        """The clocks of a process in this world. `shown_ms`: what its wall clock shows at a time."""
        return Clock(lambda: shown_ms(self.now_ms), lambda: self.now_ms)

    def delay_ms(self, mean_ms: float) -> float:
        """How long something takes: mostly about `mean_ms`, now and then much longer."""
        factor = 20.0 if self.rng.random() < 0.02 else 1.0
        return self.rng.expovariate(1.0 / mean_ms) * factor

    def later(self, delay_ms: float, label: str, action: Action) -> None:
        """Let something happen after so long."""
        self.at(self.now_ms + delay_ms, label, action)

    def at(self, due_ms: float, label: str, action: Action) -> None:
        """Let something happen at a time; what has the same time happens in the order of the calls."""
        self._sequence += 1
        heappush(self._heap, (due_ms, self._sequence, label, action))

    def due_ms(self) -> float:
        """When the next event happens; infinity when there is none."""
        return self._heap[0][0] if self._heap else float("inf")

    def note(self, text: str) -> None:
        """Remember something that happened within an event."""
        self.history.append((self.count, self.now_ms, text))

    def step(self) -> bool:
        """Let the next event happen; False when there is none."""
        if not self._heap:
            return False
        due_ms, _, label, action = heappop(self._heap)
        self.now_ms = max(self.now_ms, due_ms)
        self.count += 1
        self.history.append((self.count, self.now_ms, label))
        action()
        return True

    def wait(self, what: str, until: Callable[[], bool], timeout_ms: float) -> bool:
        """Block until it holds; False when it does not within so long. In a strand the world goes on meanwhile.

        Raises:
            Stuck: nothing is left that could make it hold.
        """
        end_ms = self.now_ms + timeout_ms
        while not until():
            if self.now_ms >= end_ms:
                return False
            if self.strand is not None:
                self.strand.give_way(self.delay_ms(20.0), what)
            elif not self.step():
                raise Stuck(f"nothing can happen any more, and something waits for {what}")
        return True

    def point(self, what: str) -> None:
        """A point where a blocking function may be held up. No effect outside a strand."""
        if self.strand is not None:
            self.strand.give_way(self.delay_ms(3.0), what)
