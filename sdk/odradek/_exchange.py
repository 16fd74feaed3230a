"""What a client sends over HTTP and what comes back. Stands below `_client`, and is loaded when a client is opened, with httpx.

An app whose handlers run in a worker has no use for httpx, which takes as long to load as the rest of the SDK.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import httpx

from odradek._errors import TerminalError
from odradek._future import Call

if TYPE_CHECKING:
    from collections.abc import Mapping

    from odradek._guard import Decode

_CONNECT_TIMEOUT_S = 5.0
_SEND_TIMEOUT_S = 30.0


class Exchange:
    """The connections of one client, and the requests that are on their way."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S))
        self._blocking = httpx.Client(timeout=httpx.Timeout(_SEND_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S))

    async def close(self) -> None:
        """Cancel what is on its way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()
        self._blocking.close()

    def post(self, url: str, body: bytes, headers: Mapping[str, str], decode: Decode) -> Call[Any]:
        """Send a request in the background; the call completes with its reply."""
        return self._start(httpx.Request("POST", url, content=body, headers=headers), decode)

    def get(self, url: str, decode: Decode, headers: Mapping[str, str] | None = None) -> Call[Any]:
        """Ask in the background; the call completes with the reply."""
        return self._start(httpx.Request("GET", url, headers=headers), decode)

    def post_now(self, url: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """Send a request and wait for its reply, blocking. Raises what the ingress says went wrong."""
        response = self._blocking.request("POST", url, content=body, headers=dict(headers))
        _check(response)
        return response

    def _start(self, request: httpx.Request, decode: Decode) -> Call[Any]:
        call: Call[Any] = Call(loop=asyncio.get_running_loop(), seq=next(self._numbers))
        task = asyncio.create_task(_complete(self._http, request, decode, call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return call


async def _complete(http: httpx.AsyncClient, request: httpx.Request, decode: Decode, call: Call[Any]) -> None:
    try:
        response = await http.send(request)
        call.named(response.headers.get("x-odradek-id", ""))
        _check(response)
        value = decode(response.content)
    except asyncio.CancelledError:
        call.cancel()
        raise
    except Exception as error:  # noqa: BLE001  (whatever it is, it is the outcome)
        if not call.done():
            call.set_exception(error)
    else:
        if not call.done():
            call.set_result(value)


def _check(response: httpx.Response) -> None:
    """Raise what the ingress says went wrong."""
    if response.status_code < 400:
        return
    try:
        body = response.json()
        message, code, metadata = str(body["message"]), int(body["code"]), dict(body.get("metadata") or {})
    except (ValueError, KeyError, TypeError):
        message, code, metadata = response.text or response.reason_phrase, response.status_code, {}
    error = TerminalError(message, code=code if 400 <= code <= 599 else response.status_code, metadata=metadata)
    error.invocation_id = response.headers.get("x-odradek-id", "")
    raise error
