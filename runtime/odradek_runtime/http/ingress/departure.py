"""When a client leaves before it is answered: heard by whoever serves its request, so that its place is free at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from odradek_runtime.http.ingress.errors import HttpError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.requests import Request as HttpRequest
    from uvicorn.protocols.http.flow_control import FlowControl

T = TypeVar("T")
DEPARTURE: Final = "odradek.departure"
"""Where the connection puts it into the scope of a request."""
CLIENT_LEFT: Final = 499
"""Never read by anybody: the client closed the connection while it waited. The invocation goes on."""


class Departure:
    """Of the client of one connection."""

    def __init__(self, flow: FlowControl) -> None:
        self._flow = flow
        self.left = False
        self._hear: Callable[[], object] | None = None

    def tell(self) -> None:
        """It has left."""
        self.left = True
        if self._hear is not None:
            self._hear()

    def hear(self, told: Callable[[], object] | None) -> None:
        """Call this when it leaves; None: nobody waits for that any more. Only who reads from a connection notices its end."""
        self._hear = told
        if told is not None:
            self._flow.resume_reading()


async def unless_gone(request: HttpRequest, work: Coroutine[None, None, T]) -> T:
    """What the work gives, unless the client leaves first: nobody waits for those who do not wait (their places are needed).

    The body of the request has been taken: what has arrived of one holds up whatever follows it, also the end of the connection.
    """
    departure: Departure = request.scope[DEPARTURE]
    waiting = asyncio.current_task()
    assert waiting is not None, "an endpoint runs in a task"
    # Whoever left as soon as the request was written has its work begun nevertheless.
    gone = asyncio.get_running_loop().call_soon(waiting.cancel) if departure.left else None
    departure.hear(waiting.cancel)
    try:
        return await work
    except asyncio.CancelledError:
        if not departure.left:
            raise
        waiting.uncancel()
        raise HttpError(CLIENT_LEFT, "the client left") from None
    finally:
        departure.hear(None)
        if gone is not None:
            gone.cancel()
