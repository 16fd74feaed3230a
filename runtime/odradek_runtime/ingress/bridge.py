"""From the engine's thread to the loop of the HTTP server: replies cross in batches, one wake-up for many.

The engine answers thousands of requests after one commit; waking the loop for each would cost a system call apiece.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from odradek_runtime.request import Invoke

if TYPE_CHECKING:
    from odradek_runtime.ingress.port import Engine
    from odradek_runtime.request import Reply, Request


class Bridge:
    """Asks the engine from the loop it was made in. Only `_post` runs in other threads.

    The engine keeps a question that waits until the invocation ends, also when the client has left. So there is one such
    question for an invocation at most: whoever waits for the same one shares it.
    """

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._loop = loop
        self._replies: deque[tuple[asyncio.Future[Reply], Reply]] = deque()
        self._scheduled = False
        self._waiting: dict[str, tuple[asyncio.Future[Reply], bool]] = {}

    async def ask(self, request: Request) -> Reply:
        """Post the request and wait for its reply. Cancelling this drops the reply, not the invocation."""
        if not request.wait:
            return await self._question(request)
        return await asyncio.shield(self._shared(request))

    def _shared(self, request: Request) -> asyncio.Future[Reply]:
        """The question that waits for this invocation. One that only looks for it does not do for one that starts it."""
        id_, starts = request.invocation_id, isinstance(request, Invoke)
        found = self._waiting.get(id_)
        if found is not None and (found[1] or not starts):
            return found[0]
        waiting = self._question(request)
        self._waiting[id_] = waiting, starts
        waiting.add_done_callback(lambda done: self._forget(id_, done))
        return waiting

    def _forget(self, id_: str, done: asyncio.Future[Reply]) -> None:
        found = self._waiting.get(id_)
        if found is not None and found[0] is done:
            del self._waiting[id_]

    def _question(self, request: Request) -> asyncio.Future[Reply]:
        waiting: asyncio.Future[Reply] = self._loop.create_future()
        self._engine.ask(request, lambda reply: self._post(waiting, reply))
        return waiting

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
