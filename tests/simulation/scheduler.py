"""The scheduler decides what happens next: everything in a simulated world is an event with a time, drawn from one seed.

Time is virtual: it jumps to the next event. A blocking function (a restore) runs in a strand, a stack of its own that
only moves while the scheduler lets it; wherever it would block, the world may go on first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random

from greenlet import getcurrent, greenlet

Action = Callable[[], None]
START_MS = 1_700_000_000_000.0
"""When a world begins."""
SKEW_MS = 5_000.0
"""The clocks of two workers may be twice as far apart."""
HISTORY = 50_000
"""Events that are remembered."""


class Killed(BaseException):
    """Ends a strand whose process has died. Not an Exception, so that nothing catches it."""


class Stuck(AssertionError):
    """Nothing is left to happen, or too much has, and still somebody waits."""


class Scheduler:
    """The events of one world, in the order that the seed gives them."""

    def __init__(self, seed: int, now_ms: float) -> None:
        self.rng = Random(f"{seed}/schedule")
        self.now_ms = now_ms
        self.count = 0
        self.until = 0
        """Stop in the debugger at this event; 0 = never."""
        self.history: deque[tuple[int, float, str]] = deque(maxlen=HISTORY)
        self.strand: Strand | None = None
        self._heap: list[tuple[float, int, str, Action]] = []
        self._sequence = 0

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
        if self.count == self.until:
            breakpoint()
        action()
        return True

    def wait(self, what: str, until: Callable[[], bool], timeout_ms: float) -> bool:
        """Block until it holds; False when it does not within so long. In a strand the world goes on meanwhile."""
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


class Strand:
    """A blocking function on a stack of its own, which moves only while the scheduler lets it."""

    def __init__(self, scheduler: Scheduler, name: str, work: Callable[[], None], failed: Callable[[BaseException], None]) -> None:
        self.name = name
        self.dead = False
        self.ended = False
        self._scheduler = scheduler
        self._work = work
        self._failed = failed
        self._fiber = greenlet(self._run)
        scheduler.later(scheduler.delay_ms(2.0), f"{name} begins", self._start)

    def give_way(self, delay_ms: float, what: str) -> None:
        """Called in the strand: let the world go on for so long."""
        self._scheduler.later(delay_ms, f"{self.name} goes on: {what}", self._resume)
        world = self._fiber.parent
        assert world is not None, "a strand was entered from somewhere"
        world.switch()
        if self.dead:
            raise Killed

    def kill(self) -> None:
        """Its process has died: it does nothing more."""
        self.dead = True
        if self._fiber and self._scheduler.strand is not self:
            self._switch()

    def _start(self) -> None:
        if not self.dead:
            self._switch()

    def _resume(self) -> None:
        if not self.ended:
            self._switch()

    def _switch(self) -> None:
        """Run it until it gives way or ends."""
        before, self._scheduler.strand = self._scheduler.strand, self
        self._fiber.parent = getcurrent()
        self._fiber.switch()
        self._scheduler.strand = before

    def _run(self) -> None:
        try:
            self._work()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001  (it is the world's to judge)
            self._failed(error)
        finally:
            self.ended = True
