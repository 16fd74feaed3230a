"""The wall clocks of a world: somebody sets one, or the time server all of them, and everything still comes to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .world import World

HOUR_MS = 3_600_000.0
MINUTES_MS = 600_000.0
"""One clock is not further from the others than completions are kept for."""


class Clocks:
    """How wall clocks are set in one world; by how much one worker's is, that worker knows."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.shift_ms = 0.0
        """How far all wall clocks are from the world's time."""
        self.set_ms = 0.0
        """By how much wall clocks have been set, back and ahead, all together."""
        self.behind_ms = 0.0
        """By how much back, all together."""

    def begin(self) -> None:
        """Plan the first time."""
        world = self._world
        if "clock_set" in world.faults.kinds:
            world.scheduler.later(world.faults.clocks.uniform(0.0, 5_000.0), "a clock may be set", self._set)

    def _set(self) -> None:
        """Somebody sets a clock, or the time server all of them, by seconds, and once by more.

        Only a delayed start may wait for a clock that was set back.
        """
        world, rng = self._world, self._world.faults.clocks
        world.scheduler.later(rng.uniform(1_000.0, 20_000.0), "a clock may be set", self._set)
        if not world.workers or world.short_lived or not world.faults.may("clock_set"):
            return
        world.faults.happen("clock_set")
        hours = 0.0 if world.by_wall else 5 * HOUR_MS
        seconds_ms = rng.uniform(-20_000.0, 20_000.0)
        by_ms = rng.choice((seconds_ms, rng.uniform(-MINUTES_MS, MINUTES_MS), -rng.uniform(0.0, hours)))
        if self.set_ms > 60_000.0:
            by_ms = seconds_ms
        if world.by_wall:  # a leap may let a long wait end before a shorter one that keeps its length
            by_ms = -abs(by_ms)
        worker = rng.choice(world.workers) if abs(by_ms) <= MINUTES_MS and rng.random() < 0.7 else None
        if worker is not None:
            worker.skew_ms += by_ms
        else:
            self.shift_ms += by_ms
        world.scheduler.note(f"... {worker.name if worker else 'every clock'} by {by_ms / 1000:.0f} s")
        self.set_ms += abs(by_ms)
        self.behind_ms += max(-by_ms, 0.0)
