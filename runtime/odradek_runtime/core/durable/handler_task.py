"""The current task where a handler runs: what asyncio and libraries find, cancel and wait with in the place of a task.

One lies ready for whoever is next. It is an invocation's own from the moment that this has turns (`turns`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol

from odradek._future import Future


class TurnsLoop(Protocol):
    """The loop, as far as a handler's task needs it."""

    def take_turns(self, word: str) -> object: ...

    def call_soon(self, callback: Callable[..., object], *arguments: Any, context: Context | None = None) -> asyncio.Handle: ...

    def create_future(self) -> asyncio.Future[Any]: ...

    def refuse(self, what: str) -> Any: ...


class HandlerTask(asyncio.Future[None]):
    """It is driven by the engine: `resume` gives it its turn, with an error to raise at its present await, or None."""

    def __init__(self, loop: Any) -> None:
        super().__init__(loop=loop)
        self._durable_loop: TurnsLoop = loop
        self.variables: Context | None = None
        """Its context variables, once it has waited."""
        self.resume: Callable[[BaseException | None], None] | None = None
        self._must_cancel = False
        self._fut_waiter: asyncio.Future[Any] | None = None
        """anyio looks at these two when it cleans up."""
        self._cancels = 0
        self._why: object = None
        self._name = "odradek-handler"

    # --- as a task ---

    def get_name(self) -> str:
        """What log records call it."""
        return self._name

    def set_name(self, value: object, /) -> None:
        """Call it something else."""
        self._name = str(value)

    def get_coro(self) -> None:
        """It has none that may be looked at."""

    def get_context(self) -> Context | None:
        """Its context variables."""
        return self.variables

    def cancel(self, msg: object = None) -> bool:
        """Raise CancelledError at its present await, or at its next."""
        if self.done():
            return False
        self._durable_loop.take_turns("cancel")
        self._cancels += 1
        self._why = msg
        if self._fut_waiter is None or not self._fut_waiter.cancel(msg):
            self._must_cancel = True
        return True

    def cancelling(self) -> int:
        """How often it was asked to."""
        return self._cancels

    def uncancel(self) -> int:
        """One of those no longer counts."""
        self._cancels = max(0, self._cancels - 1)
        if not self._cancels:
            self._must_cancel = False
        return self._cancels

    def set_result(self, result: object, /) -> None:
        """Not from outside, as for every task."""
        raise RuntimeError("Task does not support set_result operation")

    def set_exception(self, exception: object, /) -> None:
        """Not from outside, as for every task."""
        raise RuntimeError("Task does not support set_exception operation")

    def add_done_callback(self, fn: object, /, *, context: Context | None = None) -> None:
        """Nothing is to happen when a handler has ended: whoever asks for it has a thread, or the like, that would end with it."""
        self._durable_loop.refuse("asyncio.current_task().add_done_callback")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._durable_loop.refuse(f"asyncio.current_task().{name}")

    # --- its turns ---

    def let_go(self) -> None:
        """Its coroutine is gone."""
        waiter, self._fut_waiter, self.resume = self._fut_waiter, None, None
        if waiter is not None:
            waiter.cancel()

    def wait_for(self, yielded: Any) -> bool:
        """It goes on when this is done. False: that can never be known here."""
        if yielded is None:
            self._durable_loop.call_soon(self._go_on, context=self.variables)
            return True
        if getattr(yielded, "get_loop", None) is None or yielded.get_loop() is not self._durable_loop:
            return False
        waiter: Any = yielded
        if not getattr(yielded, "_asyncio_future_blocking", False):
            if not isinstance(yielded, Future):
                return False
            waiter = self._watched(yielded)  # it was awaited before there were turns
        waiter._asyncio_future_blocking = False
        waiter.add_done_callback(self._wake, context=self.variables)
        self._fut_waiter = waiter
        if self._must_cancel and waiter.cancel(self._why):
            self._must_cancel = False
        return True

    def _watched(self, future: Any) -> asyncio.Future[Any]:
        """What is done when that is, and may be cancelled without it."""
        waiter = self._durable_loop.create_future()

        def wake(_: object) -> None:
            if not waiter.done():
                waiter.set_result(None)

        future.add_done_callback(wake)
        return waiter

    def due(self, error: BaseException | None) -> BaseException | None:
        """It has its turn now: what is to be raised at its await."""
        self._fut_waiter = None
        if self._must_cancel:
            self._must_cancel = False
            if not isinstance(error, asyncio.CancelledError):
                return asyncio.CancelledError() if self._why is None else asyncio.CancelledError(self._why)
        return error

    def ended(self) -> None:
        """The handler has returned, or raised."""
        if not self.done():
            super().set_result(None)

    def _go_on(self) -> None:
        if self.resume is not None:
            self.resume(None)

    def _wake(self, future: asyncio.Future[Any]) -> None:
        error: BaseException | None = None
        try:
            future.result()
        except BaseException as raised:  # noqa: BLE001  (it is the handler's, who awaits it)
            error = raised
        try:
            if self.resume is not None:
                self.resume(error)
        finally:
            del error, future
