"""How an attempt or an invocation ends: return, terminal failure, retry, pause; and what each leaves behind.

A bad record stops nobody (invariant 9): it goes where its subscription says, in the same transaction, and the next one runs.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from odradek import RetryPolicy, TerminalError
from odradek._port import Origin

from . import keys
from .clock import begun
from .dead_letter import dead_letter
from .disclosure import log_cause, log_whole, whole
from .formats import COMMAND, SLOT, Command, Slot, Timer
from .formats import Invocation as Stored
from .invocation import Live
from .request import Failure, Reply, plain_text
from .unavailable import Unavailable

if TYPE_CHECKING:
    from odradek._definition import Subscription

    from .machine import Machine
    from .shard import Shard

logger = logging.getLogger("odradek")

CALLED = RetryPolicy(initial=0.05, factor=2.0, max_delay=60.0)
FROM_RECORD = RetryPolicy(initial=0.05, factor=2.0, max_delay=60.0, max_duration=86_400.0)
UNAWAITED = {
    "ctx.run": "the step need not have run, and what came of it is lost; write `await`",
    "ctx.sleep": "nothing waited; write `await`",
    "ctx.call": "the call is made, and what comes of it is lost; write `await`, or ctx.send where that is meant",
}


class Ending:
    """Writes the end of invocations into the epoch."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._told: set[tuple[str, str]] = set()
        """Handlers, and what it was said of them that they do not await."""

    # --- ends ---

    def returned(self, live: Live, value: Any) -> None:
        if live.refused:
            self.refused(live)
            return
        if live.unwritten is not None:
            self.attempt_failed(live, live.unwritten)
            return
        if live.diverged:  # and the handler caught even that
            self.paused(live, "divergence", live.diverged)
            return
        if live.journal.replaying:
            entry = live.journal.commands[live.journal.cursor]
            reason = f"entry {entry.ref}: the journal has {entry.kind} {entry.name}, the code returned without having done it"
            self.paused(live, "divergence", reason)
            return
        try:
            result = live.handler.encode_result(value)
        except TerminalError as error:  # it says which field is wrong, and the way out
            log_cause(error, live.id, live.handler.target)
            self.failed(live, Failure(error.code, plain_text(error)))
            return
        except BaseException as error:  # noqa: BLE001  (whatever the serde raises, no retry mends it)
            target = live.handler.target
            what = f"{target}: its result cannot be encoded"
            self.failed(live, Failure(500, self._machine.disclosure.referred(what, error, live.id, target)))
            return
        over = self._machine.sizes.why_no_result(live.stored, result) if live.stored is not None else ""
        if over:
            self.failed(live, Failure(413, f"{live.handler.target}: its result {over}"))
            return
        if live.pending:
            self._unawaited(live)
        self._end(live, result, None)

    def failed(self, live: Live, failure: Failure) -> None:
        """A terminal end: what the handler did before it stays."""
        if live.subscription is not None:
            if live.subscription.on_error == "pause" and not live.closed and not self.why_unkept(live):
                self.paused(live, "bad_input", f"{failure.code} {failure.message}")
                return
            barred = self.barred(live.subscription)
            if barred is not None and not live.closed and not self.why_unkept(live):
                self.postponed(live, barred)
                return
            origin = live.origin
            assert origin is not None
            attempts = live.stored.attempts if live.stored else 0
            self.reject(live.subscription, origin, live.payload, failure, attempts, without=live.left_out)
        elif live.stored is not None and not live.stored.caller_id:
            # A client that waits is told, too, and a refusal that it has earned (4xx) is nothing to wake anybody for.
            level = logging.INFO if live.shard.waiters.get(live.id) and failure.code < 500 else logging.WARNING
            about = {"handler": live.handler.target}
            logger.log(level, "%s %s failed: %d %s", live.handler.target, live.id, failure.code, failure.message, extra=about)
        self._end(live, None, failure)

    rejected = failed

    def refused(self, live: Live) -> None:
        """It used what does not work in a handler. Nothing since its last wait happened: a dead letter may be read again."""
        drop_segment(live)
        self.failed(live, Failure(501, live.refused))

    def why_unkept(self, live: Live) -> str:
        """Why it cannot be kept for later, if it is not already. "" if it can."""
        self._machine.runner.endure(live)
        assert live.stored is not None
        return "" if live.anchored else self._machine.sizes.why_unkept(live.stored, live.base)

    def unkept(self, live: Live, said: str) -> bool:
        """Whether it had to be given up, because it would have to be kept for later and is too large for that."""
        why = self.why_unkept(live)
        if why:
            self._too_large(live, said, why)
        return bool(why)

    def _too_large(self, live: Live, said: str, why: str) -> None:
        self.failed(live, Failure(413, f"{said}: with what started it the entry {why}"))

    def barred(self, subscription: Subscription) -> Unavailable | None:
        """Why the topic for its dead letters takes none now; None if it does, or there is none."""
        if subscription.on_error != "dead_letter":
            return None
        machine = self._machine
        return machine.targets.barred(subscription.dead_letter or machine.dead_letters, machine.steady_ms)

    def reject(
        self,
        subscription: Subscription,
        origin: Origin,
        value: bytes | None,
        failure: Failure,
        attempts: int = 0,
        *,
        bare: bool = False,
        without: int | None = None,
    ) -> None:
        """The record goes where its subscription says: a dead-letter topic with the error in the headers, or nowhere.

        `bare`: with nothing of what it held but its key; `without`: the size of a value that it has lost already.
        """
        machine = self._machine
        where, target = f"{origin.topic}[{origin.partition}]@{origin.offset}", subscription.handler.target
        if subscription.on_error == "skip":
            machine.epoch.count("skipped", target)
            machine.replays.count(origin.replay, "left_out")
            logger.warning("%s skipped (%s): %s", where, target, failure.message, extra={"handler": target})
            return
        topic = subscription.dead_letter or machine.dead_letters
        machine.epoch.count("dead_letters", target)
        machine.replays.count(origin.replay, "dead_letters")
        if bare:
            origin, value, without = replace(origin, headers=()), None, len(value) if value is not None else None
        letter = dead_letter(topic, machine.app.name, target, origin, value, failure, attempts, without)
        machine.epoch.outputs.append(machine.sizes.letter(letter))
        logger.warning("%s -> %s (%s): %s", where, topic, target, failure.message, extra={"handler": target})

    def _unawaited(self, live: Live) -> None:
        """Say once for each handler what it began and did not wait for: nearly always a forgotten `await`."""
        target = live.handler.target
        for ref in live.pending:
            kind = "ctx.run" if ref in live.bodies else "ctx.sleep" if ref in live.timers else "ctx.call"
            if (target, kind) not in self._told:
                self._told.add((target, kind))
                logger.warning(
                    "%s (%s): it has returned and did not await %s(...): %s", live.id, target, kind, UNAWAITED[kind],
                    extra={"handler": target},
                )  # fmt: skip

    def _end(self, live: Live, result: bytes | None, failure: Failure | None) -> None:
        machine, shard = self._machine, live.shard
        stored = live.stored
        self._count_end(live, failure)
        if stored is not None:
            live.started, live.sleeps = [], []
            live.pending = {}
        machine.runner.merge(live)
        if stored is None:
            return
        self._clear_journal(live)
        self._report(shard, stored, result, failure)
        self._keep(live, stored, result, failure)
        machine.runner.forget(live)
        machine.targets.unavailable.ended(stored.id)
        machine.limits.ended(live)
        self.release(live)

    def _count_end(self, live: Live, failure: Failure | None) -> None:
        epoch, target = self._machine.epoch, live.handler.target
        again = live.again or (live.stored.replay if live.stored is not None else "")
        if failure is not None:
            epoch.count("failed", target)
        elif again:
            self._machine.replays.count(again, "ended_well")
        if live.stored is not None:
            epoch.lasted_s.append((target, max(self._machine.now_ms - live.stored.created_ms, 0.0) / 1000))

    def _clear_journal(self, live: Live) -> None:
        shard, epoch = live.shard, self._machine.epoch
        live.journal.unwritten = []
        if epoch.steps and live.timers:  # those that this epoch would have started have nobody left who waits for them
            unheard = [run for run in epoch.steps if run.id == live.id]
            epoch.steps = [run for run in epoch.steps if run.id != live.id]
            shard.running.difference_update((run.id, run.ref) for run in unheard)
        self._machine.epoch.journaled.pop(live.id, None)
        for key in live.journal.chunks:
            shard.put(key, None)
        for timer in (*live.timers.values(), *_timers_ahead(live)):
            if shard.read(timer) is not None:
                shard.put(timer, None)

    def _report(self, shard: Shard, stored: Stored, result: bytes | None, failure: Failure | None) -> None:
        """Tell whoever waits: the caller, those that attached, HTTP."""
        machine = self._machine
        if stored.caller_id:
            complete = completion(stored.caller_app, stored.caller_id, stored.caller_ref, result, failure)
            machine.route(complete, shard)
        if stored.id in shard.attached:
            shard.attached.discard(stored.id)
            for key, raw in list(shard.scan_prefix(keys.attached(stored.id))):
                waiting = COMMAND.decode(raw)
                machine.route(completion(waiting.name, waiting.id, waiting.ref, result, failure), shard)
                shard.put(key, None)
        for answer in shard.waiters.pop(stored.id, ()):
            machine.epoch.replies.append((answer, reply_of(stored.id, result, failure)))
            machine.epoch.urgent = True
        machine.touch(shard)

    def _keep(self, live: Live, stored: Stored, result: bytes | None, failure: Failure | None) -> None:
        """Its completion stays for as long as somebody may ask for it."""
        shard, key = live.shard, keys.invocation(stored.id)
        if not stored.retain_ms:
            if live.anchored or shard.read(key) is not None:
                shard.put(key, None)
            return
        stored.status = "completed" if failure is None else "failed"
        stored.result, stored.failure = result, failure
        stored.payload, stored.headers = None, []
        shard.put(key, self._machine.sizes.entry(stored))
        due_ms = int(self._machine.now_ms) + stored.retain_ms
        shard.set_timer(keys.timer(due_ms, stored.id, keys.REF_PURGE), Timer("purge"))

    def release(self, live: Live) -> None:
        """The key is free for the next in its inbox."""
        if live.handler.mode != "exclusive":
            return
        lock_key = keys.lock(live.base)
        lock = live.shard.locks.get(lock_key)
        if lock is not None and lock.holder == live.id:
            following = live.shard.pass_on(lock_key)
            if following is not None:
                self._machine.ready.append((live.shard, following))
            self._machine.touch(live.shard)

    # --- goes on later ---

    def attempt_failed(self, live: Live, error: BaseException) -> None:
        """Drop what was done since the last wait, and try again from there after a while (invariant 5)."""
        if isinstance(error, Unavailable):
            self.postponed(live, error)
            return
        machine = self._machine
        drop_segment(live)
        machine.runner.endure(live)
        stored = live.stored
        assert stored is not None
        stored.attempts += 1
        machine.look_at_clock()  # its delay begins now, not when the turn began: an attempt may take long
        stored.failed_ms = begun(stored.failed_ms, machine.now_ms)
        stored.reason = machine.disclosure.of(error)
        policy = _policy(live)
        elapsed_s = (machine.now_ms - stored.failed_ms) / 1000
        if not policy.retries(error) or policy.gives_up(stored.attempts, elapsed_s):
            self._exhausted(live, stored, error)
            return
        why = self.why_unkept(live)
        if why:
            what = "no second attempt"
            log_whole(what, error, stored.id, live.handler.target)
            self._too_large(live, f"{what} after {stored.reason[:1_000]}", why)
            return
        delay_s = policy.delay_after_s(error, stored.attempts)
        log_attempt(live, stored, error, delay_s)
        machine.epoch.count("retries", live.handler.target)
        self._back_off(live, stored, machine.now_ms + delay_s * 1000)

    def postponed(self, live: Live, error: Unavailable) -> None:
        """A topic that it writes to takes nothing for now: it waits for that, and its attempts do not count."""
        machine = self._machine
        drop_segment(live)
        if self.unkept(live, f"it cannot wait for {error.refusal.resource}"):
            return
        stored = live.stored
        assert stored is not None
        stored.reason = plain_text(error)
        due_ms = machine.now_ms + error.again_ms
        machine.targets.unavailable.waiting[stored.id] = live.shard.number
        self._back_off(live, stored, due_ms)

    def _back_off(self, live: Live, stored: Stored, due_ms: float) -> None:
        stored.status = "backing_off"
        self._set_aside(live)
        timer = Timer("retry", created_ms=stored.created_ms)
        live.shard.set_timer(keys.timer(int(due_ms), stored.id, keys.REF_RETRY), timer)

    def _exhausted(self, live: Live, stored: Stored, error: BaseException) -> None:
        what, first = f"gave up after {stored.attempts} attempts", stored.attempts == 1
        said = self._machine.disclosure.referred(what, error, stored.id, live.handler.target, trace=first)
        if live.handler.on_exhausted == "pause":
            self.paused(live, "exhausted", f"{what}: {stored.reason}")
        else:
            self.failed(live, Failure(500, said))

    def paused(self, live: Live, kind: str, reason: str) -> None:
        """It cannot go on without somebody's help; it keeps its key, and nothing else waits for it."""
        drop_segment(live)
        if self.unkept(live, f"not paused after {plain_text(reason)[:1_000]}"):
            return
        self._machine.runner.endure(live)
        assert live.stored is not None
        live.stored.status, live.stored.pause, live.stored.reason = "paused", kind, plain_text(reason)
        self._set_aside(live)
        self._mark_paused(live.shard, live.stored)

    def pause(self, shard: Shard, stored: Stored, kind: str, reason: str) -> None:
        """As `paused`, for one that never came to life."""
        stored.status, stored.pause, stored.reason = "paused", kind, plain_text(reason)
        shard.put(keys.invocation(stored.id), self._machine.sizes.entry(stored))
        self._mark_paused(shard, stored)

    def _mark_paused(self, shard: Shard, stored: Stored) -> None:
        shard.put(keys.paused(stored.id), SLOT.encode(Slot(stored.id)))
        self._machine.touch(shard)
        self._machine.epoch.count("paused", stored.target)
        way_out = "; start code that does what is recorded, then it goes on" if stored.pause == "divergence" else ""
        text = "%s %s is paused (%s): %s%s"
        logger.error(text, stored.target, stored.id, stored.pause, stored.reason, way_out, extra={"handler": stored.target})

    def _set_aside(self, live: Live) -> None:
        runner = self._machine.runner
        runner.anchor(live)
        runner.persist(live)
        runner.flush(live)
        self._machine.epoch.journaled.pop(live.id, None)
        runner.forget(live)
        self._machine.limits.ended(live)


