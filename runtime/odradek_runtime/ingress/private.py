"""The private port: where a peer's request arrives. This worker's engine answers it or nobody does, so nothing loops.

It trusts its network: only the workers of the app should reach it (they find each other's URLs in the group).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from odradek_runtime.ingress import wire
from odradek_runtime.ingress.admission import read_body
from odradek_runtime.ingress.errors import HttpError
from odradek_runtime.ingress.routes import unless_gone

if TYPE_CHECKING:
    from starlette.requests import Request as HttpRequest

    from odradek_runtime.ingress.dispatch import Dispatcher

_ENVELOPE_BYTES = 256 * 1024


class PrivateRoutes:
    """The endpoints behind the private port of one worker."""

    def __init__(self, dispatcher: Dispatcher, *, max_record_bytes: int) -> None:
        self._dispatcher = dispatcher
        self._max_body_bytes = max_record_bytes + _ENVELOPE_BYTES

    async def ask(self, request: HttpRequest) -> Response:
        """`POST`: a `Request` in, a `Reply` out, `moved` when the shard is not this worker's."""
        try:
            wanted = wire.decode_request(await read_body(request, self._max_body_bytes))
            async with self._dispatcher.place():
                reply = await unless_gone(request, self._dispatcher.ask_here(wanted))
        except ValueError as error:
            raise HttpError(400, str(error)) from error
        return Response(wire.encode_reply(reply), media_type="application/msgpack")
