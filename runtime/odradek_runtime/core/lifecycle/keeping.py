"""Keeping: what an invocation has done becomes part of the epoch, and one that outlives the epoch is written and kept.

Stands between the coroutine, which the runner drives, and the epoch. A segment is merged here (invariant 5; the lane does it in its
own loop for what never waits). An invocation that still waits when the epoch closes is anchored: entry, journal, lock and timers.
What was let go comes back by `revival`.
"""

from __future__ import annotations

from odradek._context import let_ask
from odradek_runtime.core.epoch import StepRun
from odradek_runtime.core.locks import Queued
from odradek_runtime.core.operations.kind import Open
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import TIMER, Command, Timer
from odradek_runtime.core.running.coroutine_cache import CoroutineCache, data_bytes
from odradek_runtime.core.running.invocation import Live
from odradek_runtime.core.running.waiting import close, waiting
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import Running, Shard

from .limits import Limits
from .living import Living
from .outward import Outward


class Keeping:
    """Of one machine's invocations."""

    def __init__(self, scope: Scope, living: Living, limits: Limits, outward: Outward, cache: CoroutineCache) -> None:
        self._scope = scope
        self._living = living
        self._limits = limits
        self._outward = outward
        self.cache = cache
        self.journaled: dict[Live, None] = {}
        """Those to whose journals the open epoch has added something: all that have begun to wait in it among them."""

    # --- in the journal ---

    def anchor(self, live: Live) -> None:
        """It outlives this epoch: write its entry, the lock of its key, and timers that bring back what it waits for."""
        if live.anchored:
            return
        stored = live.endure()
        live.anchored = True
        self._living.add(live)
        self._limits.began(live)
        self.persist(live)
        self.hold_key(live)
        if live.handler.timeout_s is not None:
            due_ms = int((live.begun_ms or self._scope.now_ms) + live.handler.timeout_s * 1000)
            live.deadline = keys.timer(due_ms, live.id, keys.REF_TIMEOUT)
            live.shard.set_timer(live.deadline, Timer("timeout", created_ms=stored.created_ms))
        for op in live.ops.values():
            if op.run is not None and op.ref not in live.journal.completed:
                self._bring_back(live, op, op.run)

    def hold_key(self, live: Live) -> None:
        """The key of its object is its own in the journal, too."""
        if live.handler.mode == "exclusive":
            locks = live.shard.locks
            if live.base not in locks.held:
                locks.take(live.base, live)
            locks.keep(live.base, live)

    def persist(self, live: Live) -> None:
        """Write its entry as it is now."""
        live.shard.put(keys.invocation(live.id), self._scope.sizes.entry(live.endure()))
        self._scope.touch(live.shard)

    def journal(self, live: Live) -> None:
        """Something was added to its journal, which is written when the epoch closes."""
        self.journaled[live] = None
        self._scope.touch(live.shard)

    def flush(self, live: Live) -> None:
        """Write what this epoch added to its journal."""
        self.journaled.pop(live, None)
        if live.journal.unwritten:
            for chunk in live.journal.take_unwritten(self._scope.now_ms):
                key = keys.chunk(live.id, live.shard.next_sequence())
                live.journal.chunks.append(key)
                live.shard.put(key, chunk)

    def close(self) -> None:
        """The epoch ends: what still waits is written, and what was to start at once and has not waits for the commit."""
        epoch = self._scope.epoch
        if epoch.early:
            epoch.steps += epoch.early
            epoch.early = []
        for live in list(self.journaled):
            if not live.anchored:
                self.anchor(live)
                self.cache.keep(live)
            self.flush(live)
        for shard in self._scope.shards.values():
            for queued in shard.locks.left_behind():
                self.put_in_line(shard, queued)
            if shard.locks.write():
                self._scope.touch(shard)

    @property
    def unanchored(self) -> int:
        """How many wait and would have to be written if the epoch closed now."""
        return sum(not live.anchored for live in self.journaled)

    # --- in line for a key ---

    def queue(self, live: Live) -> None:
        """It waits for its key behind all others that do."""
        live.shard.locks.queue(live.base, live)
        self._living.queue(live)
        self._scope.touch(live.shard)

    def put_in_line(self, shard: Shard, queued: Queued) -> None:
        """The epoch ends before it has come to have its key: its entry is written, unless it was killed in line."""
        if isinstance(queued, Live) and queued.closed:
            return
        stored = queued.endure()
        if stored.status != "paused":
            stored.status = "inboxed"
        shard.put(keys.invocation(stored.id), self._scope.sizes.entry(stored))
        self._living.unqueue(shard, queued)

    # --- segments ---

    def merge(self, live: Live) -> None:
        """The segment becomes part of the epoch."""
        if live.lasting:
            self._merge_journal(live)
        self.merge_effects(live)

    def merge_effects(self, live: Live) -> None:
        """As `merge`, of one that nobody will replay: without its commands."""
        epoch = self._scope.epoch
        if self._scope.splitting:
            epoch.roots.append(live.id)
        if live.writes:
            live.shard.changes.update(live.writes)
        if live.outputs:
            epoch.outputs += live.outputs
        epoch.bytes += live.size
        live.size = 0
        if live.lasting:
            live.writes, live.outputs = {}, []
        if live.begun:
            begun, live.begun = live.begun, None
            effects = _Begun(self._scope, self, self._outward, live, beside=len(begun))
            for op in begun:
                op.kind.begin(op, effects)

    def _merge_journal(self, live: Live) -> None:
        live.journal.add_commands(live.commands, live.refusals)
        live.commands, live.refusals = [], None
        if live.journal.unwritten:
            self.journal(live)
        self._scope.touch(live.shard)

    def start_step(self, live: Live, op: Open, attempt: int = 0, first_ms: int = 0, *, beside: int = 1) -> None:
        """Run a step once this epoch is durable; an idempotent one at once, but while a culprit is looked for.

        `beside`: how many operations of this invocation begin now; what it holds in memory is reckoned in equal parts to each.
        """
        shard, epoch = live.shard, self._scope.epoch
        first_ms = first_ms or int(self._scope.now_ms)
        held = data_bytes(live) // beside
        op.run = run = StepRun(shard.number, shard.incarnation, live, op.ref, op.what, attempt, first_ms, held)
        if live.anchored:
            self._bring_back(live, op, run)
        if run.body.idempotent and not self._scope.splitting:
            epoch.early.append(run)
        else:
            epoch.steps.append(run)
            epoch.urgent = True
        self._scope.touch(shard)

    def hold_back(self, live: Live) -> None:
        """It goes on later: steps that were to start at once wait for the commit of their cause, as all others do."""
        epoch = self._scope.epoch
        early = [run for run in epoch.early if run.owner is live]
        if early:
            epoch.early = [run for run in epoch.early if run.owner is not live]
            epoch.steps += early
            epoch.urgent = True

    def _bring_back(self, live: Live, op: Open, run: StepRun) -> None:
        """Until the result of a step is recorded it is a timer that is due: a crash runs it again."""
        shard, stored = live.shard, live.endure()
        op.timer = keys.timer(0, stored.id, op.ref)
        shard.put(op.timer, TIMER.encode(Timer("step", run.attempt, run.first_ms, stored.created_ms)))
        shard.running[stored.id, op.ref] = Running(run, stored.created_ms)

    # --- coroutines ---

    def suspend(self, live: Live) -> None:
        """It waits: keep what it did, and the coroutine for as long as there is room. It is written when the epoch closes."""
        if not live.anchored:
            self._begin_to_wait(live)
        if live.stored is not None and live.stored.attempts and live.journal.delivered == len(live.journal.completions):
            live.stored.attempts, live.stored.failed_ms, live.stored.reason = 0, 0, ""  # it got further than it had
            self.persist(live)
        self.merge(live)
        let_ask(live.context, waiting(live))
        if live.anchored:
            self.cache.keep(live)

    def _begin_to_wait(self, live: Live) -> None:
        """For the first time, or once more in the same epoch: it has its key, and its place under a limit."""
        locks = live.shard.locks
        live.begun_ms = live.begun_ms or self._scope.now_ms
        if live.handler.mode == "exclusive" and live.base not in locks.held:
            locks.take(live.base, live)
        self._limits.began(live)
        if live.named:
            self._living.add(live)
        self.journaled[live] = None

    def forget(self, live: Live) -> None:
        """It has ended, or its coroutine is of no use any more."""
        if live.anchored:
            self.cache.release(live)
        if live.named:
            self._living.remove(live)
        close(live)

    def evict(self) -> None:
        """Drop the coroutines that the cache has no room for; a replay rebuilds them. Called between epochs."""
        for live in self.cache.surplus():
            self.forget(live)
            live.let_go()

    def discard(self) -> None:
        """The open epoch will not be: what has begun to wait in it never was."""
        for live in list(self.journaled):
            if not live.anchored:
                self.forget(live)
        self.journaled.clear()

    def drop(self, number: int) -> None:
        """The shard goes, or starts over: nothing in memory counts any more."""
        for live in self._living.of(number):
            self.forget(live)
        self._living.drop(number)


