"""The pace of a replay: how many records its rate allows now. One for all of its parts in a worker, whichever of them are read.

Each part has an equal share of the rate that was asked for, and they add up: so what a part does not use, since it waits for its
place or has ended, another of the same worker does, and all workers together keep to the rate.
"""

from __future__ import annotations

ROUNDING = 1e-6
"""What a sum of fractions may lack of a whole record."""
BURST_S = 0.5
"""So much of what it has missed may be made up."""


class Pace:
    """Of one replay in one worker. `rate`: records a second; 0: without limit.

    >>> pace = Pace(10.0, steady_ms=0.0)
    >>> pace.allowed(1_000.0, most=200), pace.wait_ms(1_000.0)
    (5, 0.0)
    >>> pace.take(5)
    >>> pace.allowed(1_000.0, most=200), pace.wait_ms(1_000.0)
    (0, 100.0)
    """

    def __init__(self, rate: float, steady_ms: float) -> None:
        self.rate = rate
        self._saved = 0.0
        """Records that it may deliver, as of `_at_ms`."""
        self._at_ms = steady_ms

    def allowed(self, steady_ms: float, most: int) -> int:
        """How many records may be delivered now, `most` at the most."""
        if self.rate <= 0:
            return most
        self._look(steady_ms)
        return min(int(self._saved + ROUNDING), most)

    def take(self, records: int) -> None:
        """So many have been delivered."""
        self._saved -= records

    def wait_ms(self, steady_ms: float) -> float:
        """In how many milliseconds it allows a record; 0: now."""
        if self.rate <= 0 or self.allowed(steady_ms, 1):
            return 0.0
        return (1 - self._saved) * 1000 / self.rate

    def _look(self, steady_ms: float) -> None:
        gained = self.rate * (steady_ms - self._at_ms) / 1000
        self._saved = min(self._saved + gained, max(self.rate * BURST_S, 2.0))
        self._at_ms = steady_ms
