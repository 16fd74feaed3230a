"""How an invocation ends: its journal, timers and lock go, whoever waits hears of it, and its completion is kept for those who ask.

Stands behind what decides that it has ended (`failing`, `advance`); what a failure means before that is decided there.
"""

from __future__ import annotations

import logging

from odradek_runtime.core.epoch import StepRun
from odradek_runtime.core.operations.table import KINDS
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.answers import completion, reply_of
from odradek_runtime.core.records.formats import COMMAND, Stored
from odradek_runtime.core.records.request import Failure
from odradek_runtime.core.running.invocation import Live
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import Shard

from .keeping import Keeping
from .limits import Limits
from .outward import Outward
from .rejection import Rejection
from .retention import Retention, journal_ms

logger = logging.getLogger("odradek")


class Ending:
    """Writes the end of invocations into the epoch."""

    def __init__(
        self, scope: Scope, keeping: Keeping, limits: Limits, outward: Outward, rejection: Rejection, retention: Retention
    ) -> None:
        self._scope = scope
        self._keeping = keeping
        self._limits = limits
        self._outward = outward
        self._rejection = rejection
        self._retention = retention

    def returned(self, live: Live, result: bytes) -> None:
        """It has returned, and this is what it is to give."""
        self._end(live, result, None)

    def replaced(self, live: Live, failure: Failure) -> None:
        """Another one has taken its place: whoever waits for it is told, and nothing becomes of what started it."""
        stored = live.endure()
        stored.payload, stored.headers = None, []  # what started it is the other's: it is not restarted twice
        self._end(live, None, failure)

    def set_free(self, live: Live) -> None:
        """It begins anew: its coroutine, its journal and its timers go, and it keeps its key."""
        self._clear_journal(live)
        self._keeping.forget(live)
        self._limits.ended(live)

    def failed(self, live: Live, failure: Failure) -> None:
        """It has failed for good; what it did before stays. A record goes where its subscription says."""
        if live.subscription is not None:
            origin = live.origin
            assert origin is not None, "a record started it"
            attempts = live.stored.attempts if live.stored else 0
            self._rejection.record(live.subscription, origin, live.payload, failure, attempts, without=live.left_out)
        elif live.stored is not None and not live.stored.caller_id:
            # A client that waits is told, too, and a refusal that it has earned (4xx) is nothing to wake anybody for.
            level = logging.INFO if live.shard.waiters.get(live.id) and failure.code < 500 else logging.WARNING
            about = {"handler": live.handler.target}
            logger.log(level, "%s %s failed: %d %s", live.handler.target, live.id, failure.code, failure.message, extra=about)
        self._end(live, None, failure)

    def _end(self, live: Live, result: bytes | None, failure: Failure | None) -> None:
        shard, kept = live.shard, bool(journal_ms(live.handler))
        stored = live.endure() if kept else live.stored
        self._count(live, failure)
        if live.begun:  # what nobody will wait for does not begin
            live.begun = [op for op in live.begun if op.kind.parting]
        if kept and not self._scope.sizes.why_unjournaled(live.commands):
            self._keeping.merge(live)
        else:
            self._keeping.merge_effects(live)
        self._scope.touch(shard)
        if live.lasting:
            self._clear_journal(live, kept=kept)
            self._keeping.forget(live)
            self._limits.ended(live)
        if stored is not None:
            if stored.status == "paused":  # by its timeout
                shard.put(keys.paused(stored.id), None)
            self._report(shard, stored, result, failure)
            self._retention.keep(live, stored, result, failure)
            self._scope.targets.unavailable.ended(stored.id)
        self.release(live)

    def _count(self, live: Live, failure: Failure | None) -> None:
        epoch, target = self._scope.epoch, live.handler.target
        again = live.again or (live.stored.replay if live.stored is not None else "")
        if failure is not None:
            epoch.count("failed", target)
        elif again:
            epoch.count_again(again, "ended_well")
        since_ms = live.stored.created_ms if live.stored is not None else live.begun_ms
        if since_ms:
            epoch.lasted_s.append((target, max(self._scope.now_ms - since_ms, 0.0) / 1000))

    def _clear_journal(self, live: Live, *, kept: bool = False) -> None:
        """What it waited for goes, and its journal but where it is kept."""
        shard, epoch = live.shard, self._scope.epoch
        if kept:
            self._keeping.flush(live)
        self._keeping.journaled.pop(live, None)
        if (epoch.steps or epoch.early) and live.ops:  # those that were yet to start have nobody left who waits for them
            unheard = [run for run in (*epoch.steps, *epoch.early) if _is_of(run, live)]
            epoch.steps = [run for run in epoch.steps if not _is_of(run, live)]
            epoch.early = [run for run in epoch.early if not _is_of(run, live)]
            for run in unheard if live.anchored else ():
                shard.running.pop((run.id, run.ref), None)
        for row in (*(op.row for op in live.ops.values()), *_rows_ahead(live)):
            if row is not None and shard.read(row) is not None:
                shard.put(row, None)
        if not live.anchored:
            return
        if not kept:
            live.journal.unwritten = []
            for key in live.journal.chunks:
                shard.put(key, None)
        for timer in (live.deadline, *(op.timer for op in live.ops.values()), *_timers_ahead(live)):
            if timer is not None and shard.read(timer) is not None:
                shard.put(timer, None)

    def _report(self, shard: Shard, stored: Stored, result: bytes | None, failure: Failure | None) -> None:
        """Tell whoever waits: the caller, those that attached, HTTP."""
        if stored.caller_id:
            complete = completion(stored.caller_app, stored.caller_id, stored.caller_ref, result, failure)
            self._outward.route(complete, shard)
        if stored.id in shard.attached:
            shard.attached.discard(stored.id)
            for key, raw in list(shard.scan_prefix(keys.attached(stored.id))):
                waiting = COMMAND.decode(raw)
                self._outward.route(completion(waiting.name, waiting.id, waiting.ref, result, failure), shard)
                shard.put(key, None)
        for answer in shard.waiters.pop(stored.id, ()):
            self._scope.epoch.replies.append((answer, reply_of(stored.id, result, failure)))
            self._scope.epoch.urgent = True
        self._scope.touch(shard)

    def release(self, live: Live) -> None:
        """The key is free for the next in its inbox."""
        if live.handler.mode != "exclusive":
            return
        locks = live.shard.locks
        held = locks.held.get(live.base) if locks.held else None
        if held is not None and held.is_of(live):
            following = locks.pass_on(live.base)
            if following is not None:
                self._scope.ready.append((live.shard, following))
            self._scope.touch(live.shard)


def _is_of(run: StepRun, live: Live) -> bool:
    """Whether a step is of this invocation; an attempt that has been set aside had another coroutine, and the same id."""
    return run.owner is live or (live.anchored and run.id == live.id)


def _rows_ahead(live: Live) -> list[bytes | None]:
    """Rows of what it has not replayed, that say that it waits."""
    ahead = live.journal.commands[live.journal.cursor :]
    return [KINDS[entry.kind].row(live.base, live.id, entry) for entry in ahead if entry.kind in KINDS]


def _timers_ahead(live: Live) -> list[bytes | None]:
    """Timers of what it has not replayed: it ended before it came to them."""
    ahead = live.journal.commands[live.journal.cursor :]
    return [KINDS[entry.kind].timer(live.id, entry) for entry in ahead if entry.kind in KINDS]
