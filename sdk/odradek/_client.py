"""A client of an app over its HTTP ingress, with the words of a context."""

from __future__ import annotations

import asyncio
import itertools
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote_from_bytes

import httpx

from odradek._calls import Calls, Target
from odradek._context import Context, WorkflowContext
from odradek._errors import NOTHING, Seconds, TerminalError, seconds
from odradek._future import Call
from odradek._guard import Decode
from odradek._serde import JSON, RAW

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_CONNECT_TIMEOUT_S = 5.0
_SEND_TIMEOUT_S = 30.0


class Client(Calls[Context, WorkflowContext]):
    """Calls handlers from outside, over HTTP. Use it as an async context manager.

    `call` and `attach` give a future that is on its way at once; awaiting it raises what the handler ended with
    (TerminalError), or httpx.TransportError when the app cannot be reached. `send`, `resolve` and `reject` return when
    the app has made it durable: they block for that one round trip.

    A TerminalError of code 503 is the app's own: it had no answer in time. Its `invocation_id` then says whether the
    invocation exists: if so, `attach` waits for its result, and calling again without `idempotency_key` starts a second one.

    Args:
        url: where a worker's ingress listens.

    Example::

        async with Client("http://shop.internal:8080") as shop:
            print(await shop.call(total, key="bob"))
    """

    def __init__(self, url: str = "http://127.0.0.1:8080") -> None:
        self.url = url.rstrip("/")
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._http: httpx.AsyncClient | None = None
        self._blocking: httpx.Client | None = None

    async def __aenter__(self) -> Self:
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S))
        self._blocking = httpx.Client(timeout=httpx.Timeout(_SEND_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._http is not None:
            await self._http.aclose()
        if self._blocking is not None:
            self._blocking.close()
        self._http = self._blocking = None

    def _call(self, target: Target, idempotency_key: str | None, headers: Mapping[str, str]) -> Call[Any]:
        request = httpx.Request(
            "POST",
            self._handler_url(target),
            content=target.payload,
            headers=_headers(target, idempotency_key, headers),
        )
        return self._start(request, target.decode)

    def _send(
        self, target: Target, delay: Seconds | datetime | None, idempotency_key: str | None, headers: Mapping[str, str]
    ) -> str:
        url = self._handler_url(target) + "/send"
        if delay is not None:
            url += f"?delay={_delay(delay)}"
        response = self._now("POST", url, target.payload, _headers(target, idempotency_key, headers))
        return str(response.json()["invocationId"])

    def _attach_invocation(self, invocation_id: str, decode: Decode) -> Call[Any]:
        path = f"/odradek/invocations/{_escape(invocation_id.encode())}/attach"
        return self._start(httpx.Request("GET", self.url + path), decode)

    def _attach_workflow(self, workflow: str, key: bytes, decode: Decode) -> Call[Any]:
        path = f"/odradek/workflows/{workflow}/{_escape(key)}/attach"
        return self._start(httpx.Request("GET", self.url + path), decode)

    def _complete(self, awakeable_id: str, value: bytes) -> None:
        self._now("POST", f"{self.url}/odradek/awakeables/{_escape(awakeable_id.encode())}/resolve", value, NOTHING)

    def _fail(self, awakeable_id: str, message: str, code: int) -> None:
        body = json.dumps({"message": message, "code": code, "metadata": {}}).encode()
        url = f"{self.url}/odradek/awakeables/{_escape(awakeable_id.encode())}/reject"
        self._now("POST", url, body, {"content-type": JSON})

    def _handler_url(self, target: Target) -> str:
        service, _, handler = target.name.partition("/")
        if "/" in handler:
            raise TypeError(f"{target.name!r} is another app's handler: make a Client of that app's URL")
        key = "" if target.key is None else f"/{_escape(target.key)}"
        return f"{self.url}/{service}{key}/{handler}"

    def _start(self, request: httpx.Request, decode: Decode) -> Call[Any]:
        """Send a request in the background; the call completes with its reply."""
        if self._http is None:
            raise RuntimeError("Client: use it as `async with Client(url) as client`")
        call: Call[Any] = Call(loop=asyncio.get_running_loop(), seq=next(self._numbers))
        task = asyncio.create_task(_complete(self._http, request, decode, call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return call

    def _now(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """Send a request and wait for its reply, blocking."""
        if self._blocking is None:
            raise RuntimeError("Client: use it as `async with Client(url) as client`")
        response = self._blocking.request(method, url, content=body, headers=dict(headers))
        _check(response)
        return response


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


def _headers(target: Target, idempotency_key: str | None, headers: Mapping[str, str]) -> dict[str, str]:
    sent = {"content-type": RAW if target.raw else JSON, **headers}
    if idempotency_key is not None:
        sent["idempotency-key"] = idempotency_key
    return sent


def _delay(delay: Seconds | datetime) -> str:
    if isinstance(delay, datetime):
        delay = max((delay - datetime.now(UTC)).total_seconds(), 0.0)
    return f"{seconds('send(): delay', delay):.3f}".rstrip("0").rstrip(".") + "s"


def _escape(part: bytes) -> str:
    """Escape a part of a path; dots alone would be taken for "this folder" and "the one above"."""
    return quote_from_bytes(part, safe="") if part.strip(b".") else "%2E" * len(part)
