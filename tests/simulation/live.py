"""The simulated log in real time, for the contract suite: a thread pumps its events, and a lock stands round it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from inspect import isgenerator
from typing import Any, cast

import pytest

from odradek_runtime.log.port import Log, Member
from odradek_runtime.log.simulated import SimulatedLog
from odradek_runtime.log.simulated.brokers import Brokers
from odradek_runtime.log.simulated.scheduler import Action, Scheduler

PUMP_S = 0.0005


class LiveScheduler(Scheduler):
    """Events happen when their time has come."""

    def __init__(self) -> None:
        self.changed = threading.Event()
        super().__init__(0, 0.0)

    @property
    def now_ms(self) -> float:
        return time.time() * 1000

    @now_ms.setter
    def now_ms(self, value: float) -> None:
        """Real time cannot be set."""

    def at(self, due_ms: float, label: str, action: Action) -> None:
        super().at(due_ms, label, action)
        self.changed.set()

    def step(self) -> bool:
        """Give way for a moment if nothing is due."""
        if self.due_ms() > self.now_ms or not super().step():
            time.sleep(PUMP_S)
        return True


class Guarded:
    """Anything of the log, one call at a time."""

    def __init__(self, inner: object, lock: threading.RLock) -> None:
        self.inner = inner
        self._lock = lock

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.inner, name)

        def call(*arguments: Any, **named: Any) -> Any:
            with self._lock:
                return self._wrapped(method(*arguments, **named))

        return call

    def _wrapped(self, value: Any) -> Any:
        if isgenerator(value):
            return self._iterate(value)
        return Guarded(value, self._lock) if type(value).__name__ in ("SimulatedMember", "SimulatedPublisher") else value

    def _iterate(self, inner: Iterator[Any]) -> Iterator[Any]:
        while True:
            with self._lock:
                try:
                    item = next(inner)
                except StopIteration:
                    return
            yield item


class SimulatedHarness:
    """One cluster."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._scheduler = LiveScheduler()
        self._log = Guarded(SimulatedLog(Brokers(self._scheduler, mean_ms=0.3)), self._lock)
        self._closing = False
        self._pump = threading.Thread(target=self._run, name="simulated-log")
        self._pump.start()

    def open(self) -> Log:
        return cast(Log, self._log)

    @contextmanager
    def held(self) -> Generator[SimulatedLog]:
        """The log itself, while nothing else happens."""
        with self._lock:
            yield cast(SimulatedLog, self._log.inner)

    def evict(self, member: Member) -> None:
        cast(Any, member).evict()

    def close(self) -> None:
        self._closing = True
        self._scheduler.changed.set()
        self._pump.join()

    def _run(self) -> None:
        while not self._closing:
            with self._lock:
                while self._scheduler.due_ms() <= time.time() * 1000:
                    self._scheduler.step()
                wait_s = max(min(self._scheduler.due_ms() / 1000 - time.time(), 1.0), 0.0)
                self._scheduler.changed.clear()
            self._scheduler.changed.wait(wait_s)


@contextmanager
def simulated(_: pytest.FixtureRequest) -> Generator[SimulatedHarness]:
    harness = SimulatedHarness()
    yield harness
    harness.close()