def _policy(live: Live) -> RetryPolicy:
    subscription = live.subscription
    if subscription is None:
        return live.handler.retry or CALLED
    return subscription.retry or live.handler.retry or FROM_RECORD


def _timers_ahead(live: Live) -> list[bytes]:
    """Timers of what it has not replayed: it ended before it came to them."""
    ahead = live.journal.commands[live.journal.cursor :]
    return [keys.timer(int(entry.at_ms) if entry.kind == "sleep" else 0, live.id, entry.ref) for entry in ahead]


def drop_segment(live: Live) -> None:
    """Nothing since the last wait happened. What had come back by then stays recorded."""
    live.commands, live.writes, live.outputs, live.sends, live.size = [], {}, [], None, 0
    if live.stored is not None:
        live.started, live.sleeps = [], []
    live.refusals = None


def log_attempt(live: Live, stored: Stored, error: BaseException, delay_s: float) -> None:
    """The traceback at the first failed attempt, a line at the others."""
    origin = live.origin
    where = f"{origin.topic}[{origin.partition}]@{origin.offset} {stored.id}" if origin else stored.id
    logger.warning(
        "%s (%s): attempt %d failed, again in %.2f s: %s", where, stored.target, stored.attempts, delay_s, whole(error),
        exc_info=error if stored.attempts == 1 else None, extra={"handler": stored.target},
    )  # fmt: skip


def completion(app: str, id_: str, ref: int, result: bytes | None, failure: Failure | None) -> Command:
    """The command that brings a result to the invocation that waits for it; `name` is the app it goes to."""
    return Command(kind="complete", id=id_, ref=ref, payload=result, failure=failure, name=app)


def reply_of(id_: str, result: bytes | None, failure: Failure | None) -> Reply:
    """What HTTP is told of an end."""
    if failure is not None:
        return Reply("failed", id_, failure=failure)
    return Reply("completed", id_, value=result or b"")
