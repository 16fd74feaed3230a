"""The runner drives live invocations: start, segment, wait, completion. How they end is `ending`'s.

What a handler does between two waits is merged into the epoch here (invariant 5); the lane does it in its own loop for what never
waits. What has lost its coroutine comes back by `revival`.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from odradek import TerminalError
from odradek._bad_input import BadInput
from odradek._context import let_ask
from odradek._current import CURRENT
from odradek._errors import Refused
from odradek._future import Future
from odradek._port import Origin

from . import keys
from .coroutine_cache import CoroutineCache, data_bytes
from .disclosure import log_cause
from .epoch import StepRun
from .formats import ENDED, TIMER, UNBEGUN, Entry, Header, Timer
from .formats import Invocation as Stored
from .invocation import Live
from .journal import Diverged
from .refusal import awaiting, called_amiss, of_another_loop, refusal
from .request import Failure, failure_of
from .shard import StoreLost
from .waiting import close, waiting

if TYPE_CHECKING:
    from odradek._context import Context

    from .machine import Machine
    from .shard import Shard

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_ENDED = object()


class Runner:
    """Drives coroutines for the machine; those that wait are kept in its cache."""

    def __init__(self, machine: Machine, cache: CoroutineCache) -> None:
        self._machine = machine
        self.cache = cache

    # --- starting ---

    def start_record(self, live: Live, value: Any) -> None:
        """Run an invocation that a record started, from its decoded value: the fast path. Ends here unless it has to wait."""
        subscription = live.subscription
        assert subscription is not None, "a record comes through a subscription"
        context, coroutine = subscription.start_decoded(live, value)
        CURRENT.set(context)
        try:
            waits_for = coroutine.send(None)
        except StopIteration as stop:
            value = stop.value
        except BaseException as error:  # noqa: BLE001  (whatever a handler raises decides its end, invariant 9)
            self.raised_at_once(live, context, coroutine, error)
            return
        else:
            self.waits_at_once(live, context, coroutine, waits_for)
            return
        self.returned_at_once(live, context, coroutine, value)  # outside: what it raises would show the value as its context

    def returned_at_once(self, live: Live, context: Context, coroutine: Coroutine[Any, Any, Any], value: Any) -> None:
        """It ended without a wait: most do."""
        if live.stored is None and not live.refused and live.unwritten is None:
            self.merge(live)  # without live.context: the two would hold each other, for the cycle collector to find
            if live.again:
                self._machine.replays.count(live.again, "ended_well")
            return
        live.context, live.coroutine = context, coroutine
        self._machine.ending.returned(live, value)

    def raised_at_once(
        self, live: Live, context: Context, coroutine: Coroutine[Any, Any, Any], error: BaseException
    ) -> None:
        """It raised before it waited for anything."""
        live.context, live.coroutine = context, coroutine
        self._raised(live, error)

    def waits_at_once(self, live: Live, context: Context, coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> None:
        """Its first wait: it becomes an invocation that may outlive its epoch."""
        live.context, live.coroutine = context, coroutine
        self.endure(live)
        self._run_on(live, waits_for or _BARE_YIELD)

    def start(self, live: Live) -> None:
        """Run an invocation that has (or will have) an entry in the journal, from its bytes: a call, or a replay."""
        if self._machine.poison and self._machine.poisoned(live):
            return
        try:
            if live.subscription is not None:
                live.context, live.coroutine = live.subscription.start(live, live.payload)
            else:
                live.context, live.coroutine = live.handler.start(live, live.payload or b"")
        except BadInput as error:
            said = self._machine.disclosure.bad_input(error, live.id, live.handler.target)
            failure = Failure(400, said, {"field": error.field})
            self._machine.ending.rejected(live, failure)
            return
        self._run_on(live, None)

    def endure(self, live: Live) -> None:
        """It has something to wait for: give it the entry that the journal topic will hold if it does not end in this epoch."""
        if live.stored is None:
            origin = live.origin
            assert origin is not None, "a call has its entry from the start"
            live.endure(stored_record(live, origin, self._machine.now_ms))

    def anchor(self, live: Live) -> None:
        """It outlives this epoch: write its entry, and let it hold the key of its object."""
        self.endure(live)
        if live.anchored:
            return
        live.anchored = True
        live.shard.live[live.id] = live
        self._machine.limits.began(live)
        self.persist(live)
        if live.handler.mode == "exclusive":
            lock_key = keys.lock(live.base)
            if lock_key not in live.shard.locks:
                live.shard.hold(lock_key, live.id)
        if live.handler.timeout_s is not None and live.stored is not None:
            due_ms = int(self._machine.now_ms + live.handler.timeout_s * 1000)
            timer = live.timers[keys.REF_TIMEOUT] = keys.timer(due_ms, live.id, keys.REF_TIMEOUT)
            live.shard.set_timer(timer, Timer("timeout", created_ms=live.stored.created_ms))

    def persist(self, live: Live) -> None:
        assert live.stored is not None
        live.shard.put(keys.invocation(live.id), self._machine.sizes.entry(live.stored))
        self._machine.touch(live.shard)

    # --- running ---

    def _run_on(self, live: Live, waits_for: Any) -> None:
        """Go on until it ends or waits for something that has not happened yet."""
        while True:
            if waits_for is not None and (live.refused or not self._acceptable(waits_for)):
                self._refuse(live, waits_for)
                return
            if waits_for is not None and live.unwritten is not None:
                self._machine.ending.attempt_failed(live, live.unwritten)
                return
            if waits_for is None or waits_for.done():
                waits_for = self._drive(live)
            elif not self._next_completion(live):
                live.waits_for = waits_for
                self._suspend(live)
                return
            if waits_for is _ENDED:
                return

    def _acceptable(self, waits_for: Any) -> bool:
        return isinstance(waits_for, Future) and waits_for.get_loop() is self._machine.loop

    def _refuse(self, live: Live, waits_for: Any) -> None:
        """It waits for what does not outlive a crash, or goes on though it was told so."""
        what = "asyncio" if waits_for is _BARE_YIELD else f"await of a {type(waits_for).__name__}"
        live.refused = live.refused or refusal(awaiting(live.coroutine), what)
        self._machine.ending.refused(live)

    def _drive(self, live: Live) -> Any:
        """Resume the coroutine; gives what it waits for now, or _ENDED."""
        coroutine = live.coroutine
        assert coroutine is not None
        let_ask(live.context, live)
        CURRENT.set(live.context)
        try:
            return coroutine.send(None) or _BARE_YIELD
        except StopIteration as stop:
            value = stop.value
        except BaseException as error:  # noqa: BLE001  (whatever a handler raises decides its end, invariant 9)
            self._raised(live, error)
            return _ENDED
        self._machine.ending.returned(live, value)  # outside: what it raises would show the value as its context
        return _ENDED

    def _raised(self, live: Live, error: BaseException) -> None:
        if live.shard.store_error is not None:  # whatever the handler has made of it
            raise StoreLost(str(live.shard.store_error)) from error
        ending = self._machine.ending
        live.refused = live.refused or (str(error) if isinstance(error, Refused) else of_another_loop(error))
        error = called_amiss(error) or error
        if live.refused:
            ending.refused(live)
        elif live.unwritten is not None:
            ending.attempt_failed(live, live.unwritten)
        elif live.diverged or isinstance(error, Diverged):
            ending.paused(live, "divergence", live.diverged or str(error))
        elif isinstance(error, TerminalError):
            log_cause(error, live.id, live.handler.target)
            ending.failed(live, failure_of(error))
        else:
            ending.attempt_failed(live, error)

    def _next_completion(self, live: Live) -> bool:
        """Deliver the next completion, if there is one."""
        journal = live.journal
        if journal.delivered == len(journal.completions):
            return False
        entry = journal.completions[journal.delivered]
        journal.delivered += 1
        future = live.pending.pop(entry.ref, None)
        timer = live.timers.pop(entry.ref, None)
        if timer is not None and live.shard.read(timer) is not None:
            live.shard.put(timer, None)
            self._machine.touch(live.shard)
        live.bodies.pop(entry.ref, None)
        decode = live.decoders.pop(entry.ref, None)
        if future is not None and decode is not None and not future.done():
            self._complete(live, future, decode, entry)
        return True

    def _complete(self, live: Live, future: Future[Any], decode: Any, entry: Entry) -> None:
        if entry.failure is not None:
            failure = entry.failure
            self._fail(live, future, TerminalError(failure.message, code=failure.code, metadata=failure.metadata))
            return
        try:
            future.set_result(decode(entry.value or b""))
        except BaseException as error:  # noqa: BLE001  (a recorded result that today's type refuses is the awaiting code's to see)
            self._fail(live, future, TerminalError(self._unfit(live, error), code=500))

    def _unfit(self, live: Live, error: BaseException) -> str:
        what, disclosure = "the recorded result does not fit its type", self._machine.disclosure
        if isinstance(error, BadInput):
            return f"{what}: {disclosure.bad_input(error, live.id, live.handler.target)}"
        return disclosure.referred(what, error, live.id, live.handler.target)

    def _fail(self, live: Live, future: Future[Any], error: TerminalError) -> None:
        live.raised += (error,)
        future.set_exception(error)

    # --- segments ---

    def merge(self, live: Live) -> None:
        """The segment becomes part of the epoch."""
        epoch = self._machine.epoch
        if self._machine.splitting:
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
                self._machine.route(command, live.shard)

    def _merge_journal(self, live: Live) -> None:
        live.journal.add_commands(live.commands, live.refusals)
        live.commands, live.writes, live.outputs, live.refusals = [], {}, [], None
        epoch = self._machine.epoch
        for ref in live.sleeps:
            live.shard.set_timer(live.timers[ref], Timer("sleep"))
        live.sleeps = []
        for ref in live.started:
            self.start_step(live, ref, beside=len(live.started))
        live.started = []
        if live.journal.unwritten:
            epoch.journaled[live.id] = live
        self._machine.touch(live.shard)

    def start_step(self, live: Live, ref: int, attempt: int = 0, first_ms: int = 0, *, beside: int = 1) -> None:
        """Run a step once this epoch is durable. Until its result is delivered it is a timer that is due: a crash runs it again.

        `beside`: how many steps of this invocation begin now; what it holds in memory is reckoned in equal parts to each.
        """
        first_ms = first_ms or int(self._machine.now_ms)
        timer = live.timers[ref] = keys.timer(0, live.id, ref)
        created_ms = live.stored.created_ms if live.stored is not None else 0
        live.shard.put(timer, TIMER.encode(Timer("step", attempt, first_ms, created_ms)))
        epoch = self._machine.epoch
        epoch.urgent = True
        key = f"{live.id}-{ref}"
        body = live.bodies[ref]
        live.shard.running.add((live.id, ref))
        shard = live.shard
        held = data_bytes(live) // beside
        run = StepRun(shard.number, shard.incarnation, live.id, ref, body, key, attempt, first_ms, created_ms, held)
        epoch.steps.append(run)
        self._machine.touch(live.shard)

    def _suspend(self, live: Live) -> None:
        """It waits: keep what it did, and the coroutine for as long as there is room."""
        if live.journal.replaying:
            self._machine.ending.paused(live, "divergence", self._unfinished(live))
            return
        unjournaled = self._machine.sizes.why_unjournaled(live.commands)
        if unjournaled:
            self._machine.ending.failed(live, Failure(413, f"{live.handler.target} cannot wait: {unjournaled}"))
            return
        self.anchor(live)
        seen_all = live.journal.delivered == len(live.journal.completions)
        if seen_all and live.stored is not None and live.stored.attempts:  # it got further: what failed before no longer counts
            live.stored.attempts, live.stored.failed_ms, live.stored.reason = 0, 0, ""
            self.persist(live)
        self.merge(live)
        let_ask(live.context, waiting(live))
        self.cache.keep(live)

    def _unfinished(self, live: Live) -> str:
        entry = live.journal.commands[live.journal.cursor]
        return f"entry {entry.ref}: the journal has {entry.kind} {entry.name}, the code waits without having done it"

    def forget(self, live: Live) -> None:
        """It has ended, or its coroutine is of no use any more."""
        self.cache.release(live)
        live.shard.live.pop(live.id, None)
        close(live)

    def flush(self, live: Live) -> None:
        """Write what this epoch added to its journal."""
        if live.journal.unwritten:
            for chunk in live.journal.take_unwritten():
                key = keys.chunk(live.id, live.shard.next_sequence())
                live.journal.chunks.append(key)
                live.shard.put(key, chunk)

    def evict(self) -> None:
        """Drop the coroutines that the cache has no room for; a replay rebuilds them. Called between epochs."""
        for live in self.cache.surplus():
            self.forget(live)

    def drop_shard(self, shard: Shard) -> None:
        """The shard goes, or starts over: nothing in memory counts any more."""
        for live in list(shard.live.values()):
            self.forget(live)

    # --- completions ---

    def complete(self, shard: Shard, id_: str, completion: Entry) -> None:
        """Something an invocation waits for has happened: it goes on at once, in the epoch that journals it.

        What it does then shares the epoch's fate, so that nothing is acted on that is not recorded with it (invariant 4).
        """
        live = shard.live.get(id_)
        if live is None:
            stored = self._machine.stored(shard, id_)
            if stored is None or stored.status in (*ENDED, *UNBEGUN):
                return  # what has ended, or not begun, waits for nothing
            live = None if stored.status in ("paused", "backing_off") else self._machine.revival.rebuild(shard, stored)
            if live is None:
                self._machine.revival.note(shard, id_, completion)
                return
        if completion.ref in live.journal.completed:
            return
        completion = self._machine.sizes.completion("what it waits for", completion)
        live.journal.add_completion(completion)
        epoch = self._machine.epoch
        epoch.bytes += len(completion.value or b"")
        epoch.journaled[live.id] = live
        self._machine.touch(shard)
        if live.coroutine is None:
            self.start(live)
        else:
            self.wake(live)

    def wake(self, live: Live) -> None:
        """Go on with a suspended invocation if the next completion may be delivered."""
        if live.closed or live.coroutine is None:
            return
        waits_for = live.waits_for
        if waits_for is None or (self._machine.poison and self._machine.poisoned(live)):
            return
        if self._next_completion(live):
            live.waits_for = None
            self._run_on(live, waits_for)


class _BareYield:
    """What `await asyncio.sleep(0)` yields: nothing to wait for."""


_BARE_YIELD = _BareYield()


def stored_record(live: Live, origin: Origin, now_ms: float) -> Stored:
    """The journal topic's entry for an invocation that a record started."""
    return Stored(
        id=live.id, target=live.handler.target, key=live.key, payload=live.payload,
        headers=[Header(name, value) for name, value in origin.headers],
        topic=origin.topic, partition=origin.partition, offset=origin.offset, timestamp_ms=origin.timestamp_ms,
        record_key=origin.key, created_ms=int(now_ms), python=PYTHON, replay=origin.replay,
    )  # fmt: skip
