"""A contender that serves: its port and its processes; and how one waits until it answers.

Stands between the contenders, each of which starts in a way of its own, and the measurements, which are alike for all.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import httpx

from bench.contenders import Run, Running
from bench.processes import ProcessorTime

READY_TIMEOUT_S = 90.0
LOOK_EVERY_S = 0.1


class Work(Enum):
    """What a contender may be started for."""

    HTTP = "http"
    IN_FLIGHT = "records in flight"
    EVENTS = "events"
    PACED = "paced"


class Unavailable(Exception):
    """A contender cannot be had on this machine; says why."""


@dataclass(slots=True)
class Site:
    """A started contender."""

    port: int
    processes: list[Running]
    admin_port: int = 0
    _used: list[ProcessorTime] = field(default_factory=list[ProcessorTime])

    def __post_init__(self) -> None:
        self._used = [ProcessorTime(process.pid) for process in self.processes]

    def check(self) -> None:
        """Raise if one of its processes has ended, and note what they have used."""
        for process in self.processes:
            process.check()
        for used in self._used:
            used.note()

    def said(self) -> str:
        """The end of what its processes have printed."""
        return "\n".join(process.said()[-1500:] for process in self.processes)

    def processor_s(self, start_s: float, end_s: float) -> float:
        """The processor time of all its processes between two moments."""
        return sum(used.between(start_s, end_s) for used in self._used)


class Contender(Protocol):
    """One way to do the work."""

    name: str
    title: str
    works: frozenset[Work]
    counted: bool
    """An event's output carries the running count of its key."""
    own_log: bool
    """Events are written into its own log before it starts; Kafka is not asked."""

    def build(self) -> None:
        """Install or build what it needs, once. Raises `Unavailable`."""
        ...

    def serving(self, run: Run, work: Work) -> AbstractContextManager[Site]:
        """Start it for a kind of work, wait until it serves, stop it at the end. Raises RuntimeError."""
        ...


def until(condition: Callable[[], bool], what: str, site: Site, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Wait for a condition.

    Raises:
        RuntimeError: it did not come true in time, or a process of the contender has ended; with what they said.
    """
    give_up_at = time.perf_counter() + timeout_s
    while not condition():
        site.check()
        if time.perf_counter() > give_up_at:
            raise RuntimeError(f"waited {timeout_s:.0f} s in vain for {what}:\n{site.said()}")
        time.sleep(LOOK_EVERY_S)


def answers(url: str) -> bool:
    """Whether somebody answers a GET there with a 2xx."""
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def order(url: str, body: dict[str, object], site: Site) -> None:
    """POST an order to a contender's admin port.

    Raises:
        RuntimeError: it was refused.
    """
    answer = httpx.post(url, json=body, timeout=60, trust_env=False)
    if not answer.is_success:
        raise RuntimeError(f"{url} was answered with {answer.status_code}: {answer.text[:500]}\n{site.said()}")
