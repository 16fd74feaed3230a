"""What asyncio finds where a handler runs: a loop and a task on which our own futures live, and which refuse the rest.

Handlers are driven by the engine, not by an event loop, so everything that would wait on a real loop ends the invocation at
once, with the way out, instead of hanging or being retried for ever.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from typing import Any, NoReturn

from odradek._context import operations
from odradek._current import running
from odradek._errors import Refused

from .refusal import calling, refusal


class HandlerLoop(asyncio.AbstractEventLoop):
    """The running loop in the engine's thread. Everything but the bookkeeping of futures is refused."""

    durable = True

    def get_debug(self) -> bool:
        """Futures ask for it when they are made."""
        return False

    def is_running(self) -> bool:
        """It is where handlers run."""
        return True

    def is_closed(self) -> bool:
        """It lasts as long as the engine."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report nothing: an invocation's error is the engine's to report."""


class HandlerTask:
    """The current task there, as far as one may look at it: libraries ask whether there is one, log records for its name."""

    _must_cancel = False
    _fut_waiter = None
    """anyio looks at these two when it cleans up."""

    def __init__(self, loop: HandlerLoop) -> None:
        self._loop = loop

    def get_loop(self) -> HandlerLoop:
        """Where it runs."""
        return self._loop

    def get_name(self) -> str:
        """What log records call it."""
        return "odradek-handler"

    def get_coro(self) -> None:
        """It has none that may be looked at."""

    def done(self) -> bool:
        """It runs."""
        return False

    def cancelled(self) -> bool:
        """It runs."""
        return False

    def cancelling(self) -> int:
        """Nobody cancels it."""
        return 0

    def uncancel(self) -> int:
        """Nobody cancels it."""
        return 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        _refuse(f"asyncio.current_task().{name}")


def _refuse(what: str) -> NoReturn:
    """End the invocation that asks for it."""
    message = refusal(calling(inspect.currentframe()), what)
    context = running()
    if context is not None:
        operations(context).refuse(message)
    raise Refused(message)


def _refuser(name: str) -> Any:
    def refuse(_self: HandlerLoop, *arguments: Any, **_options: Any) -> NoReturn:
        for argument in arguments:
            if isinstance(argument, Coroutine):
                argument.close()  # else Python complains, later and elsewhere, that nobody awaited it
        _refuse(f"asyncio.get_running_loop().{name}")

    return refuse


def handler_loop() -> HandlerLoop:
    """Make one: every other method of a loop refuses."""
    own = vars(HandlerLoop)
    names = [name for name in dir(asyncio.AbstractEventLoop) if not name.startswith("__") and name not in own]
    made: type[HandlerLoop] = type("HandlerLoop", (HandlerLoop,), {name: _refuser(name) for name in names})
    return made()


@contextmanager
def inhabited(loop: HandlerLoop) -> Generator[None]:
    """Let asyncio find the loop, and a task on it, in this thread."""
    task: Any = HandlerTask(loop)
    asyncio._set_running_loop(loop)
    asyncio.tasks._enter_task(loop, task)
    try:
        yield
    finally:
        asyncio.tasks._leave_task(loop, task)
        asyncio._set_running_loop(None)
