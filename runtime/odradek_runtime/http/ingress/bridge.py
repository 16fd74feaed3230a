"""From the engine's thread to the loop of the HTTP server: replies cross in batches, one wake-up for many.

The engine answers thousands of requests after one commit; waking the loop for each would cost a system call apiece.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from odradek_runtime.core.records.request import Invoke, Request, unheard

if TYPE_CHECKING:
    from collections.abc import Callable

    from odradek_runtime.core.records.request import Reply
    from odradek_runtime.http.ingress.port import Answering


class Asking:
    """One question to the engine, and everybody here who waits for its answer."""

    def __init__(self, request: Request, reply: asyncio.Future[Reply]) -> None:
        self.request = request
        self.reply = reply
        self._accepted = False
        self._listeners: list[Callable[[], None]] = []

    def does_for(self, request: Request) -> bool:
        """Whether its answer is this request's, too. One that only looks does not do for one that starts something."""
        mine = self.request
        if isinstance(mine, Invoke) and isinstance(request, Invoke):
            return mine.payload == request.payload
        return isinstance(mine, Invoke) or not isinstance(request, Invoke)

    def hear(self, accepted: Callable[[], None]) -> None:
        """Call this when the invocation is known to be durable: at once, if it is."""
        if self._accepted:
            accepted()
        elif accepted is not unheard:
            self._listeners.append(accepted)

    def accept(self) -> None:
        self._accepted = True
        listeners, self._listeners = self._listeners, []
        for accepted in listeners:
            accepted()


class Bridge:
    """Asks the engine from the loop it was made in. Only `_post` runs in other threads.

    The engine keeps a question that waits until the invocation ends, also when the client has left. So there is one such
    question for an invocation at most: whoever waits for the same one shares it.
    """

    def __init__(self, worker: Answering, loop: asyncio.AbstractEventLoop) -> None:
        self._worker = worker
        self._loop = loop
        self._messages: deque[tuple[Asking, Reply | None]] = deque()
        self._scheduled = False
        self._waiting: dict[str, Asking] = {}

    async def ask(self, request: Request, accepted: Callable[[], None] = unheard) -> Reply:
        """Post the request and wait for its reply. Cancelling this drops the reply, not the invocation.

        `accepted` is called if the reply has to wait for the end of an invocation, as soon as that is durable.
        """
        if not request.wait:
            return await self._ask(request).reply
        asking = self._shared(request)
        asking.hear(accepted)
        return await asyncio.shield(asking.reply)

    def _shared(self, request: Request) -> Asking:
        """The question that waits for this invocation."""
        found = self._waiting.get(request.invocation_id)
        if found is not None and found.does_for(request):
            return found
        asking = self._ask(request)
        if found is None or not isinstance(found.request, Invoke):
            self._waiting[request.invocation_id] = asking
            asking.reply.add_done_callback(lambda _: self._forget(asking))
        return asking

    def _forget(self, asking: Asking) -> None:
        if self._waiting.get(asking.request.invocation_id) is asking:
            del self._waiting[asking.request.invocation_id]

    def _ask(self, request: Request) -> Asking:
        asking = Asking(request, self._loop.create_future())
        self._worker.ask(request, partial(self._post, asking), partial(self._post, asking, None))
        return asking

    def _post(self, asking: Asking, reply: Reply | None) -> None:
        """None: its invocation has been accepted."""
        self._messages.append((asking, reply))
        if self._scheduled:
            return
        self._scheduled = True
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            # The loop has been closed: the server is gone, and with it everybody who waited.
            self._messages.clear()

    def _deliver(self) -> None:
        # Lowered before the queue is emptied: a reply posted from here on schedules the next delivery itself.
        self._scheduled = False
        while self._messages:
            asking, reply = self._messages.popleft()
            if reply is None:
                asking.accept()
            elif not asking.reply.done():
                asking.reply.set_result(reply)
