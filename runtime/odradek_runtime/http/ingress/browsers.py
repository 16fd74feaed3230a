"""What a browser sends on behalf of a page: passed on when the page is this server's own or an allowed one, else refused.

Any page can have its visitor's browser send a request to a worker: to one on the visitor's own machine, or inside a network that
the page itself cannot reach. The page does not get to read the answer, but the handler has run. A browser says where a request
comes from, in headers that no page can forge (`sec-fetch-site`, `origin`); other clients send neither, and are not asked.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from starlette.middleware.cors import CORSMiddleware

from odradek_runtime.http.ingress.errors import HttpError, error_response

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from odradek_runtime.http.ingress.door import Door

log = logging.getLogger("odradek.ingress")

HOST = frozenset({b"host"})
ASKED = frozenset({b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest", b"x-forwarded-host"})
OURS = frozenset({b"same-origin", b"none"})
"""Of `sec-fetch-site`: a page of this very server, or the person who sits there."""
TO_LOOK_AT = frozenset({"/health", "/ready", "/metrics", "/odradek/health"})
"""A link to these may be followed from anywhere: they start nothing, and hold nothing."""
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD")
"""All that a page may try: which one is right is told by the answer."""
EXPOSED = ("x-odradek-id", "retry-after", "allow")
SHOWN = 200


class Browsers:
    """An ASGI app round another one: 403 for what names another host, and for what a page of another origin sent."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door
        self._allowed = Allowed(
            app,
            allow_origins=door.origins or (),
            allow_methods=METHODS,
            allow_headers=["*"],
            allow_private_network=True,
            expose_headers=EXPOSED,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        said = {name: value for name, value in scope["headers"] if name in ASKED}
        host = said.get(b"host")
        if host is not None and not self._door.names.has(host):
            await self._refuse("host", _another_host(host))(scope, receive, send)
            return
        if said.keys() <= HOST:
            await self._app(scope, receive, send)
            return
        origin = said.get(b"origin")
        if origin is not None and self._door.origins and origin.decode("latin-1") in self._door.origins:
            await self._allowed(scope, receive, send)
        elif is_own(said) or _is_a_look(scope, said):
            await self._app(scope, receive, send)
        else:
            await self._refuse("origin", _another_origin(origin, never=self._door.origins is None))(scope, receive, send)

    def _refuse(self, reason: str, error: HttpError) -> ASGIApp:
        self._door.refused[reason] += 1
        log.warning("%s", error.message)
        return error_response(error)


class Allowed(CORSMiddleware):
    """For the pages that may ask. What is refused before they ask is told as every error is, not in plain text."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Whether a page may send what it is about to."""
        answer = super().preflight_response(request_headers)
        if answer.status_code == 200:
            return answer
        headers = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        return error_response(HttpError(answer.status_code, bytes(answer.body).decode(), headers=headers))


def is_own(said: dict[bytes, bytes]) -> bool:
    """Whether it comes from a page of this server, or from no page.

    `sec-fetch-site` decides where it is there; browsers leave it out towards plain HTTP other than loopback's. A proxy may have
    given us another `host`, and tell its own in `x-forwarded-host`, which no page can send unasked.

    >>> is_own({b"sec-fetch-site": b"same-origin", b"origin": b"https://a.example", b"host": b"worker:8080"})
    True
    >>> is_own({b"sec-fetch-site": b"same-site", b"host": b"localhost:8080"}), is_own({b"host": b"localhost:8080"})
    (False, True)
    >>> [is_own({b"origin": origin, b"host": b"a.example:81"}) for origin in (b"http://a.example:81", b"http://a.example", b"null")]
    [True, False, False]
    >>> is_own({b"origin": b"https://a.example", b"host": b"worker:8080", b"x-forwarded-host": b"a.example"})
    True
    """
    site = said.get(b"sec-fetch-site")
    if site is not None:
        return site.strip().lower() in OURS
    origin = said.get(b"origin")
    if origin is None:
        return True
    authority = origin.lower().partition(b"://")[2]
    called = (said.get(b"host", b""), *said.get(b"x-forwarded-host", b"").split(b","))
    return bool(authority) and authority in {name.strip().lower() for name in called}


def _is_a_look(scope: Scope, said: dict[bytes, bytes]) -> bool:
    """Whether a person follows a link to what may be looked at; no frame within another page."""
    by_hand = said.get(b"sec-fetch-mode") == b"navigate" and said.get(b"sec-fetch-dest") == b"document"
    return by_hand and scope["method"] == "GET" and scope["path"] in TO_LOOK_AT


def _another_host(host: bytes) -> HttpError:
    message = f"the request is for the host {_shown(host)}, which is no name of this port; one that is goes into the setting "
    return HttpError(403, message + "http_hosts", metadata={"setting": "http_hosts"})


def _another_origin(origin: bytes | None, *, never: bool) -> HttpError:
    whose = "a page of another site" if origin is None else f"a page of {_shown(origin)}"
    if never:
        return HttpError(403, f"the request was sent by {whose}: this port answers none")
    if origin is None:
        return HttpError(403, f"the request was sent by {whose}, in a way that leaves out which; no setting allows that")
    message = f"the request was sent by {whose}; an origin whose pages may ask this worker goes into the setting http_cors_origins"
    return HttpError(403, message, metadata={"setting": "http_cors_origins"})


def _shown(value: bytes) -> str:
    return repr(value[:SHOWN].decode("latin-1"))
