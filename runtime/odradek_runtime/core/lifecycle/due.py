"""What is due: what happens when a timer's time has come, or a step has run.

Stands between the agenda, which finds both in fair shares, and the parts of an invocation's life. Every unfinished invocation has
something here that brings it back: a sleep, a retry, a delayed start, or a step, which is a timer that is due already, so that a
crash runs it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from odradek_runtime.core.epoch import StepRun
from odradek_runtime.core.operations.step import judged
from odradek_runtime.core.operations.table import KINDS
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import BEGUN, ENDED, TIMER, UNBEGUN, Entry, Stored, Timer
from odradek_runtime.core.records.request import Failure
from odradek_runtime.core.running.invocation import Live
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import Shard

from .advance import Advance
from .failing import Failing
from .keeping import Keeping
from .limits import Limits
from .living import Living
from .retention import Retention
from .revival import Revival
from .starts import Starts

_MEETS: Mapping[str, tuple[str, ...]] = {
    "retry": BEGUN, "timeout": BEGUN, "start": UNBEGUN, "purge": ENDED,
}  # fmt: skip
"""In which status a timer of an invocation's life may find it: for another one it has come too late, or is nobody's."""


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
        retention: Retention,
    ) -> None:
        self._scope = scope
        self._living = living
        self._keeping = keeping
        self._limits = limits
        self._failing = failing
        self._revival = revival
        self._advance = advance
        self._starts = starts
        self._retention = retention

    # --- timers ---

    def timer(self, shard: Shard, key: bytes) -> None:
        """A timer is due. Does nothing when it has been cancelled or fired."""
        raw = shard.read(key)
        if raw is None:
            return
        self._scope.touch(shard)
        _, id_, _ = keys.split_timer(key)
        timer = TIMER.decode(raw)
        kind = KINDS.get(timer.kind)
        if kind is not None:
            kind.due(_Fired(self, shard, key, raw, timer))
            return
        shard.put(key, None)
        stored = self.owner(shard, id_, timer)
        if stored is not None and stored.status in _MEETS[timer.kind]:
            self._of_life(shard, stored, timer.kind, key, raw)

    def owner(self, shard: Shard, id_: str, timer: Timer) -> Stored | None:
        """The invocation that a timer belongs to. It may have ended, and its id be another's by now."""
        stored = self._living.stored(shard, id_)
        return stored if stored is not None and timer.created_ms in (0, stored.created_ms) else None

    def _of_life(self, shard: Shard, stored: Stored, kind: str, key: bytes, raw: bytes) -> None:
        """One that belongs to an invocation, not to an operation of it."""
        match kind:
            case "retry":
                self.retry(shard, stored)
            case "start":
                if self._limits.waits(shard, stored.id):
                    shard.put(key, raw)
                    return
                shard.put(keys.invocation(stored.id), None)  # written again if it has to wait
                stored.due_ms = 0
                self._starts.admit(shard, stored)
            case "purge":
                self._retention.purge(shard, stored)
            case _:
                self._timed_out(shard, stored)

    def retry(self, shard: Shard, stored: Stored) -> None:
        """Another attempt: replay what is recorded, then go on."""
        self._scope.targets.unavailable.ended(stored.id)
        stored.status, stored.pause, stored.due_ms = "running", "", 0
        shard.put(keys.invocation(stored.id), self._scope.sizes.entry(stored))
        shard.put(keys.paused(stored.id), None)
        self._scope.touch(shard)
        if self._key_is_anothers(shard, stored):
            self._starts.admit(shard, stored)
            return
        live = self._advance.replay(shard, stored)
        for op in list(live.ops.values()) if live is not None else ():  # their time may have come while it was set aside
            raw = shard.read(op.timer) if op.timer is not None else None
            if op.timer is not None and raw is not None and not keys.split_timer(op.timer)[0]:
                op.kind.due(_Fired(self, shard, op.timer, raw, TIMER.decode(raw)))

    def _key_is_anothers(self, shard: Shard, stored: Stored) -> bool:
        """It was paused before it could queue for its key, since the app had lost its handler."""
        handler = self._scope.handlers.get(stored.target)
        if handler is None or handler.mode != "exclusive":
            return False
        held = shard.locks.held.get(self._scope.base(handler.service, stored.key))
        return held is not None and held.holder != stored.id

    def retry_paused(self, shard: Shard, start: bytes, most: int) -> bytes | None:
        """What was paused because of the code is tried on the code of today; gives where to go on, if there may be more."""
        found = list(islice(shard.scan(start, b"{"), most))
        for key, _ in found:
            stored = self._living.stored(shard, key[1:].decode())
            again = stored is not None and stored.pause in ("missing", "divergence", "journal")
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
            live.deadline = keys.timer(due_ms, stored.id, keys.REF_TIMEOUT)
            shard.set_timer(live.deadline, Timer("timeout", created_ms=stored.created_ms))
            return
        self._failing.failed(live, Failure(504, f"{stored.target} took longer than its timeout"))

    # --- steps ---

    def step_done(self, shard: Shard, run: StepRun, value: bytes | None, error: BaseException | None) -> None:
        """A step ran. Its result is recorded, and its handler sees it at once: what it does then shares this epoch's fate."""
        self._scope.touch(shard)
        owner = run.owner
        assert isinstance(owner, Live), "whose step it is"
        created_ms = owner.created_ms
        if owner.anchored:
            running = shard.running.get((owner.id, run.ref))
            if running is None or running.run is not run:  # nobody waits for it, or for another run by now
                return
            del shard.running[owner.id, run.ref]
            created_ms = running.created_ms
        if not self._waits(shard, owner, created_ms):
            return
        result = judged(run, value, error, self._scope, owner.handler.target)
        if not isinstance(result, Entry):
            self._later(shard, owner, run, result, created_ms)
            return
        self._scope.epoch.results += 1
        if owner.closed:
            self._advance.complete(shard, owner.id, result)
        else:
            self._advance.go_on(owner, result)

    def _waits(self, shard: Shard, owner: Live, created_ms: int) -> bool:
        """Whether a step's invocation is still there: as a coroutine, or without one in the store, and not another of that id."""
        if not owner.closed:
            return True
        stored = self._living.stored(shard, owner.id) if owner.anchored else None
        return stored is not None and stored.created_ms == created_ms

    def _later(self, shard: Shard, owner: Live, run: StepRun, delay_s: float, created_ms: int) -> None:
        """It runs again after a while: a timer says when, and stands in the journal with its invocation."""
        if owner.anchored:
            first = keys.timer(0, owner.id, run.ref)
            if shard.read(first) is None:
                return
            shard.put(first, None)
        self._scope.epoch.count("step_retries", owner.handler.target)
        live = self._living.find(shard, owner.id) if owner.closed else owner
        op = live.ops.get(run.ref) if live is not None else None
        if op is not None:
            op.run = None
        if live is not None:
            self._keeping.anchor(live)
        again = keys.timer(int(self._scope.now_ms + delay_s * 1000), owner.id, run.ref)
        shard.set_timer(again, Timer("step", run.attempt + 1, run.first_ms, created_ms or owner.created_ms))
        if op is not None:
            op.timer = again

    def settle(self, shard: Shard, id_: str, ref: int) -> None:
        """An operation has ended, with no value."""
        self._advance.complete(shard, id_, Entry("completion", ref))

    def again(self, shard: Shard, stored: Stored, ref: int, timer: Timer) -> None:
        """Begin an operation anew: after a failed attempt, or because its worker died before it ended."""
        live = self._advance.replay(shard, stored)
        if live is None or live.closed or (stored.id, ref) in shard.running:
            return
        op = live.ops.get(ref)
        if op is not None and op.kind.name == timer.kind:
            self._keeping.start_step(live, op, timer.attempt, timer.first_ms)
        else:  # it has ended, or somebody else has written that timer
            shard.put(keys.timer(0, stored.id, ref), None)
            self._scope.touch(shard)


class _Fired:
    """A timer of an operation whose time has come (`operations.kind.Fired`)."""

    __slots__ = ("_due", "_id", "_key", "_raw", "_shard", "_stored", "at_once", "ref", "timer")

    def __init__(self, due: Due, shard: Shard, key: bytes, raw: bytes, timer: Timer) -> None:
        due_ms, self._id, self.ref = keys.split_timer(key)
        self.timer = timer
        self.at_once = not due_ms
        self._due = due
        self._shard = shard
        self._key = key
        self._raw = raw
        self._stored: Stored | None = None

    @property
    def status(self) -> str:
        """Looked up by those that ask: a sleep does not, and a million of them may be due."""
        self._stored = self._due.owner(self._shard, self._id, self.timer)
        return self._stored.status if self._stored is not None else ""

    def drop(self) -> None:
        self._shard.put(self._key, None)

    def keep(self) -> None:
        self._shard.put(keys.timer(0, self._id, self.ref), self._raw)

    def settle(self) -> None:
        self._due.settle(self._shard, self._id, self.ref)

    def again(self) -> None:
        assert self._stored is not None, "it was asked for its status"
        self._due.again(self._shard, self._stored, self.ref, self.timer)
