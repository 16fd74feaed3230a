"""The throttle: how much of what waits may be under way at once before the records behind it have to wait.

Stands between the intake and the engine's turn. Steps run beside the engine, so many at a time: what is taken in beyond that would
only be written, for an epoch ends before its turn has come. For a while records wait where they are, fetched; then nothing more is
fetched, and commands, which what is under way may need to end, are picked out of what has been (invariant 7).
"""

from __future__ import annotations

from odradek_runtime.configuration.memory import Shares
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.core.epoch import Epoch
from odradek_runtime.core.machine import Machine
from odradek_runtime.worker.steps.executor import Executor

from .drain import DRAIN_MS, DRAINED_MS, URGENT_DRAIN_MS, URGENT_DRAINED_MS, Drain
from .flags import Flags
from .intake import Intake

HELD_MS = 100.0
"""How long records wait before their partitions are paused: that drops what the client library has fetched ahead."""
PACE_MS = 100.0
"""Over how long it is reckoned how fast lines move."""
QUICK_PER_MS = 1.0
"""The worker has its hands full with lines of which so many a millisecond come to have their key."""
STANDING_PART = 8
"""Such a line counts from an eighth of what may be under way."""


class Throttle:
    """Of one engine."""

    def __init__(self, machine: Machine, executor: Executor, intake: Intake, settings: Settings, flags: Flags) -> None:
        self._machine = machine
        self._executor = executor
        self._intake = intake
        self._flags = flags
        self._least = settings.steps_running
        self._most = max(settings.steps_running * 5 // 4, settings.steps_running + 1)
        self._queued = settings.steps_queued
        self._shares: Shares = settings.shares
        self._closed = False
        self._closed_ms = 0.0
        self._patient = Drain(DRAIN_MS, DRAINED_MS)
        self._urgent = Drain(URGENT_DRAIN_MS, URGENT_DRAINED_MS)
        self._standing = self._moved = 0
        """Who stands in line for a key since an earlier epoch, and how many of them have come to have it since `_paced_ms`."""
        self._moved_ms = -DRAIN_MS
        """When the last of them did."""
        self._pace = self._paced_ms = 0.0
        """In the stretch before: so many a millisecond."""

    def holds(self, inflight: Epoch | None) -> bool:
        """Whether records have to wait: enough runs, or stands in line for its key, or the epoch is about to close."""
        self._look(inflight)
        return self._closed or self._drain.has_begun(self._machine.epoch.number) or self.clear_ms > 0.0

    @property
    def clear_ms(self) -> float:
        """How long records wait at least for long lines at keys that move quickly.

        What is taken in meanwhile would only make the lines longer, and each that an epoch leaves is written, and read again. Keys
        that do not get on, or slowly, hold up nobody else.
        """
        self._watch_lines()
        quick = self._standing >= self._least // STANDING_PART and self._pace >= QUICK_PER_MS
        return max(self._moved_ms + DRAIN_MS - self._machine.steady_ms, 0.0) if quick else 0.0

    def _watch_lines(self) -> None:
        standing, now_ms = self._machine.standing, self._machine.steady_ms
        if standing < self._standing:
            self._moved += self._standing - standing
            self._moved_ms = now_ms
        self._standing = standing
        if now_ms - self._paced_ms >= PACE_MS:
            self._pace, self._moved, self._paced_ms = self._moved / (now_ms - self._paced_ms), 0, now_ms

    def _look(self, inflight: Epoch | None) -> None:
        machine, epoch = self._machine, self._machine.epoch
        at_work = self._executor.load + len(epoch.steps) + len(epoch.early) + machine.lined_up
        if inflight is not None:
            at_work += len(inflight.steps)
        if self._closed:
            self._closed = at_work >= self._least
        elif at_work >= self._most:
            self._closed, self._closed_ms = True, machine.steady_ms

    @property
    def _drain(self) -> Drain:
        return self._urgent if self._machine.epoch.urgent else self._patient

    def may_close(self) -> bool:
        """Whether the epoch, whose time has come, need not wait for steps that run to end within it: then they leave no trace.

        Steps that its commit is to start would wait longer, too.
        """
        machine, epoch = self._machine, self._machine.epoch
        if not self._executor.load or epoch.steps:
            return True
        left = machine.keeping.unanchored + machine.lined_up
        return not left or self._drain.is_over(epoch.number, left + machine.standing, machine.steady_ms)

    @property
    def drain_ms(self) -> float:
        """How long the epoch may still wait for that; 0 while it does not."""
        return self._drain.left_ms(self._machine.epoch.number, self._machine.steady_ms)

    def regulate(self, inflight: Epoch | None) -> None:
        """Too many steps, or starts under a limit, wait, or hold too much: the inputs pause, nothing is dropped (invariant 7)."""
        self._look(inflight)
        self._watch_lines()
        machine, flags = self._machine, self._flags
        waiting = len(machine.targets.unavailable.waiting)
        load, half = self._executor.load + machine.limits.backlog + waiting, 2 if flags.paused else 1
        much = load > self._queued // half or self._executor.load_bytes > self._shares.suspended_bytes // half
        long = self._closed and machine.steady_ms - self._closed_ms > HELD_MS
        if flags.paused != (much or long):
            flags.paused = not flags.paused
            self._intake.pause(paused=flags.paused)
        if flags.paused and self._closed:
            self._intake.sift()
