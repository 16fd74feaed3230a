"""Simulated steps: each runs after a while, or much later, or fails although its body would not (`executor.Executor`)."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from odradek._current import STEP
from odradek_runtime.core.epoch import StepRun
from odradek_runtime.core.running.invocation import Live
from odradek_runtime.worker.steps.executor import StepEnded

from .model import Wrong

if TYPE_CHECKING:
    from .worker import SimWorker

HANG_MS = 20_000.0


class SimExecutor:
    """The steps of one worker."""

    def __init__(self, worker: SimWorker) -> None:
        self._worker = worker
        self._load = 0
        self._load_bytes = 0
        self._running: set[tuple[int, int, str, int, int]] = set()

    @property
    def load(self) -> int:
        return self._load

    @property
    def load_bytes(self) -> int:
        return self._load_bytes

    def took(self, event: StepEnded) -> None:
        """Results have no bound here."""
        self._load -= 1
        self._load_bytes -= event.run.held_bytes

    def submit(self, runs: Sequence[StepRun]) -> None:
        world = self._worker.world
        for run in runs:
            self._worker.effect("a step is started")
            if not self._may_be_early(run):
                self._worker.deployment.audit.step_started(run)
            if _identity(run) in self._running:
                raise Wrong(f"{self._worker.name} starts step {run.key} a second time while it runs")
            self._running.add(_identity(run))
            self._load += 1
            self._load_bytes += run.held_bytes
            slow_ms = world.faults.rng.uniform(100.0, HANG_MS) if world.faults.hit("step_slow") else 0.0
            name = f"{self._worker.name} runs step {run.body.name} {run.key}"
            took_ms = slow_ms + world.scheduler.delay_ms(world.scheduler.rng.choice((5.0, 60.0)))
            world.scheduler.later(took_ms, name, lambda run=run: self._run(run))

    def _may_be_early(self, run: StepRun) -> bool:
        """Whether it may start before its cause is durable: its author says so, and somebody waits for it."""
        owner = run.owner
        assert isinstance(owner, Live), "whose step it is"
        return run.body.idempotent and not owner.closed and run.ref in owner.ops

    def _run(self, run: StepRun) -> None:
        from .worker import Crashed

        if not self._worker.alive:
            return
        self._running.discard(_identity(run))
        try:
            self._worker.effect("a step runs")
        except Crashed:
            self._worker.world.crash(self._worker)
            return
        token = STEP.set(run)
        try:
            value = run.body.encode(_value(run, fails=self._worker.world.faults.hit("step_fails")))
        except Exception as error:  # noqa: BLE001  (a step may raise anything; its policy decides)
            self._worker.step_ended(run, None, error)
        else:
            self._worker.step_ended(run, value, None)
        finally:
            STEP.reset(token)


def _identity(run: StepRun) -> tuple[int, int, str, int, int]:
    """An invocation that is restarted from an entry on may run a step while the same one of before runs still."""
    assert isinstance(run.owner, Live), "whose step it is"
    return run.shard, run.incarnation, run.id, run.ref, run.owner.created_ms


def _value(run: StepRun, *, fails: bool) -> Any:
    if fails:
        raise ConnectionError("the network is down (simulated)")
    value = run.body.run()
    if inspect.iscoroutine(value):
        try:
            value.send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("simulated steps do not wait")
    return value