class _Begun:
    """The effects of the operations of one segment (`operations.kind.Effects`)."""

    __slots__ = ("_beside", "_keeping", "_live", "_outward", "_scope")

    def __init__(self, scope: Scope, keeping: Keeping, outward: Outward, live: Live, beside: int) -> None:
        self._scope = scope
        self._keeping = keeping
        self._outward = outward
        self._live = live
        self._beside = beside

    def timer(self, op: Open, timer: Timer) -> None:
        assert op.timer is not None, "it has one"
        self._keeping.anchor(self._live)
        self._live.shard.set_timer(op.timer, timer)
        self._scope.touch(self._live.shard)

    def step(self, op: Open) -> None:
        self._keeping.start_step(self._live, op, beside=self._beside)

    def row(self, key: bytes, value: bytes | None) -> None:
        self._live.shard.put(key, value)
        self._scope.touch(self._live.shard)

    def rows(self, prefix: bytes) -> list[bytes]:
        return [key for key, _ in self._live.shard.scan_chunks(prefix)]

    def route(self, command: Command) -> None:
        self._outward.route(command, self._live.shard)

    def drop(self, op: Open) -> None:
        shard = self._live.shard
        if op.timer is not None and shard.read(op.timer) is not None:
            shard.put(op.timer, None)
            self._scope.touch(shard)
