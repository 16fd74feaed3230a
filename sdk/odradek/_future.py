"""What a context hands out to wait for: eager futures that the engine completes.

`Future` is an asyncio future with three differences: awaiting it never cancels it, it hashes by sequence number
(asyncio keeps futures in sets, whose order must be the same at every replay), and an error that nobody looks at is not
logged.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextvars import Context
    from typing import Self

T = TypeVar("T")


class Future(asyncio.Future[T]):
    """A result that will come: of a step, a timer, a call. Works in `asyncio.wait`, `gather` and `as_completed`.

    It acts when made, not when awaited. It may be awaited again, and a cancelled or timed-out `await` leaves it
    running; `.cancel()` stops the waiting here only. `await` raises what the step or the callee raised (TerminalError).

    Made by the engine: `loop` is the loop it completes on, `seq` its number within the invocation.
    """

    __slots__ = ("seq",)

    seq: int

    def __init__(self, *, loop: asyncio.AbstractEventLoop, seq: int) -> None:
        super().__init__(loop=loop)
        self.seq = seq

    def __hash__(self) -> int:
        return self.seq

    def __eq__(self, other: object) -> bool:
        return self is other

    def add_done_callback(self, fn: Callable[[Self], object], /, *, context: Context | None = None) -> None:
        concerns = getattr(self.get_loop(), "concerns", None)  # of a handler's loop: its invocation has turns from now on
        if concerns is not None:
            concerns(self)
        super().add_done_callback(fn, context=context)

    def set_exception(self, exception: type[BaseException] | BaseException, /) -> None:
        super().set_exception(exception)
        self._log_traceback = False

    def __await__(self) -> Generator[Any, None, T]:
        if not self.done():
            if getattr(self.get_loop(), "direct", False):
                yield self  # the engine resumes the coroutine once this is done, and never cancels what it waits for
            else:
                yield from self._wait_shielded()
        try:
            return self.result()
        finally:
            del self  # an error keeps this frame, and the future keeps the error

    def _wait_shielded(self) -> Generator[Any, None, None]:
        # A task waits for (and, if cancelled, cancels) a future of its own.
        waiter = self.get_loop().create_future()

        def wake(_: asyncio.Future[T]) -> None:
            if not waiter.done():
                waiter.set_result(None)

        self.add_done_callback(wake)
        try:
            yield from waiter
        finally:
            self.remove_done_callback(wake)

    __iter__ = __await__


class Call(Future[T]):
    """The result of another handler, to come. `invocation_id` names it, for `ctx.attach` and `ctx.cancel`."""

    __slots__ = ("_invocation_id",)

    def __init__(self, *, loop: asyncio.AbstractEventLoop, seq: int, invocation_id: str = "") -> None:
        super().__init__(loop=loop, seq=seq)
        self._invocation_id = invocation_id

    @property
    def invocation_id(self) -> str:
        """The callee's invocation id. Raises RuntimeError while a `Client` has not been told it: await the call."""
        if not self._invocation_id:
            raise RuntimeError("Call.invocation_id: the reply that names it has not come yet; await the call first")
        return self._invocation_id

    def named(self, invocation_id: str) -> None:
        """Learn the invocation id; for whoever made the call."""
        self._invocation_id = invocation_id


class Awakeable(Future[T]):
    """A result from outside: whoever holds `id` completes it by `resolve` or `reject`, over HTTP or in a handler."""

    __slots__ = ("_id",)

    def __init__(self, *, loop: asyncio.AbstractEventLoop, seq: int, id: str) -> None:
        super().__init__(loop=loop, seq=seq)
        self._id = id

    @property
    def id(self) -> str:
        """What the outside completes it by."""
        return self._id
