"""The private port: where a peer's request arrives. This worker's engine answers it or nobody does, so nothing loops.

Whoever comes this far has shown the token of the app's workers (`credential`), which find each other's URLs in the group.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import Response

from odradek_runtime.http.ingress import wire
from odradek_runtime.http.ingress.admission import read_body
from odradek_runtime.http.ingress.departure import CLIENT_LEFT, unless_gone
from odradek_runtime.http.ingress.errors import HttpError

if TYPE_CHECKING:
    from starlette.requests import Request as HttpRequest
    from starlette.types import Receive, Scope, Send

    from odradek_runtime.core.records.request import Request
    from odradek_runtime.http.ingress.budget import Budget, Share
    from odradek_runtime.http.ingress.dispatch import Dispatcher

_ENVELOPE_BYTES = 256 * 1024
_HEADERS = [(b"content-type", b"application/msgpack")]


class PrivateRoutes:
    """The endpoints behind the private port of one worker."""

    def __init__(self, dispatcher: Dispatcher, *, max_record_bytes: int, budget: Budget) -> None:
        self._dispatcher = dispatcher
        self._budget = budget
        self._max_body_bytes = max_record_bytes + _ENVELOPE_BYTES

    async def ask(self, request: HttpRequest) -> Response:
        """`POST`: a `Request` in, a `Reply` out, `moved` when the shard is not this worker's."""
        self._budget.check()
        share = self._budget.share()
        try:
            wanted = wire.decode_request(await read_body(request, self._max_body_bytes, share))
            self._dispatcher.shard_of(wanted)
        except ValueError as error:
            share.give_back()
            raise HttpError(400, str(error)) from error
        except BaseException:
            share.give_back()
            raise
        return Answer(self._dispatcher, request, wanted, share)


class Answer(Response):
    """The reply of this worker's engine. If it has to wait, the peer is told meanwhile that the invocation is durable."""

    def __init__(self, dispatcher: Dispatcher, request: HttpRequest, wanted: Request, share: Share) -> None:
        super().__init__(media_type="application/msgpack")
        self._dispatcher = dispatcher
        self._request = request
        self._wanted = wanted
        self._share = share

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._share:
            async with self._dispatcher.place():
                await self._serve(send)

    async def _serve(self, send: Send) -> None:
        try:
            await unless_gone(self._request, self._answer(send))
        except HttpError as error:
            if error.code != CLIENT_LEFT:
                raise

    async def _answer(self, send: Send) -> None:
        accepted = asyncio.get_running_loop().create_future()
        asking = asyncio.ensure_future(self._dispatcher.ask_here(self._wanted, lambda: accepted.set_result(None)))
        try:
            await asyncio.wait({asking, accepted}, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                asking.result()  # a refusal is told by its status, which is sent first
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            if not asking.done():
                await send({"type": "http.response.body", "body": wire.ACCEPTED, "more_body": True})
            reply = await asking
        finally:
            asking.cancel()
        await send({"type": "http.response.body", "body": wire.encode_reply(reply), "more_body": False})
