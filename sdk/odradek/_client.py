"""A client of an app over its HTTP ingress, with the words of a context."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote_from_bytes

from odradek._calls import Calls, Target
from odradek._context import Context, WorkflowContext
from odradek._errors import NOTHING, Seconds, seconds
from odradek._serde import JSON, RAW

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from odradek._exchange import Exchange
    from odradek._future import Call
    from odradek._guard import Decode


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
        self._exchange: Exchange | None = None

    async def __aenter__(self) -> Self:
        from odradek._exchange import Exchange  # httpx is as large as the SDK, and an app in a worker has no use for it

        self._exchange = Exchange()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            await exchange.close()

    def _call(self, target: Target, idempotency_key: str | None, headers: Mapping[str, str]) -> Call[Any]:
        url = self._handler_url(target)
        return self._open().post(url, target.payload, _headers(target, idempotency_key, headers), target.decode)

    def _send(
        self, target: Target, delay: Seconds | datetime | None, idempotency_key: str | None, headers: Mapping[str, str]
    ) -> str:
        url = self._handler_url(target) + "/send"
        if delay is not None:
            url += f"?delay={_delay(delay)}"
        response = self._open().post_now(url, target.payload, _headers(target, idempotency_key, headers))
        return str(response.json()["invocationId"])

    def _attach_invocation(self, invocation_id: str, decode: Decode) -> Call[Any]:
        path = f"/odradek/invocations/{_escape(invocation_id.encode())}/attach"
        return self._open().get(self.url + path, decode)

    def _attach_workflow(self, workflow: str, key: bytes, decode: Decode) -> Call[Any]:
        path = f"/odradek/workflows/{workflow}/{_escape(key)}/attach"
        return self._open().get(self.url + path, decode)

    def _attach_call(self, target: str, key: bytes | None, idempotency_key: str, decode: Decode) -> Call[Any]:
        url = self._handler_url(Target(target, key, b"", decode, raw=False)) + "/attach"
        return self._open().get(url, decode, {"idempotency-key": idempotency_key})

    def _complete(self, awakeable_id: str, value: bytes) -> None:
        self._open().post_now(f"{self.url}/odradek/awakeables/{_escape(awakeable_id.encode())}/resolve", value, NOTHING)

    def _cancel(self, invocation_id: str) -> None:
        self._later("Client.cancel", "`odradek cancel ID`, or POST /invocations/{id}/cancel on the admin API")

    def _fail(self, awakeable_id: str, message: str, code: int) -> None:
        body = json.dumps({"message": message, "code": code, "metadata": {}}).encode()
        url = f"{self.url}/odradek/awakeables/{_escape(awakeable_id.encode())}/reject"
        self._open().post_now(url, body, {"content-type": JSON})

    def _handler_url(self, target: Target) -> str:
        service, _, handler = target.name.partition("/")
        if "/" in handler:
            raise TypeError(f"{target.name!r} is another app's handler: make a Client of that app's URL")
        key = "" if target.key is None else f"/{_escape(target.key)}"
        return f"{self.url}/{service}{key}/{handler}"

    def _open(self) -> Exchange:
        if self._exchange is None:
            raise RuntimeError("Client: use it as `async with Client(url) as client`")
        return self._exchange


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
