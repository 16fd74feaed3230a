"""The runner drives the coroutine of a live invocation: it is given what has come back, until it waits for more or ends.

Stands between the invocation and whoever acts on what became of it (`advance`): the runner says how it ended, and writes nothing
of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from odradek import TerminalError
from odradek._bad_input import BadInput
from odradek._context import let_ask
from odradek._current import CURRENT
from odradek._future import Future
from odradek_runtime.core.records.formats import Entry
from odradek_runtime.core.refusal import awaiting, refusal
from odradek_runtime.core.scope import Scope

from .invocation import Live


@dataclass(slots=True)
class Waits:
    """For what nothing has come back for yet: a future, or whatever else the handler has awaited."""

    future: Any


@dataclass(slots=True)
class Returned:
    """With this value."""

    value: Any


@dataclass(slots=True)
class Raised:
    """This error."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Refused:
    """It waits for what does not outlive a crash, or goes on though it was told so: `live.refused` says what."""


@dataclass(frozen=True, slots=True)
class Unwritten:
    """What it wrote could not be written for now, whatever it has made of the error: `live.unwritten` says why."""

    error: Exception


Outcome = Waits | Returned | Raised | Refused | Unwritten


class BareYield:
    """What `await asyncio.sleep(0)` yields: nothing to wait for."""


BARE_YIELD = BareYield()


class Runner:
    """Drives the coroutines of one machine."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def comes_later(self, live: Live, waits_for: Any) -> bool:
        """Whether this is what it waits for at first, as a rule: a future of ours that is not there yet."""
        ours = type(waits_for) is Future and waits_for.get_loop() is self._scope.loop and not waits_for.done()
        return ours and not live.refused and live.unwritten is None

    def run_on(self, live: Live, waits_for: Any) -> Outcome:
        """Go on until it ends or waits for something that has not happened yet. `waits_for` None: it has yet to begin."""
        while True:
            if waits_for is not None and (live.refused or not self._acceptable(waits_for)):
                what = "asyncio" if waits_for is BARE_YIELD else f"await of a {type(waits_for).__name__}"
                live.refused = live.refused or refusal(awaiting(live.coroutine), what)
                return Refused()
            if waits_for is not None and live.unwritten is not None:
                return Unwritten(live.unwritten)
            if waits_for is None or waits_for.done():
                outcome = self._drive(live)
                if not isinstance(outcome, Waits):
                    try:
                        return outcome
                    finally:
                        del outcome  # an error holds the frames it came through, and those hold their callers: this one
                waits_for = outcome.future
            elif not self.next_completion(live):
                return Waits(waits_for)

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
        entry = journal.completions[journal.delivered]
        journal.delivered += 1
        op = live.ops.pop(entry.ref, None)
        if op is None:
            return True
        if op.timer is not None and live.shard.read(op.timer) is not None:
            live.shard.put(op.timer, None)
            self._scope.touch(live.shard)
        if op.future is not None and op.decode is not None and not op.future.done():
            self._complete(live, op.future, op.decode, entry)
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
        what, disclosure = "the recorded result does not fit its type", self._scope.disclosure
        if isinstance(error, BadInput):
            return f"{what}: {disclosure.bad_input(error, live.id, live.handler.target)}"
        return disclosure.referred(what, error, live.id, live.handler.target)

    def _fail(self, live: Live, future: Future[Any], error: TerminalError) -> None:
        live.raised += (error,)
        future.set_exception(error)
