"""Starlette's routes without its layers: what an endpoint raises is answered by the guard, not caught by three of them before.

On the way to a handler they took a seventh of a request's processor time in the HTTP thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.routing import Route, Router

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send


class Endpoint:
    """An ASGI app of a function that answers requests; Starlette would put a layer for errors round a bare one."""

    def __init__(self, serve: Callable[[Request], Awaitable[Response]]) -> None:
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        response = await self._serve(Request(scope, receive, send))
        await response(scope, receive, send)


def route(method: str, path: str, serve: Callable[[Request], Awaitable[Response]]) -> Route:
    """What answers requests of this method for this path."""
    return Route(path, Endpoint(serve), methods=[method])


class Table:
    """An ASGI app of routes; `rest`: of all that none of them is for, else 404. A slash too many is no other path's."""

    def __init__(self, routes: Sequence[BaseRoute], rest: ASGIApp | None = None) -> None:
        self._router = Router(routes, redirect_slashes=False, default=rest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        scope["app"] = self  # with one in the scope, Starlette raises what it refuses; else it would answer in plain text
        await self._router(scope, receive, send)
