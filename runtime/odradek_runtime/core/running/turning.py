"""Turning: how an invocation that uses asyncio goes on, its handler and its tasks in turns.

Beside the runner, whose way is that of a single coroutine. What is ready runs until nothing is; then the next completion of the
journal is delivered, and so on until the handler has ended, and with it, as under `asyncio.run`, the tasks that it has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any, cast

from odradek import TerminalError
from odradek._context import let_ask
from odradek._current import CURRENT
from odradek_runtime.core.durable.turns import Turns
from odradek_runtime.core.records.journal import Diverged
from odradek_runtime.core.refusal import awaiting, endless, refusal
from odradek_runtime.core.scope import Scope

from .ends import as_an_end, lets_through
from .invocation import Live
from .outcome import BARE_YIELD, Outcome, Raised, Refused, Returned, Unwritten, Waits


class Turning:
    """Of one machine's invocations. `deliver` hands an invocation its next completion, if there is one."""

    def __init__(self, scope: Scope, deliver: Callable[[Live], bool]) -> None:
        self._scope = scope
        self._deliver = deliver

    def run(self, live: Live, turns: Turns, come_to: Outcome | None) -> Outcome:
        """Go on until it ends or waits for something that has not happened yet.

        `come_to`: what its handler has just come to; None: it waits, as before.
        """
        loop = self._scope.loop
        loop.enter(turns)
        let_ask(live.context, live)
        CURRENT.set(live.context)
        turns.main.resume = partial(self._turn, live, turns)
        try:
            if isinstance(come_to, Waits):
                self._wait(live, turns, come_to)
            elif come_to is not None:
                self._end(live, turns, come_to)
            return self._until_it_waits(live, turns)
        except BaseException as error:  # noqa: BLE001  (SystemExit of a task, which asyncio hands on: as the handler's own)
            return Raised(error)
        finally:
            turns.main.resume = None
            del come_to  # an error holds the frames it came through
            loop.leave(turns)

    def _until_it_waits(self, live: Live, turns: Turns) -> Outcome:
        while True:
            turns.drain()
            if live.refused:
                return Refused()
            if live.unwritten is not None:
                return Unwritten(live.unwritten)
            if live.diverged:
                return Raised(Diverged(live.diverged))
            if turns.ended is not None and (turns.parted or not live.ops):
                turns.report()
                ended, turns.ended = turns.ended, None
                return cast("Outcome", ended)
            if not self._deliver(live):
                if not live.ops and not live.journal.replaying:
                    live.refused = endless(awaiting(live.coroutine))
                    return Refused()
                return Waits(turns)

    def _turn(self, live: Live, turns: Turns, error: BaseException | None) -> None:
        """The handler's own."""
        if turns.main.done():
            return
        task: Any = turns.main
        asyncio.tasks._enter_task(self._scope.loop, task)
        try:
            come_to = resumed(live, turns.main.due(error))
        finally:
            asyncio.tasks._leave_task(self._scope.loop, task)
            del error
        if isinstance(come_to, Waits):
            self._wait(live, turns, come_to)
        else:
            self._end(live, turns, come_to)

    def _wait(self, live: Live, turns: Turns, waits: Waits) -> None:
        main = turns.main
        if main.variables is None:
            main.variables = copy_context()
            main.variables.run(CURRENT.set, live.context)
        awaited = waits.future
        if not live.refused and not main.wait_for(None if awaited is BARE_YIELD else awaited):
            live.refused = live.refused or refusal(awaiting(live.coroutine), f"await of a {type(awaited).__name__}")
            turns.ready.clear()

    def _end(self, live: Live, turns: Turns, come_to: Outcome) -> None:
        """Its tasks end, too; where its attempt has failed it is tried again, and they with it."""
        turns.ended = as_an_end(come_to)
        turns.main.ended()
        error = getattr(turns.ended, "error", None)
        if isinstance(come_to, Returned) or isinstance(error, TerminalError) or lets_through(live.journal, error):
            turns.part()
        else:
            turns.ready.clear()


def resumed(live: Live, error: BaseException | None) -> Outcome:
    """Resume the handler's coroutine, with an error to raise at its await, or none."""
    coroutine = live.coroutine
    assert coroutine is not None
    try:
        return Waits((coroutine.send(None) if error is None else coroutine.throw(error)) or BARE_YIELD)
    except StopIteration as stop:
        return Returned(stop.value)
    except BaseException as raised:  # noqa: BLE001  (whatever a handler raises decides its end, invariant 9)
        return Raised(raised)
    finally:
        del error
