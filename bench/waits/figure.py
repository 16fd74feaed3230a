"""One figure: what a scenario took with one contender in one round. Also the scenarios, by name, in the order of the table."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from bench.waits.site import Work

FAN_OUT = 1_000
IN_FLIGHT = 1_000


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is measured. `main` is the word that stands first in the table: a latency (`p50_ms`) or a rate (`per_s`)."""

    name: str
    title: str
    work: Work
    main: str
    connections: int = 0
    path: str = ""
    body: str = ""
    expected: str | None = None
    per_s: int = 0
    """Of a paced scenario: the records produced in a second."""
    in_flight: int = 0
    """Of a scenario that keeps records in flight: how many."""
    keys: int = 10_000
    """Of records with a step each: how many keys they have."""
    step_s: float = 0.0
    """How long each of these steps waits."""


def _object(connections: int) -> Scenario:
    return Scenario(
        f"object-{connections}", f"HTTP → object, {connections} connection{'s' * (connections > 1)}", Work.HTTP,
        "p50_ms" if connections == 1 else "per_s", connections, "/counter/{key}/add",
    )  # fmt: skip


def _steps(connections: int) -> Scenario:
    return Scenario(
        f"steps-{connections}", f"HTTP → three steps, {connections} connection{'s' * (connections > 1)}", Work.HTTP,
        "p50_ms" if connections == 1 else "per_s", connections, "/work/three_steps", expected="3",
    )  # fmt: skip


def _paced(per_s: int) -> Scenario:
    return Scenario(f"paced-{per_s}", f"produce → read_committed, {per_s:,}/s", Work.PACED, "p50_ms", per_s=per_s)


def _step_each() -> list[Scenario]:
    """A step for each event: with so many in flight, and of a backlog."""
    variants = [("", "", 10_000, 0.0), ("-5ms", ", of 5 ms", 10_000, 0.005), ("-hot", ", 100 hot keys", 100, 0.0)]
    title = "topic → one step an event"
    return [
        *(
            Scenario(f"in-flight{name}", f"{title}, {IN_FLIGHT:,} in flight{variant}", Work.IN_FLIGHT, "per_s",
                     in_flight=IN_FLIGHT, keys=keys, step_s=step_s)
            for name, variant, keys, step_s in variants
        ),
        *(
            Scenario(f"events{name}", f"{title}, a backlog{variant}", Work.EVENTS, "per_s", keys=keys, step_s=step_s)
            for name, variant, keys, step_s in variants
        ),
    ]  # fmt: skip


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        _object(1),
        _object(32),
        _object(256),
        _steps(1),
        _steps(32),
        Scenario(
            "fan-out", f"one handler calls {FAN_OUT:,}, collects", Work.HTTP, "p50_ms", 1, "/work/spread", str(FAN_OUT),
            str(FAN_OUT * (FAN_OUT - 1) // 2),
        ),
        *_step_each(),
        _paced(10),
        _paced(1_000),
        _paced(20_000),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figure:
    """What one measurement gave; `per_s` is requests, events or records a second."""

    contender: str
    scenario: str
    round: int
    count: int
    per_s: float
    cpu_us: float
    """Processor time of the contender's processes for each of them; the broker's is in nobody's figure."""
    p50_ms: float | None = None
    p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Median:
    """The medians of a contender's figures in a scenario, and the range of the main one."""

    contender: str
    scenario: str
    rounds: int
    per_s: float
    cpu_us: float
    p50_ms: float | None
    p99_ms: float | None
    lowest: float
    highest: float

    @property
    def main(self) -> float:
        """The figure that stands first."""
        value = self.per_s if SCENARIOS[self.scenario].main == "per_s" else self.p50_ms
        assert value is not None, f"{self.scenario} without latencies"
        return value


def medians(figures: Iterable[Figure]) -> dict[tuple[str, str], Median]:
    """By scenario and contender."""
    groups: dict[tuple[str, str], list[Figure]] = {}
    for figure in figures:
        groups.setdefault((figure.scenario, figure.contender), []).append(figure)
    return {at: _median(at, group) for at, group in groups.items()}


def _median(at: tuple[str, str], group: list[Figure]) -> Median:
    scenario, contender = at
    mains = [each.per_s if SCENARIOS[scenario].main == "per_s" else each.p50_ms or 0.0 for each in group]
    return Median(
        contender, scenario, len(group), statistics.median(each.per_s for each in group),
        statistics.median(each.cpu_us for each in group), _middle([each.p50_ms for each in group]),
        _middle([each.p99_ms for each in group]), min(mains), max(mains),
    )  # fmt: skip


def _middle(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None
