"""From the engine's thread to the loop of the HTTP server: replies cross in batches, one wake-up for many.

The engine answers thousands of requests after one commit; waking the loop for each would cost a system call apiece.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from odradek_runtime.ingress.port import Engine
    from odradek_runtime.request import Reply, Request


class Bridge:
    """Asks the engine from the loop it was made in. Only `_post` runs in other threads."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._loop = loop
        self._replies: deque[tuple[asyncio.Future[Reply], Reply]] = deque()
        self._scheduled = False

    async def ask(self, request: Request) -> Reply:
        """Post the request and wait for its reply. Cancelling this drops the reply, not the invocation."""
        waiting: asyncio.Future[Reply] = self._loop.create_future()
        self._engine.ask(request, lambda reply: self._post(waiting, reply))
        return await waiting

    def _post(self, waiting: asyncio.Future[Reply], reply: Reply) -> None:
        self._replies.append((waiting, reply))
        if self._scheduled:
            return
        self._scheduled = True
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            # The loop has been closed: the server is gone, and with it everybody who waited.
            self._replies.clear()

    def _deliver(self) -> None:
        # Lowered before the queue is emptied: a reply posted from here on schedules the next delivery itself.
        self._scheduled = False
        while self._replies:
            waiting, reply = self._replies.popleft()
            if not waiting.done():
                waiting.set_result(reply)
