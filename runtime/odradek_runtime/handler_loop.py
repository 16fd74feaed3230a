"""What asyncio finds where a handler runs: a loop on which our own futures live, and which explains what is not durable.

Handlers are driven by the engine, not by an event loop, so everything that would wait on a real loop has to say so at once,
with the way out, instead of hanging.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, NoReturn

REMEDY = (
    "inside a handler only odradek's own waitables can be awaited: use ctx.sleep instead of asyncio.sleep, and put any other "
    "I/O into a step (@step, or ctx.run)"
)


class ForeignAwaitable(RuntimeError):
    """A handler awaited something that does not outlive a crash."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: {REMEDY}")


class HandlerLoop(asyncio.AbstractEventLoop):
    """The running loop in the engine's thread. Everything but the bookkeeping of futures raises ForeignAwaitable."""

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


def _refuser(name: str) -> Any:
    def refuse(_self: HandlerLoop, *arguments: Any, **_options: Any) -> NoReturn:
        for argument in arguments:
            if isinstance(argument, Coroutine):
                argument.close()  # else Python complains, later and elsewhere, that nobody awaited it
        raise ForeignAwaitable(f"asyncio ({name}) is not durable")

    return refuse


def handler_loop() -> HandlerLoop:
    """Make one: every other method of a loop refuses."""
    own = vars(HandlerLoop)
    names = [name for name in dir(asyncio.AbstractEventLoop) if not name.startswith("__") and name not in own]
    made: type[HandlerLoop] = type("HandlerLoop", (HandlerLoop,), {name: _refuser(name) for name in names})
    return made()
