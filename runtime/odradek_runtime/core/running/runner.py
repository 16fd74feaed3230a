"""The runner drives the coroutine of a live invocation: it is given what has come back, until it waits for more or ends.

Stands between the invocation and whoever acts on what became of it (`advance`): the runner says how it ended, and writes nothing
of that.
"""

from __future__ import annotations

from asyncio import isfuture
from typing import Any

from odradek import TerminalError
from odradek._bad_input import BadInput
from odradek._context import let_ask
from odradek._current import CURRENT
from odradek._future import Future
from odradek_runtime.core.records.formats import Entry
from odradek_runtime.core.records.journal import CANCELLATION
from odradek_runtime.core.refusal import awaiting, refusal
from odradek_runtime.core.scope import Scope

from .invocation import Live
from .outcome import BARE_YIELD, Outcome, Raised, Refused, Returned, Unwritten, Waits
from .turning import Turning


class Runner:
    """Drives the coroutines of one machine."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._turning = Turning(scope, self.next_completion)

    def comes_later(self, live: Live, waits_for: Any) -> bool:
        """Whether this is what it waits for at first, as a rule: a future of ours that is not there yet."""
        ours = type(waits_for) is Future and waits_for.get_loop() is self._scope.loop and not waits_for.done()
        plainly = live.turns is None and not self._scope.loop.taken()
        return ours and plainly and not live.refused and live.unwritten is None

    def run_on(self, live: Live, waits_for: Any) -> Outcome:
        """Go on until it ends or waits for something that has not happened yet. `waits_for` None: it has yet to begin."""
        turns = live.turns
        if turns is not None:
            return self._turning.run(live, turns, None if waits_for is turns else Waits(waits_for))
        while True:
            if waits_for is not None and (live.refused or not self._acceptable(waits_for)):
                if not live.refused and (waits_for is BARE_YIELD or isfuture(waits_for)):
                    return self._turning.run(live, self._scope.loop.begin(live), Waits(waits_for))
                live.refused = live.refused or refusal(awaiting(live.coroutine), f"await of a {type(waits_for).__name__}")
                return Refused()
            if waits_for is not None and live.unwritten is not None:
                return Unwritten(live.unwritten)
            if live.cancelled:
                return self._cancelled(live, waits_for)
            if waits_for is None or waits_for.done():
                outcome = self._drive(live)
                if live.turns is not None:
                    return self._turning.run(live, live.turns, outcome)
                if not isinstance(outcome, Waits):
                    try:
                        return outcome
                    finally:
                        del outcome  # an error holds the frames it came through, and those hold their callers: this one
                waits_for = outcome.future
            elif not self.next_completion(live):
                if self._scope.loop.taken():
                    return self._turning.run(live, self._scope.loop.begin(live), Waits(waits_for))
                return Waits(waits_for)

    def ended(self, live: Live, outcome: Outcome) -> Outcome:
        """It has ended without a wait, with tasks of its own, perhaps: these end, too."""
        return outcome if live.turns is None else self._turning.run(live, live.turns, outcome)

    def _acceptable(self, waits_for: Any) -> bool:
        return isinstance(waits_for, Future) and waits_for.get_loop() is self._scope.loop

    def _drive(self, live: Live) -> Outcome:
        """Resume the coroutine; gives what it waits for now, or how it ended."""
        coroutine = live.coroutine
        assert coroutine is not None
        let_ask(live.context, live)
        CURRENT.set(live.context)
        try:
            return Waits(coroutine.send(None) or BARE_YIELD)
        except StopIteration as stop:
            return Returned(stop.value)
        except BaseException as error:  # noqa: BLE001  (whatever a handler raises decides its end, invariant 9)
            return Raised(error)

    def next_completion(self, live: Live) -> bool:
        """Deliver the next completion, if there is one."""
        journal = live.journal
        if journal.delivered == len(journal.completions):
            return False
        if live.turns is not None:
            self._scope.loop.turns = live.turns  # for what happens when a future of it is done
        entry = journal.completions[journal.delivered]
        journal.delivered += 1
        if entry.ref == CANCELLATION:
            self._cancel(live)
            return True
        op = live.ops.pop(entry.ref, None)
        if op is None:
            return True
        if op.timer is not None and live.shard.read(op.timer) is not None:
            live.shard.put(op.timer, None)
            self._scope.touch(live.shard)
        if op.future is not None and op.decode is not None and not op.future.done():
            self._complete(live, op.future, op.decode, entry)
        return True

    def _cancel(self, live: Live) -> None:
        """Its task is cancelled: one of its own, which it has from then on in every replay."""
        if live.turns is not None:
            live.turns.main.cancel()
        else:
            live.cancelled = True

    def _cancelled(self, live: Live, waits_for: Any) -> Outcome:
        live.cancelled = False
        turns = self._scope.loop.begin(live)
        turns.main.cancel()
        return self._turning.run(live, turns, Waits(waits_for))

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
        what, disclosure = "the recorded result does not fit its type", self._scope.disclosure
        if isinstance(error, BadInput):
            return f"{what}: {disclosure.bad_input(error, live.id, live.handler.target)}"
        return disclosure.referred(what, error, live.id, live.handler.target)

    def _fail(self, live: Live, future: Future[Any], error: TerminalError) -> None:
        live.raised += (error,)
        future.set_exception(error)
