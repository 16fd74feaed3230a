"""Isolation: after an epoch was aborted for a record's sake, smaller ones, until the culprit stands alone (invariant 2).

The engine asks it how large an epoch may be and tells it how each one ended; the machine is told whom to treat as the culprit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from odradek_runtime.core.epoch import Epoch
    from odradek_runtime.core.machine import Machine

SEARCH_MS = 600_000
"""Aborts this close together are one search: epochs are kept small for longer each time, until the culprit has its turn."""


class Isolation:
    """The search for a culprit. `split` is the number of events that an epoch may have meanwhile; 0 while nobody is looked for."""

    def __init__(self, machine: Machine, epoch_events: int) -> None:
        self.split = 0
        self._machine = machine
        self._epoch_events = epoch_events
        self._suspects: set[str] = set()
        self._poisonings = 0
        self._poisoned_ms = float("-inf")
        self._cautious = 0

    def aborted(self, epoch: Epoch, message: str) -> None:
        """One of its records aborted this epoch.

        One event may run several invocations, so each of them is suspected in its turn; it is the culprit if the epoch commits
        without its work. The last one first: it ran because those before it had ended, so it cannot run without them next time,
        while an innocent one before it could, and its failure would stand. The record itself comes at the end.
        """
        if self.split == 1 or epoch.events <= 1:
            roots = sorted(dict.fromkeys(reversed(epoch.roots)), key=lambda root: "@" in root)
            untried = [root for root in roots if root not in self._suspects]
            for root in untried[:1] or roots:
                self._suspects.add(root)
                self._machine.poison[root] = message
                if root in epoch.condemned:
                    self._machine.bare.add(root)
        else:
            self._machine.poison.update(epoch.condemned)
        self.split = max(1, min(epoch.events, self.split or epoch.events) // 2)
        steady_ms = self._machine.steady_ms
        if steady_ms - self._poisoned_ms > SEARCH_MS:
            self._poisonings = 0
        self._poisoned_ms = steady_ms
        self._poisonings += 1
        self._cautious = min(self._poisonings // 2, 1_000)  # other work may come first, however often it starts over
        self._machine.splitting = True

    def committed(self, epoch: Epoch) -> None:
        """Larger epochs again, when so many have committed that the culprit must have had its turn."""
        if not self.split or not epoch.roots:  # a barrier or the opening of a shard: they would undo every halving
            return
        self._cautious -= 1
        if self._cautious > 0:
            return
        self.split = 0 if self.split * 2 >= self._epoch_events else self.split * 2
        self._machine.splitting = bool(self.split)
        if not self.split:
            self._suspects.clear()
            self._machine.bare.clear()
