"""Keeping: what an invocation has done becomes part of the epoch, and one that outlives the epoch is written and kept.

Stands between the coroutine, which the runner drives, and the epoch. A segment is merged here (invariant 5; the lane does it in its
own loop for what never waits), an invocation that waits is anchored: entry, journal, lock and timers. What was let go comes back by
`revival`.
"""

from __future__ import annotations

from odradek._context import let_ask
from odradek_runtime.core.epoch import StepRun
from odradek_runtime.core.operations.kind import Open
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import TIMER, Command, Timer
from odradek_runtime.core.running.coroutine_cache import CoroutineCache, data_bytes
from odradek_runtime.core.running.invocation import Live
from odradek_runtime.core.running.waiting import close, waiting
from odradek_runtime.core.scope import Scope

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
        self.journaled: dict[str, Live] = {}
        """Those to whose journals the open epoch has added something."""

    # --- in the journal ---

    def anchor(self, live: Live) -> None:
        """It outlives this epoch: write its entry, and let it hold the key of its object."""
        stored = live.endure()
        if live.anchored:
            return
        live.anchored = True
        self._living.add(live)
        self._limits.began(live)
        self.persist(live)
        if live.handler.mode == "exclusive":
            lock_key = keys.lock(live.base)
            if lock_key not in live.shard.locks:
                live.shard.hold(lock_key, live.id)
        if live.handler.timeout_s is not None:
            due_ms = int(self._scope.now_ms + live.handler.timeout_s * 1000)
            live.deadline = keys.timer(due_ms, live.id, keys.REF_TIMEOUT)
            live.shard.set_timer(live.deadline, Timer("timeout", created_ms=stored.created_ms))

    def persist(self, live: Live) -> None:
        """Write its entry as it is now."""
        live.shard.put(keys.invocation(live.id), self._scope.sizes.entry(live.endure()))
        self._scope.touch(live.shard)

    def journal(self, live: Live) -> None:
        """Something was added to its journal, which is written when the epoch closes."""
        self.journaled[live.id] = live
        self._scope.touch(live.shard)

    def flush(self, live: Live) -> None:
        """Write what this epoch added to its journal."""
        self.journaled.pop(live.id, None)
        if live.journal.unwritten:
            for chunk in live.journal.take_unwritten():
                key = keys.chunk(live.id, live.shard.next_sequence())
                live.journal.chunks.append(key)
                live.shard.put(key, chunk)

    def close(self) -> None:
        """The epoch ends: journals are written, and what was to start at once and has not waits for the commit."""
        epoch = self._scope.epoch
        if epoch.early:
            epoch.steps += epoch.early
            epoch.early = []
        for live in list(self.journaled.values()):
            self.flush(live)

    # --- segments ---

    def merge(self, live: Live) -> None:
        """The segment becomes part of the epoch."""
        epoch = self._scope.epoch
        if self._scope.splitting:
            epoch.roots.append(live.id)
        if live.writes:
            live.shard.changes.update(live.writes)
        if live.outputs:
            epoch.outputs += live.outputs
        epoch.bytes += live.size
        live.size = 0
        if live.stored is not None:
            self._merge_journal(live)
        if live.begun:
            begun, live.begun = live.begun, None
            effects = _Begun(self._scope, self, self._outward, live, beside=len(begun))
            for op in begun:
                op.kind.begin(op, effects)

    def _merge_journal(self, live: Live) -> None:
        live.journal.add_commands(live.commands, live.refusals)
        live.commands, live.writes, live.outputs, live.refusals = [], {}, [], None
        if live.journal.unwritten:
            self.journal(live)
        self._scope.touch(live.shard)

    def start_step(self, live: Live, op: Open, attempt: int = 0, first_ms: int = 0, *, beside: int = 1) -> None:
        """Run a step once this epoch is durable; an idempotent one at once, but while a culprit is looked for.

        Until its result is recorded it is a timer that is due: a crash runs it again.

        `beside`: how many operations of this invocation begin now; what it holds in memory is reckoned in equal parts to each.
        """
        shard, epoch = live.shard, self._scope.epoch
        first_ms = first_ms or int(self._scope.now_ms)
        op.timer = keys.timer(0, live.id, op.ref)
        created_ms = live.stored.created_ms if live.stored is not None else 0
        shard.put(op.timer, TIMER.encode(Timer("step", attempt, first_ms, created_ms)))
        shard.running.add((live.id, op.ref))
        held = data_bytes(live) // beside
        key = f"{live.id}-{op.ref}"
        run = StepRun(shard.number, shard.incarnation, live.id, op.ref, op.what, key, attempt, first_ms, created_ms, held)
        if run.body.idempotent and not self._scope.splitting:
            epoch.early.append(run)
        else:
            epoch.steps.append(run)
            epoch.urgent = True
        self._scope.touch(shard)

    # --- coroutines ---

    def suspend(self, live: Live) -> None:
        """It waits: keep what it did, and the coroutine for as long as there is room."""
        self.anchor(live)
        seen_all = live.journal.delivered == len(live.journal.completions)
        if seen_all and live.stored is not None and live.stored.attempts:  # it got further: what failed before no longer counts
            live.stored.attempts, live.stored.failed_ms, live.stored.reason = 0, 0, ""
            self.persist(live)
        self.merge(live)
        let_ask(live.context, waiting(live))
        self.cache.keep(live)

    def forget(self, live: Live) -> None:
        """It has ended, or its coroutine is of no use any more."""
        self.cache.release(live)
        self._living.remove(live)
        close(live)

    def evict(self) -> None:
        """Drop the coroutines that the cache has no room for; a replay rebuilds them. Called between epochs."""
        for live in self.cache.surplus():
            self.forget(live)

    def drop(self, number: int) -> None:
        """The shard goes, or starts over: nothing in memory counts any more."""
        for live in self._living.of(number):
            self.forget(live)


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
        self._live.shard.set_timer(op.timer, timer)
        self._scope.touch(self._live.shard)

    def step(self, op: Open) -> None:
        self._keeping.start_step(self._live, op, beside=self._beside)

    def route(self, command: Command) -> None:
        self._outward.route(command, self._live.shard)
