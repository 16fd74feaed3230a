"""What stands before every app of a worker: whatever goes wrong inside, and whatever is no HTTP, is answered in our form.

Starlette's own handlers end most errors; what they let through (an error in a handler of errors, a SystemExit in an app's
validator) would reach the client as plain text, and a request that cannot be parsed never reaches them at all.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from odradek_runtime.ingress.errors import CRASHED, HttpError, error_body, error_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("odradek.ingress")

UNREADABLE = "the request is no HTTP as it should be: malformed, or its line and headers are longer than 64 KiB"
_Protocol: Any = AutoHTTPProtocol


class Guard:
    """An ASGI app round another one: errors of every kind become JSON, and a line in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        begun = ended = False

        async def watched(message: Message) -> None:
            nonlocal begun, ended
            begun = True
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            log.exception("%s %s: %s", scope.get("method", ""), scope.get("path", ""), type(error).__name__)
            if not begun:
                await error_response(HttpError(500, CRASHED))(scope, receive, send)
            elif not ended:
                raise


class JsonProtocol(_Protocol):  # type: ignore[misc]  # which of uvicorn's two it is depends on what is installed
    """uvicorn's HTTP, with our form for what it refuses by itself."""

    def send_400_response(self, msg: str) -> None:
        """Answer a request that cannot be parsed, and close: where the next one begins is unknown."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = error_body(400, UNREADABLE)
            kind, size = "content-type: application/json", f"content-length: {len(body)}"
            head = ("HTTP/1.1 400 Bad Request", kind, size, "connection: close", "", "")
            self.transport.write("\r\n".join(head).encode() + body)
        self.transport.close()
