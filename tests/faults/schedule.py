"""A schedule of faults from a seed: who is killed or frozen, when and for how long; and the thread that carries it out.

Stands over the workers and the brokers of one test. The same seed and length give the same schedule.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from tests.broker import KafkaCluster
from tests.faults.workers import Place, Worker

KINDS = ("kill", "freeze")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; `after_s` is the rest before it, counted from the end of the one before."""

    after_s: float
    kind: str
    who: str
    lasts_s: float

    def __str__(self) -> str:
        return f"after {self.after_s:.1f} s {self.kind} {self.who} for {self.lasts_s:.1f} s"


class Victim(Protocol):
    """What can be killed and frozen, and be brought back from either."""

    def hurt(self, kind: str) -> None: ...
    def heal(self, kind: str) -> None: ...


@dataclass(frozen=True, slots=True)
class WorkerVictim:
    """A worker with its supervisor."""

    worker: Worker

    def hurt(self, kind: str) -> None:
        """SIGKILL or SIGSTOP."""
        if kind == "kill":
            self.worker.kill()
        else:
            self.worker.freeze()

    def heal(self, kind: str) -> None:
        """Start it again, or SIGCONT."""
        if kind == "kill":
            self.worker.start()
        else:
            self.worker.thaw()


@dataclass(frozen=True, slots=True)
class BrokerVictim:
    """One broker of a cluster."""

    cluster: KafkaCluster
    number: int
    place: Place

    def hurt(self, kind: str) -> None:
        """SIGKILL or SIGSTOP."""
        self.place.note(f"{kind} broker {self.number}")
        if kind == "kill":
            self.cluster.kill(self.number)
        else:
            self.cluster.suspend(self.number)

    def heal(self, kind: str) -> None:
        """Start it again and wait until it serves, or SIGCONT."""
        if kind == "kill":
            self.cluster.restart(self.number)
        else:
            self.cluster.resume(self.number)
        self.place.note(f"broker {self.number} back")


def line_up(chance: random.Random, victims: Sequence[str], rest_s: float, longest_s: float, length_s: float) -> list[Fault]:
    """Faults one after the other, up to `rest_s` apart and up to `longest_s` long, for so long."""
    faults: list[Fault] = []
    at_s = 0.0
    while True:
        fault = Fault(
            chance.uniform(rest_s / 4, rest_s), chance.choice(KINDS), chance.choice(victims), chance.uniform(0.5, longest_s)
        )
        at_s += fault.after_s + fault.lasts_s
        if at_s > length_s:
            return faults
        faults.append(fault)


def carry_out(tracks: Sequence[Sequence[Fault]], victims: Mapping[str, Victim], ends: Callable[[], bool]) -> int:
    """All tracks at once, each in its order; gives how many faults were done before the end."""

    def follow(track: Sequence[Fault]) -> int:
        done = 0
        for fault in track:
            time.sleep(fault.after_s)
            if ends():
                break
            victim = victims[fault.who]
            victim.hurt(fault.kind)
            try:
                time.sleep(fault.lasts_s)
            finally:
                victim.heal(fault.kind)
            done += 1
        return done

    with ThreadPoolExecutor(len(tracks)) as threads:
        return sum(threads.map(follow, tracks))
