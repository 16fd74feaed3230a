"""What stands round every app of a worker: whatever goes wrong inside is answered in our form, a SystemExit of a validator, too.

What is no HTTP never comes this far: `protocol` answers it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from starlette.requests import Request

from odradek_runtime.http.ingress.errors import CRASHED, HttpError, error_response, told

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("odradek.ingress")


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
            response = told(Request(scope), error)
            if response is None or begun:
                log.exception("%s %s: %s", scope.get("method", ""), scope.get("path", ""), type(error).__name__)
            if not begun:
                await (response or error_response(HttpError(500, CRASHED)))(scope, receive, send)
            elif not ended:
                raise
