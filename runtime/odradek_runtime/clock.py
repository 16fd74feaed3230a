"""Two clocks, as a port: what time it is, and how time passes. Every part of a worker that looks at a clock is given this one.

The wall clock is for due times and for people. Somebody may set it back by an hour, or ahead; so whatever measures how long
something takes goes by the steady one, which only ever goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """`wall_ms`: Unix milliseconds. `steady_ms`: milliseconds since some moment, the same for as long as the process lives."""

    wall_ms: Callable[[], float]
    steady_ms: Callable[[], float]


_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine is suspended, where there is such a clock: what waited then has waited."""

SYSTEM = Clock(wall_ms=lambda: time.time() * 1000, steady_ms=lambda: time.clock_gettime(_STEADY) * 1000)


def begun(first_ms: float, now_ms: float) -> int:
    """When attempts began, by the wall clock of today: set back to before that, it begins them anew, so that they come to an end.

    >>> begun(0, 5_000), begun(4_000, 5_000), begun(3_600_000, 5_000)
    (5000, 4000, 5000)
    """
    return int(min(first_ms or now_ms, now_ms))
