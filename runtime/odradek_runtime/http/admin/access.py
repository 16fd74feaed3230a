"""Access: how every route behind the admin token begins and ends: the token of `worker.json`, a body in JSON or msgpack, an answer.

The log's calls block, so they run in the few threads of `Blocking`; what the log says of them becomes an answer's status.
"""

from __future__ import annotations

import asyncio
import hmac
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from starlette.responses import Response

from odradek_runtime.http.admin import wire
from odradek_runtime.http.ingress.admission import read_body
from odradek_runtime.http.ingress.errors import HttpError, bad_field, unavailable
from odradek_runtime.log.port import LogError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.requests import Request as HttpRequest

T = TypeVar("T")
THREADS = 4


class Access:
    """Who may use the routes behind the token. `others`: tokens of the workers that share the port."""

    def __init__(self, token: str, others: Callable[[], Iterable[str]] = tuple) -> None:
        self._token = token
        self._others = others

    def admit(self, request: HttpRequest) -> None:
        """Raise HttpError 401 unless the request shows the token."""
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not self._fits(given.encode()):
            raise HttpError(
                401,
                "this needs `authorization: Bearer TOKEN`, with the token in worker.json of the worker's data_dir",
                headers={"www-authenticate": "Bearer"},
            )

    def _fits(self, given: bytes) -> bool:
        if hmac.compare_digest(given, self._token.encode()):
            return True
        return any(hmac.compare_digest(given, other.encode()) for other in self._others() if other)


class Blocking:
    """Threads for what blocks: the log's calls."""

    def __init__(self, name: str = "odradek-admin") -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=name)

    async def run(self, work: Callable[[], T]) -> T:
        """Its result. Raises HttpError: 503 for what may be tried again, 400 for what may not."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except LogError as error:
            raise (unavailable(str(error)) if error.retriable else HttpError(400, str(error))) from error

    def close(self) -> None:
        """Free the threads."""
        self._threads.shutdown(wait=False)


def answer(request: HttpRequest, value: object) -> Response:
    """In the form that was asked for."""
    media_type = wire.MSGPACK if wire.MSGPACK in request.headers.get("accept", "") else wire.JSON
    return Response(wire.encode(value, media_type), media_type=media_type)


async def body_of(request: HttpRequest, kind: type[T], most_bytes: int, empty: T | None = None) -> T:
    """The request's body. `empty`: what it means that there is none. Raises HttpError 400 that names the field, 413."""
    media_type = request.headers.get("content-type", wire.JSON).partition(";")[0].strip()
    body = await read_body(request, most_bytes)
    if not body and empty is not None:
        return empty
    try:
        return wire.decode(body, media_type, kind)
    except ValueError as error:
        raise bad_field("body", str(error)) from error
