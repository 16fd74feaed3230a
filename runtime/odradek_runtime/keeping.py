"""Keeping: what an invocation has done becomes part of the epoch, and one that outlives the epoch is written and kept.

Stands between the coroutine, which the runner drives, and the epoch. A segment is merged here (invariant 5; the lane does it in its
own loop for what never waits), an invocation that waits is anchored: entry, journal, lock and timers. What was let go comes back by
`revival`.
"""

from __future__ import annotations

from odradek._context import let_ask

from . import keys
from .coroutine_cache import CoroutineCache, data_bytes
from .epoch import StepRun
from .formats import TIMER, Timer
from .invocation import Live
from .limits import Limits
from .living import Living
from .outward import Outward
from .scope import Scope
from .waiting import close, waiting


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
            timer = live.timers[keys.REF_TIMEOUT] = keys.timer(due_ms, live.id, keys.REF_TIMEOUT)
            live.shard.set_timer(timer, Timer("timeout", created_ms=stored.created_ms))

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
        """The epoch ends: journals are written."""
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
        if live.sends:
            sends, live.sends = live.sends, None
            for command in sends:
                self._outward.route(command, live.shard)

    def _merge_journal(self, live: Live) -> None:
        live.journal.add_commands(live.commands, live.refusals)
        live.commands, live.writes, live.outputs, live.refusals = [], {}, [], None
        for ref in live.sleeps:
            live.shard.set_timer(live.timers[ref], Timer("sleep"))
        live.sleeps = []
        for ref in live.started:
            self.start_step(live, ref, beside=len(live.started))
        live.started = []
        if live.journal.unwritten:
            self.journal(live)
        self._scope.touch(live.shard)

    def start_step(self, live: Live, ref: int, attempt: int = 0, first_ms: int = 0, *, beside: int = 1) -> None:
        """Run a step once this epoch is durable. Until its result is recorded it is a timer that is due: a crash runs it again.

        `beside`: how many steps of this invocation begin now; what it holds in memory is reckoned in equal parts to each.
        """
        first_ms = first_ms or int(self._scope.now_ms)
        timer = live.timers[ref] = keys.timer(0, live.id, ref)
        created_ms = live.stored.created_ms if live.stored is not None else 0
        live.shard.put(timer, TIMER.encode(Timer("step", attempt, first_ms, created_ms)))
        epoch = self._scope.epoch
        epoch.urgent = True
        key = f"{live.id}-{ref}"
        body = live.bodies[ref]
        live.shard.running.add((live.id, ref))
        shard = live.shard
        held = data_bytes(live) // beside
        run = StepRun(shard.number, shard.incarnation, live.id, ref, body, key, attempt, first_ms, created_ms, held)
        epoch.steps.append(run)
        self._scope.touch(live.shard)

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
