"""What becomes of an invocation that cannot go on now: another attempt, a wait for a topic or a turn, a pause, a terminal failure.

Stands between `advance`, which has seen how an attempt ended, and `ending`. A bad record stops nobody (invariant 9): it goes where
its subscription says, in the same transaction, and the next one runs.
"""

from __future__ import annotations

import logging

from odradek import RetryPolicy
from odradek._definition import Subscription
from odradek_runtime.clock import begun
from odradek_runtime.core.disclosure import log_whole, whole
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import SLOT, TIMER, Slot, Stored, Timer
from odradek_runtime.core.records.request import Failure, plain_text
from odradek_runtime.core.running.invocation import Live
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import Shard
from odradek_runtime.core.topics.unavailable import Unavailable

from .ending import Ending
from .keeping import Keeping
from .limits import Limits
from .rejection import Rejection

logger = logging.getLogger("odradek")

CALLED = RetryPolicy(initial=0.05, factor=2.0, max_delay=60.0)
FROM_RECORD = RetryPolicy(initial=0.05, factor=2.0, max_delay=60.0, max_duration=86_400.0)


class Failing:
    """Of one machine's invocations."""

    def __init__(self, scope: Scope, keeping: Keeping, limits: Limits, ending: Ending, rejection: Rejection) -> None:
        self._scope = scope
        self._keeping = keeping
        self._limits = limits
        self._ending = ending
        self._rejection = rejection

    def failed(self, live: Live, failure: Failure) -> None:
        """A terminal failure, unless its subscription, or the topic of its dead letter, has it wait."""
        subscription = live.subscription
        if subscription is not None and not live.closed:
            if subscription.on_error == "pause" and not live.why_unkept():
                self.paused(live, "bad_input", f"{failure.code} {failure.message}")
                return
            barred = self._rejection.barred(subscription)
            if barred is not None and not live.why_unkept():
                self.postponed(live, barred)
                return
        self._ending.failed(live, failure)

    def refused(self, live: Live) -> None:
        """It used what does not work in a handler. Nothing since its last wait happened: a dead letter may be read again."""
        drop_segment(live)
        self.failed(live, Failure(501, live.refused))

    # --- whether it can be kept ---

    def unkept(self, live: Live, said: str) -> bool:
        """Whether it had to be given up, because it would have to be kept for later and is too large for that."""
        why = live.why_unkept()
        if why:
            self._too_large(live, said, why)
        return bool(why)

    def _too_large(self, live: Live, said: str, why: str) -> None:
        self.failed(live, Failure(413, f"{said}: with what started it the entry {why}"))

    # --- goes on later ---

    def attempt_failed(self, live: Live, error: BaseException) -> None:
        """Drop what was done since the last wait, and try again from there after a while (invariant 5)."""
        if isinstance(error, Unavailable):
            self.postponed(live, error)
            return
        scope = self._scope
        drop_segment(live)
        stored = live.endure()
        stored.attempts += 1
        scope.look_at_clock()  # its delay begins now, not when the turn began: an attempt may take long
        stored.failed_ms = begun(stored.failed_ms, scope.now_ms)
        stored.reason = scope.disclosure.of(error)
        policy = _policy(live)
        elapsed_s = (scope.now_ms - stored.failed_ms) / 1000
        if not policy.retries(error) or policy.gives_up(stored.attempts, elapsed_s):
            self._exhausted(live, stored, error)
            return
        why = live.why_unkept()
        if why:
            what = "no second attempt"
            log_whole(what, error, stored.id, live.handler.target)
            self._too_large(live, f"{what} after {stored.reason[:1_000]}", why)
            return
        delay_s = policy.delay_after_s(error, stored.attempts)
        log_attempt(live, stored, error, delay_s)
        scope.epoch.count("retries", live.handler.target)
        self._back_off(live, stored, scope.now_ms + delay_s * 1000)

    def postponed(self, live: Live, error: Unavailable) -> None:
        """A topic that it writes to takes nothing for now: it waits for that, and its attempts do not count."""
        scope = self._scope
        drop_segment(live)
        if self.unkept(live, f"it cannot wait for {error.refusal.resource}"):
            return
        stored = live.endure()
        stored.reason = plain_text(error)
        due_ms = scope.now_ms + error.again_ms
        scope.targets.unavailable.waiting[stored.id] = live.shard.number
        self._back_off(live, stored, due_ms)

    def _back_off(self, live: Live, stored: Stored, due_ms: float) -> None:
        stored.status, stored.due_ms = "backing_off", int(due_ms)
        self._set_aside(live)
        timer = Timer("retry", created_ms=stored.created_ms)
        live.shard.set_timer(keys.timer(stored.due_ms, stored.id, keys.REF_RETRY), timer)

    def _exhausted(self, live: Live, stored: Stored, error: BaseException) -> None:
        what, first = f"gave up after {stored.attempts} attempts", stored.attempts == 1
        said = self._scope.disclosure.referred(what, error, stored.id, live.handler.target, trace=first)
        if live.handler.on_exhausted == "pause":
            self.paused(live, "exhausted", f"{what}: {stored.reason}")
        else:
            self.failed(live, Failure(500, said))

    def paused(self, live: Live, kind: str, reason: str) -> None:
        """It cannot go on without somebody's help; it keeps its key, and nothing else waits for it."""
        drop_segment(live)
        if self.unkept(live, f"not paused after {plain_text(reason)[:1_000]}"):
            return
        stored = live.endure()
        stored.status, stored.pause, stored.reason = "paused", kind, plain_text(reason)
        self._set_aside(live)
        self._mark_paused(live.shard, stored)

    def pause(self, shard: Shard, stored: Stored, kind: str, reason: str) -> None:
        """As `paused`, for one that never came to life."""
        stored.status, stored.pause, stored.reason = "paused", kind, plain_text(reason)
        shard.put(keys.invocation(stored.id), self._scope.sizes.entry(stored))
        self._mark_paused(shard, stored)

    def _mark_paused(self, shard: Shard, stored: Stored) -> None:
        shard.put(keys.paused(stored.id), SLOT.encode(Slot(stored.id)))
        self._scope.touch(shard)
        self._scope.epoch.count("paused", stored.target)
        way_out = "; start code that does what is recorded, then it goes on" if stored.pause == "divergence" else ""
        text = "%s %s is paused (%s): %s%s"
        logger.error(text, stored.target, stored.id, stored.pause, stored.reason, way_out, extra={"handler": stored.target})

    def _set_aside(self, live: Live) -> None:
        self._keeping.anchor(live)
        self._keeping.persist(live)
        self._keeping.flush(live)
        self._keeping.hold_back(live)
        self._keeping.forget(live)
        self._limits.ended(live)

    # --- begins later ---

    def queued(self, live: Live) -> None:
        """Its key is held: it waits at the end of the inbox, and is persisted there if it still does when the epoch closes."""
        if not self.unkept(live, "its key is held, and it cannot wait"):
            self._keeping.queue(live)

    def over_limit(self, live: Live) -> None:
        """As many of its handler as may are under way: it is persisted as a start that is due, and has its key meanwhile."""
        shard, stored = live.shard, live.endure()
        if self.unkept(live, "others of its handler are under way, and it cannot wait"):
            return
        stored.status = "scheduled"
        self._keeping.persist(live)
        self._keeping.hold_key(live)
        shard.put(keys.timer(0, live.id, keys.REF_START), TIMER.encode(Timer("start")))
        self._limits.queue(live)

    def barred(self, subscription: Subscription | None) -> Unavailable | None:
        """Why the dead letter of a record cannot be written now; None if it can, or there is none to write."""
        return self._rejection.barred(subscription) if subscription is not None else None


def _policy(live: Live) -> RetryPolicy:
    subscription = live.subscription
    if subscription is None:
        return live.handler.retry or CALLED
    return subscription.retry or live.handler.retry or FROM_RECORD


def drop_segment(live: Live) -> None:
    """Nothing since the last wait happened. What had come back by then stays recorded."""
    live.commands, live.writes, live.outputs, live.begun, live.size = [], {}, [], None, 0
    live.refusals = None


def log_attempt(live: Live, stored: Stored, error: BaseException, delay_s: float) -> None:
    """The traceback at the first failed attempt, a line at the others."""
    origin = live.origin
    where = f"{origin.topic}[{origin.partition}]@{origin.offset} {stored.id}" if origin else stored.id
    logger.warning(
        "%s (%s): attempt %d failed, again in %.2f s: %s", where, stored.target, stored.attempts, delay_s, whole(error),
        exc_info=error if stored.attempts == 1 else None, extra={"handler": stored.target},
    )  # fmt: skip
