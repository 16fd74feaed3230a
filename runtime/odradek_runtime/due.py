"""What is due: what happens when a timer's time has come, or a step has run.

Every unfinished invocation has something here that brings it back: a sleep, a retry, a delayed start, or a step, which is a timer
that is due already, so that a crash runs it again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import islice

from odradek import RetryPolicy, TerminalError

from . import keys
from .advance import Advance
from .clock import begun
from .disclosure import log_cause, whole
from .epoch import StepRun
from .failing import Failing
from .formats import ENDED, TIMER, UNBEGUN, Entry, Timer
from .formats import Invocation as Stored
from .invocation import Live
from .keeping import Keeping
from .limits import Limits
from .living import Living
from .request import Failure, failure_of
from .revival import Revival
from .scope import Scope
from .shard import Shard
from .starts import Starts

logger = logging.getLogger("odradek")

STEP = RetryPolicy()
"""How a step without a policy is repeated: for ever."""


_UNENDED = ("running", "backing_off", "paused")
_MEETS: Mapping[str, tuple[str, ...]] = {
    "step": _UNENDED, "retry": _UNENDED, "timeout": _UNENDED, "start": UNBEGUN, "purge": ENDED,
}  # fmt: skip
"""In which status a timer may find its invocation: for another one it has come too late, or is nobody's."""


