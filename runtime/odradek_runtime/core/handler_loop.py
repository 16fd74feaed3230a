"""What asyncio finds where a handler runs: a loop on which plain asyncio is durable, and which refuses what cannot be.

Handlers are driven by the engine, not by an event loop. An invocation that uses asyncio has turns (`durable.turns`) from then on;
most never do. What would wait for the world outside ends the invocation at once, with the way out, instead of hanging or being
retried for ever.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import Context
from sys import getrefcount
from typing import Any, NoReturn, TypeVarTuple, cast

from odradek._context import operations
from odradek._current import running
from odradek._errors import Refused
from odradek._future import Future

from .durable.futures import DurableFuture, DurableTask, keep_asyncio_in_order
from .durable.handler_task import HandlerTask
from .durable.turns import DurableTimer, Owner, RefusingLoop, Turns
from .refusal import calling, of_task, refusal

logger = logging.getLogger("odradek")

Ts = TypeVarTuple("Ts")


class HandlerLoop(RefusingLoop):
    """The running loop in the engine's thread."""

    def __init__(self) -> None:
        self.direct = True
        """A handler that awaits one of our own futures hands it to the engine as it is: nobody has turns now."""
        self.turns: Turns | None = None
        """Whose turns they are now."""
        self.task = HandlerTask(self)
        """The current task: of the next that has turns."""
        self._numbers = 0
        self._nobodys = getrefcount(self.task) + 1  # asyncio's table of current tasks holds it, too

    # --- what asyncio asks ---

    def get_debug(self) -> bool:
        """Futures ask for it when they are made."""
        return False

    def is_running(self) -> bool:
        """It is where handlers run."""
        return True

    def is_closed(self) -> bool:
        """It lasts as long as the engine."""
        return False

    def get_task_factory(self) -> None:
        """Tasks are made here."""

    def get_exception_handler(self) -> None:
        """Errors are reported here."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Say what went wrong where nobody could be told, but not again at a replay. Of tasks the turns tell, at the end."""
        error, turns = context.get("exception"), self.turns
        if isinstance(error, Refused) or isinstance(context.get("task"), DurableTask) or (turns and turns.replaying):
            return
        logger.error("asyncio in a handler: %s", context.get("message"), exc_info=error)

    def time(self) -> float:
        """The journaled time, Unix seconds."""
        return self.take_turns("time").time()

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> asyncio.Handle:
        """Run it in this invocation, after what is ready by now."""
        return self.take_turns("call_soon").call_soon(callback, args, context)

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> DurableTimer:
        """Run it after a durable sleep."""
        return self.take_turns("call_later").call_later(delay, callback, args, context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> DurableTimer:
        """Run it at that time of `time`, by a durable sleep."""
        return self.take_turns("call_at").call_at(when, callback, args, context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        timer = cast("DurableTimer", handle)
        timer.turns.timer_cancelled(timer)

    def create_future(self) -> DurableFuture[Any]:
        """One of this invocation."""
        return self.take_turns("create_future").create_future()

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None, **_options: Any
    ) -> DurableTask[Any]:
        """One of this invocation."""
        try:
            turns = self.take_turns("create_task")
        except BaseException:
            coro.close()  # else Python complains, later and elsewhere, that nobody awaited it
            raise
        return turns.create_task(coro, name, context)

    # --- whose turn it is ---

    def take_turns(self, word: str) -> Turns:
        """The turns of the invocation that is running, which has some from now on."""
        if self.turns is not None:
            return self.turns
        context = running()
        if context is None:
            self.refuse(f"asyncio.get_running_loop().{word}")
        owner = cast("Owner", operations(context))
        if owner.turns is not None:
            return owner.turns
        if owner.closed:
            raise Refused(f"{word} in a coroutine that is being thrown away")
        return self.begin(owner)

    def begin(self, owner: Owner) -> Turns:
        """Give an invocation turns: the current task is its own."""
        owner.last()
        self._numbers += 1
        self.turns = owner.turns = Turns(self, owner, self._numbers, self.task)
        self.direct = False
        return self.turns

    def taken(self) -> bool:
        """Whether somebody holds the current task: a task group, a timeout, a library. It is that invocation's own, then."""
        return getrefcount(self.task) > self._nobodys

    def concerns(self, future: Future[Any]) -> None:
        """Something is to happen when one of our own futures is done: raises for one of another invocation."""
        turns = self.take_turns("add_done_callback")
        if not future.done():
            turns.own_operation(future)

    def enter(self, turns: Turns) -> None:
        """They are this invocation's turns, until `leave`."""
        self.turns, self.direct = turns, False
        asyncio.tasks._leave_task(self, cast("Any", self.task))

    def leave(self, turns: Turns) -> None:
        """Nobody has turns now."""
        self.turns, self.direct = None, True
        if self.task is turns.main:
            self.task = HandlerTask(self)
        asyncio.tasks._enter_task(self, cast("Any", self.task))

    @contextmanager
    def being(self, task: asyncio.Future[Any]) -> Generator[None]:
        """Have that task be the current one meanwhile."""
        before, current = asyncio.current_task(self), cast("Any", task)
        if before is None:  # nobody runs here any more
            yield
            return
        asyncio.tasks._leave_task(self, before)
        asyncio.tasks._enter_task(self, current)
        try:
            yield
        finally:
            asyncio.tasks._leave_task(self, current)
            asyncio.tasks._enter_task(self, before)

    def refuse(self, what: str) -> NoReturn:
        """End the invocation that asks for it."""
        frames = calling(inspect.currentframe())
        if self.turns is not None:
            frames = of_task(self.turns.handler, frames)
        message = refusal(frames, what)
        context = running()
        if context is not None:
            operations(context).refuse(message)
        raise Refused(message)


def _refuser(name: str) -> Any:
    def refuse(self: HandlerLoop, *arguments: Any, **_options: Any) -> NoReturn:
        for argument in arguments:
            if isinstance(argument, Coroutine):
                argument.close()  # else Python complains, later and elsewhere, that nobody awaited it
        self.refuse(f"asyncio.get_running_loop().{name}")

    return refuse


def handler_loop() -> HandlerLoop:
    """Make one: every other method of a loop refuses."""
    keep_asyncio_in_order()
    own = vars(HandlerLoop)
    names = [name for name in dir(asyncio.AbstractEventLoop) if not name.startswith("__") and name not in own]
    made: type[HandlerLoop] = type("HandlerLoop", (HandlerLoop,), {name: _refuser(name) for name in names})
    return made()


@contextmanager
def inhabited(loop: HandlerLoop) -> Generator[None]:
    """Let asyncio find the loop, and a task on it, in this thread."""
    asyncio._set_running_loop(loop)
    asyncio.tasks._enter_task(loop, cast("Any", loop.task))
    try:
        yield
    finally:
        asyncio.tasks._leave_task(loop, cast("Any", loop.task))
        asyncio._set_running_loop(None)
