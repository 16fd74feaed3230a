"""The drain: an epoch whose time has come stays open a little for steps that run already to end within it.

Stands beside the throttle, which asks it before an epoch closes. What ends within the epoch in which it began leaves no trace in
the journal, and whoever waits for it waits for one commit, not for two.
"""

from __future__ import annotations

DRAIN_MS = 20.0
"""How long an epoch that nobody waits for stays open for the next of them."""
DRAINED_MS = 200.0
"""And for all of them."""
URGENT_DRAIN_MS = 2.0
"""The same of an epoch whose commit somebody waits for: about what a commit takes, which is what may be saved."""
URGENT_DRAINED_MS = 10.0
SKIPPED = 16
"""So many epochs do not wait, after one for which few steps ended in time: they are slow ones."""


class Drain:
    """Of the epochs of one kind, one after the other."""

    def __init__(self, next_ms: float, all_ms: float) -> None:
        self._next_ms = next_ms
        self._all_ms = all_ms
        self._epoch = 0
        self._since_ms = self._ended_ms = 0.0
        self._at_first = self._left = self._skipped = 0

    def is_over(self, epoch: int, left: int, now_ms: float) -> bool:
        """Whether this epoch, for which so many steps are left, may close now."""
        if self._epoch != epoch:
            if self._skipped:
                self._skipped -= 1
                return True
            self._epoch, self._since_ms, self._at_first, self._left = epoch, now_ms, left, left + 1
        if left < self._left:
            self._left, self._ended_ms = left, now_ms
        if self.left_ms(epoch, now_ms) > 0.0:
            return False
        if left > self._at_first * 3 // 4:
            self._skipped = SKIPPED
        return True

    def has_begun(self, epoch: int) -> bool:
        """Whether this epoch waits, or has waited: it takes nothing in any more."""
        return self._epoch == epoch

    def left_ms(self, epoch: int, now_ms: float) -> float:
        """How long it may still wait; 0 if it does not."""
        if self._epoch != epoch:
            return 0.0
        return max(min(self._ended_ms + self._next_ms, self._since_ms + self._all_ms) - now_ms, 0.0)