class Due:
    """Timers and step results of one machine's shards."""

    def __init__(
        self,
        scope: Scope,
        living: Living,
        keeping: Keeping,
        limits: Limits,
        failing: Failing,
        revival: Revival,
        advance: Advance,
        starts: Starts,
    ) -> None:
        self._scope = scope
        self._living = living
        self._keeping = keeping
        self._limits = limits
        self._failing = failing
        self._revival = revival
        self._advance = advance
        self._starts = starts

    def timer(self, shard: Shard, key: bytes) -> None:
        """A timer is due. Does nothing when it has been cancelled or fired."""
        raw = shard.read(key)
        if raw is None:
            return
        self._scope.touch(shard)
        due_ms, id_, ref = keys.split_timer(key)
        timer = TIMER.decode(raw)
        if timer.kind == "sleep":
            shard.put(key, None)
            self._advance.complete(shard, id_, Entry("completion", ref))
            return
        stored = self._owner(shard, id_, timer)
        over = stored is None or stored.status not in _MEETS[timer.kind]
        if timer.kind != "step" or due_ms > 0 or over:
            shard.put(key, None)
        if stored is None or over:
            return
        if timer.kind == "step":
            shard.put(keys.timer(0, id_, ref), raw)  # due until its result is there, also if its invocation is set aside now
        match timer.kind:
            case "step":
                if stored.status not in ("paused", "backing_off"):
                    self._rerun_step(shard, stored, ref, timer)
            case "retry":
                self.retry(shard, stored)
            case "start":
                if self._limits.waits(shard, id_):
                    shard.put(key, raw)
                    return
                shard.put(keys.invocation(id_), None)  # written again if it has to wait
                self._starts.admit(shard, stored)
            case "purge":
                shard.put(keys.invocation(id_), None)
            case _:
                self._timed_out(shard, stored)

    def _owner(self, shard: Shard, id_: str, timer: Timer) -> Stored | None:
        """The invocation that a timer belongs to. It may have ended, and its id be another's by now."""
        stored = self._living.stored(shard, id_)
        return stored if stored is not None and timer.created_ms in (0, stored.created_ms) else None

    def retry(self, shard: Shard, stored: Stored) -> None:
        """Another attempt: replay what is recorded, then go on."""
        self._scope.targets.unavailable.ended(stored.id)
        stored.status, stored.pause = "running", ""
        shard.put(keys.invocation(stored.id), self._scope.sizes.entry(stored))
        shard.put(keys.paused(stored.id), None)
        self._scope.touch(shard)
        if self._key_is_anothers(shard, stored):
            self._starts.admit(shard, stored)
            return
        live = self._advance.replay(shard, stored)
        if live is not None:
            self._rerun_steps(live, stored)

    def _rerun_steps(self, live: Live, stored: Stored) -> None:
        """Steps whose time came while the invocation was set aside."""
        shard = live.shard
        for ref in list(live.bodies):
            raw = shard.read(keys.timer(0, live.id, ref))
            if raw is not None and (live.id, ref) not in shard.running:
                self._rerun_step(shard, stored, ref, TIMER.decode(raw))

    def _rerun_step(self, shard: Shard, stored: Stored, ref: int, timer: Timer) -> None:
        """A step's time has come (again): after a failed attempt, or because its worker died before it ended."""
        live = self._advance.replay(shard, stored)
        if live is None or live.closed or (stored.id, ref) in shard.running:
            return
        if ref in live.bodies and ref in live.pending:
            self._keeping.start_step(live, ref, timer.attempt, timer.first_ms)
        else:
            shard.put(keys.timer(0, stored.id, ref), None)
            self._scope.touch(shard)

    def _key_is_anothers(self, shard: Shard, stored: Stored) -> bool:
        """It was paused before it could queue for its key, since the app had lost its handler."""
        handler = self._scope.handlers.get(stored.target)
        if handler is None or handler.mode != "exclusive":
            return False
        lock = shard.locks.get(keys.lock(self._scope.bases[handler.service] + keys.escape(stored.key)))
        return lock is not None and lock.holder != stored.id

    def retry_paused(self, shard: Shard, start: bytes, most: int) -> bytes | None:
        """What was paused because of the code is tried on the code of today; gives where to go on, if there may be more."""
        found = list(islice(shard.scan(start, b"{"), most))
        for key, _ in found:
            stored = self._living.stored(shard, key[1:].decode())
            again = stored is not None and stored.pause in ("missing", "divergence")
            if again and stored is not None and stored.target in self._scope.handlers:
                self.retry(shard, stored)
        return found[-1][0] + b"\0" if len(found) == most else None

    def _timed_out(self, shard: Shard, stored: Stored) -> None:
        live = self._living.find(shard, stored.id) or self._revival.rebuild(shard, stored)
        if live is None:
            return
        barred = self._failing.barred(live.subscription)
        if barred is not None:  # its dead letter has to wait, and so does its end: until then it goes on as it was
            due_ms = int(self._scope.now_ms + barred.again_ms)
            again = live.timers[keys.REF_TIMEOUT] = keys.timer(due_ms, stored.id, keys.REF_TIMEOUT)
            shard.set_timer(again, Timer("timeout", created_ms=stored.created_ms))
            return
        self._failing.failed(live, Failure(504, f"{stored.target} took longer than its timeout"))

    def step_done(self, shard: Shard, run: StepRun, value: bytes | None, error: BaseException | None) -> None:
        """A step ran. Its result is recorded, and its handler sees it at once: what it does then shares this epoch's fate."""
        self._scope.touch(shard)
        shard.running.discard((run.id, run.ref))
        stored = self._living.stored(shard, run.id)
        if stored is None or stored.created_ms != run.created_ms:  # its invocation has ended; this may be another one
            return
        if error is None:
            self._scope.epoch.results += 1
            self._advance.complete(shard, run.id, self._recorded(run, value or b""))
            return
        policy = run.body.retry or STEP
        attempt = run.attempt + 1
        run.first_ms = begun(run.first_ms, self._scope.now_ms)
        if isinstance(error, TerminalError):
            log_cause(error, run.id, stored.target)
            failure = failure_of(error)
        elif not policy.retries(error) or policy.gives_up(attempt, (self._scope.now_ms - run.first_ms) / 1000):
            what = f"step {run.body.name} failed after {attempt} attempt(s)"
            said = self._scope.disclosure.referred(what, error, run.id, stored.target, trace=attempt == 1)
            failure = Failure(500, said)
        else:
            self._again(shard, stored.target, run, error, attempt, policy)
            return
        self._scope.epoch.results += 1
        self._advance.complete(shard, run.id, Entry("completion", run.ref, failure=failure))

    def _recorded(self, run: StepRun, value: bytes) -> Entry:
        limit, what = self._scope.max_record_bytes, f"the result of step {run.body.name}"
        if len(value) <= limit:
            return self._scope.sizes.completion(what, Entry("completion", run.ref, value=value))
        why = f"{what} takes {len(value)} bytes, over the limit of max_record_bytes, {limit} bytes"
        return Entry("completion", run.ref, failure=Failure(413, why))

    def _again(self, shard: Shard, target: str, run: StepRun, error: BaseException, attempt: int, policy: RetryPolicy) -> None:
        first = keys.timer(0, run.id, run.ref)
        if shard.read(first) is None:
            return
        delay_s = policy.delay_after_s(error, attempt)
        self._scope.epoch.count("step_retries", target)
        logger.warning(
            "step %s of %s (%s): attempt %d failed, again in %.2f s: %s", run.body.name, run.id, target, attempt, delay_s,
            whole(error), exc_info=error if attempt == 1 else None, extra={"handler": target},
        )  # fmt: skip
        shard.put(first, None)
        again = keys.timer(int(self._scope.now_ms + delay_s * 1000), run.id, run.ref)
        shard.set_timer(again, Timer("step", attempt, run.first_ms, run.created_ms))
        live = self._living.find(shard, run.id)
        if live is not None and run.ref in live.timers:
            live.timers[run.ref] = again
