"""What the kernel says about a contender's processes: the processor time of the whole family, of one thread, the busiest.

Processor time is the figure that holds on a busy machine: others may delay a process, but they do not make it work more.
"""

import os
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
FAMILY_EVERY_S = 1.0


def family(root: int) -> set[int]:
    """A process and its descendants, as far as they live."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        fields = _fields(stat)
        if fields is not None:
            parents[int(stat.parent.name)] = int(fields[1])
    found = {root}
    while grown := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= grown
    return found


def processor_s(pid: int) -> float:
    """The processor time of a process; 0 when it has ended."""
    fields = _fields(Path(f"/proc/{pid}/stat"))
    return 0.0 if fields is None else (int(fields[11]) + int(fields[12])) * TICK_S


def busiest(root: int) -> int:
    """The process of a family that has used most processor time: the worker, not its supervisor."""
    return max(family(root), key=processor_s)


def threads(pid: int) -> dict[int, tuple[str, float]]:
    """The name and the processor time in seconds of each thread of a process."""
    used: dict[int, tuple[str, float]] = {}
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        fields = _fields(stat)
        if fields is not None:
            name = stat.with_name("comm").read_text().strip()
            used[int(stat.parent.name)] = name, (int(fields[11]) + int(fields[12])) * TICK_S
    return used


@dataclass(slots=True)
class ProcessorTime:
    """The processor time of a process and its descendants over time; `note` it while they run, ask `between` later."""

    root: int
    _family: set[int] = field(default_factory=set[int])
    _looked_at_s: float = 0.0
    _times_s: list[float] = field(default_factory=list[float])
    _used_s: list[float] = field(default_factory=list[float])

    def note(self) -> None:
        now = time.perf_counter()
        if now - self._looked_at_s > FAMILY_EVERY_S:  # looking through all processes is not cheap
            self._family, self._looked_at_s = family(self.root), now
        self._times_s.append(now)
        self._used_s.append(sum(processor_s(pid) for pid in self._family))

    def between(self, start_s: float, end_s: float) -> float:
        """How much was used between two moments of `time.perf_counter()`."""
        return self._at(end_s) - self._at(start_s)

    def _at(self, moment_s: float) -> float:
        after = min(max(bisect_left(self._times_s, moment_s), 1), len(self._times_s) - 1)
        (t0, t1), (u0, u1) = self._times_s[after - 1 : after + 1], self._used_s[after - 1 : after + 1]
        return u0 + (u1 - u0) * (moment_s - t0) / (t1 - t0)


def _fields(stat: Path) -> list[str] | None:
    try:
        return stat.read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None  # it has ended meanwhile
