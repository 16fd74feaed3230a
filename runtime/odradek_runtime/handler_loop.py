"""What asyncio finds where a handler runs: a loop on which our own futures live, and which explains what is not durable.

Handlers are driven by the engine, not by an event loop, so everything that would wait on a real loop has to say so at once,
with the way out, instead of hanging.
"""

from __future__ import annotations

import asyncio
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
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Nothing is reported here: an invocation's error is the engine's to report."""

    def __getattribute__(self, name: str) -> Any:
        if name in _FOREIGN:
            return lambda *_args, **_options: _refuse(name)  # pyright: ignore[reportUnknownLambdaType]
        return super().__getattribute__(name)


def _refuse(name: str) -> NoReturn:
    raise ForeignAwaitable(f"asyncio ({name}) is not durable")


_FOREIGN = frozenset({
    "call_soon", "call_later", "call_at", "create_future", "create_task", "run_in_executor", "call_soon_threadsafe",
    "getaddrinfo", "create_connection", "create_server", "sock_recv", "sock_sendall", "sock_connect", "add_reader",
    "add_writer", "subprocess_exec", "subprocess_shell", "time",
})  # fmt: skip
