"""The agenda: what waits inside a worker for its turn. Steps that have ended, requests, paused work, timers that are due.

Stands between the engine, which puts things on it, and the machine. Each kind gets a share of every turn, so that none holds up
the others however much of it comes due at once: 100,000 timers, the inbox of a busy key, an app's paused invocations.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from odradek_runtime.core.machine import Machine
from odradek_runtime.core.records.request import Pending
from odradek_runtime.core.shard import Shard
from odradek_runtime.worker.steps.executor import StepEnded

SHARE = 50
"""Of each kind so many events a turn: a request waits for no more than these, some milliseconds."""

ENDS = 5 * SHARE
"""Steps' ends, which is as many as records are taken in a turn: what has begun ends before more begins."""
URGENT = 4 * SHARE
"""An epoch whose commit somebody waits for takes no more timers than these: what it carries is what they wait for."""


class Agenda:
    """Queues of events, taken in fair shares.

    `full`: the epoch has no room; `one_by_one`: a culprit is looked for; `took` hears of each step's result that leaves its queue.
    """

    def __init__(
        self,
        machine: Machine,
        full: Callable[[], bool],
        one_by_one: Callable[[], bool],
        took: Callable[[StepEnded], None],
    ) -> None:
        self.ended: deque[StepEnded] = deque()
        self.questions: deque[tuple[int, Pending]] = deque()
        self._paused: deque[tuple[Shard, bytes]] = deque()
        self._machine = machine
        self._full = full
        self._one_by_one = one_by_one
        self._took = took

    @property
    def waiting(self) -> bool:
        """Something is there that needs no event and no clock."""
        return bool(self.questions or self._paused or self._machine.busy)

    @property
    def timers_held(self) -> bool:
        """Timers wait for the next epoch."""
        epoch = self._machine.epoch
        return epoch.urgent and epoch.events >= URGENT

    def clear(self) -> None:
        """Start over: requests are asked again when their shards have opened, all else is found in the log."""
        self.questions.clear()
        self._paused.clear()

    def look_at_paused(self, shard: Shard) -> None:
        """After a restart: what was paused because of the code is tried on the code of today."""
        self._paused.append((shard, b"z"))

    def watch_clock(self) -> None:
        """Before anything is done in a turn: a wall clock that was set. What the next owner of a shard has to know is committed."""
        machine = self._machine
        for shard in machine.shards.values():
            was_set = shard.timers.watch(machine.now_ms, machine.steady_ms, shard.scan)
            if was_set and shard.phase != "leaving":
                machine.touch(shard)

    def turn(self) -> None:
        """A share of everything. An epoch that is kept small may have room for one kind alone: each is the first in turn."""
        self._machine.settle()
        kinds = [self._ask, self._retry_paused, self._fire_timers]
        first = self._machine.epoch.number // 2 % len(kinds) if self._one_by_one() else 0
        for take in kinds[first:] + kinds[:first]:
            take()
        self._tell_apps()

    def end_steps(self) -> None:
        """One by one, as far as the epoch has room: a step's end is an event like any other; its invocation may be a culprit."""
        machine = self._machine
        for _ in range(ENDS):
            if not self.ended or self._full():
                return
            event = self.ended.popleft()
            self._took(event)
            shard = machine.shards.get(event.run.shard)
            if shard is not None and shard.incarnation == event.run.incarnation and shard.phase == "open":
                self._begin_event()
                machine.due.step_done(shard, event.run, event.value, event.error)
                machine.settle()

    def _begin_event(self) -> None:
        epoch = self._machine.epoch
        epoch.begin(self._machine.steady_ms)
        epoch.events += 1

    def _ask(self) -> None:
        """One by one, as far as the epoch has room: a request is an event like any other."""
        machine = self._machine
        for _ in range(SHARE):
            if not self.questions or self._full():
                return
            number, pending = self.questions.popleft()
            shard = machine.shards.get(number)
            if shard is not None and shard.phase == "open":
                self._begin_event()
                pending.entered = True
                machine.request(shard, pending)
                machine.settle()

    def _retry_paused(self) -> None:
        if not self._paused or self._full():
            return
        shard, start = self._paused.popleft()
        if self._machine.shards.get(shard.number) is not shard or shard.phase != "open":
            return
        self._begin_event()
        following = self._machine.due.retry_paused(shard, start, 1 if self._one_by_one() else SHARE)
        if following is not None:
            self._paused.append((shard, following))
        self._machine.settle()

    def wait_ms(self, steady_ms: float) -> float:
        """In how many milliseconds another app that something waits for is to be looked at; 0 or less: now."""
        owing = [shard for shard in self._machine.shards.values() if shard.outboxes and shard.phase == "open"]
        return self._machine.outbox.wait_ms(owing, steady_ms) if owing else float("inf")

    def _tell_apps(self) -> None:
        """What waits for other apps, as far as they take it again: one share of each at each shard."""
        machine = self._machine
        most = 1 if self._one_by_one() else SHARE
        for shard in [shard for shard in machine.shards.values() if shard.outboxes and shard.phase == "open"]:
            for app in sorted(shard.outboxes):
                if self._full():
                    return
                if machine.outbox.takes(app):
                    self._begin_event()
                    machine.outward.tell_owed(app, shard, most)
                    machine.settle()

    def _fire_timers(self) -> None:
        """Each shard's due timers, the shares of all together one share."""
        machine = self._machine
        if self.timers_held:
            return
        shards = [shard for shard in machine.shards.values() if shard.phase == "open"]
        now_ms, steady_ms = machine.now_ms, machine.steady_ms
        due = [shard for shard in shards if shard.timers.wait_ms(now_ms, steady_ms) <= 0.0]
        for shard in due:
            for _ in range(max(SHARE // len(due), 1)):
                if self._full():
                    return
                key = shard.timers.pop_due(now_ms, steady_ms, shard.scan)
                if key is None:
                    break
                self._begin_event()
                machine.due.timer(shard, key)
                machine.settle()
