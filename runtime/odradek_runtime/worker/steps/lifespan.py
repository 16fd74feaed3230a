"""The app's lifespan: one task on the loop where its async steps run, entered before the first step and left after the last.

One task for both, since what such a context manager holds (task groups, cancel scopes) wants to be left by whoever entered it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

Manager = AbstractAsyncContextManager[Any]


class LifespanError(RuntimeError):
    """The app's lifespan raised what would end its thread; the message says what."""


class Lifespan:
    """Used on the loop alone. Both calls raise what the context manager raises; other than an Exception: LifespanError."""

    def __init__(self, make: Callable[[], Manager]) -> None:
        self._make = make
        self._entered = asyncio.Event()
        self._leave = asyncio.Event()
        self._error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    async def enter(self) -> None:
        self._task = asyncio.create_task(self._hold(), name="odradek lifespan")
        await self._entered.wait()
        self._raise()

    async def exit(self, timeout_s: float) -> None:
        """Leave it; TimeoutError when it takes longer."""
        if self._task is None:
            return
        self._leave.set()
        ended, _ = await asyncio.wait([self._task], timeout=timeout_s)
        if not ended:
            raise TimeoutError(f"the app's lifespan has not ended after {timeout_s:g} s")
        self._raise()

    async def _hold(self) -> None:
        try:
            async with self._make():
                self._entered.set()
                await self._leave.wait()
        except BaseException as error:  # noqa: BLE001  (SystemExit would end the loop that all steps run on)
            self._error = error
        finally:
            self._entered.set()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is None:
            return
        if isinstance(error, Exception):
            raise error
        raise LifespanError(f"the app's lifespan raised {error!r}") from error
