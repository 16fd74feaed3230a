"""Errors on the wire: every failed request is answered with JSON `{"code", "message", "metadata"}` and its status."""

from __future__ import annotations

import difflib
import logging
from typing import TYPE_CHECKING

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.requests import Request as HttpRequest

    from odradek_runtime.core.records.request import Failure

log = logging.getLogger("odradek.ingress")

ID_HEADER = "x-odradek-id"
CRASHED = "internal error of the ingress; the worker's log has the details"


class HttpError(Exception):
    """What is answered instead: `code` is the status, `metadata` goes into the body, `headers` onto the reply."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.metadata = dict(metadata or {})
        self.headers = dict(headers or {})


def unavailable(message: str, *, retry_after_s: int = 1) -> HttpError:
    """503 with `retry-after`: nothing was lost, ask again."""
    return HttpError(503, message, headers={"retry-after": str(retry_after_s)})


def too_many(message: str) -> HttpError:
    """429 with `retry-after`."""
    return HttpError(429, message, headers={"retry-after": "1"})


def bad_field(field: str, message: str) -> HttpError:
    """400 that names the field (a JSON path such as `$.amount`, a header, or a query parameter)."""
    return HttpError(400, f"{field}: {message}", metadata={"field": field})


def error_body(code: int, message: str, metadata: Mapping[str, str] | None = None) -> bytes:
    """The JSON of an error.

    >>> error_body(404, "no such thing")
    b'{"code":404,"message":"no such thing","metadata":{}}'
    """
    return msgspec.json.encode({"code": code, "message": message, "metadata": dict(metadata or {})})


def error_response(error: HttpError) -> Response:
    """An HttpError as a response."""
    body = error_body(error.code, error.message, error.metadata)
    return Response(body, error.code, error.headers, media_type="application/json")


def failure_response(failure: Failure, invocation_id: str) -> Response:
    """A failed invocation: its code is the status where that is an HTTP error, else 500; the body keeps the code."""
    status = failure.code if 400 <= failure.code <= 599 else 500
    body = error_body(failure.code, failure.message, failure.metadata)
    return Response(body, status, {ID_HEADER: invocation_id}, media_type="application/json")


def suggestion(name: str, known: Iterable[str], what: str) -> str:
    """The tail of a "no such ..." message: the nearest names, or all of them when there are few.

    >>> suggestion("custmer", ["customer", "shop"], "services")
    "; did you mean 'customer'?"
    >>> suggestion("zzz", ["customer", "shop"], "services")
    '; services: customer, shop'
    """
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=3)
    if near:
        return "; did you mean " + " or ".join(repr(n) for n in near) + "?"
    if not names:
        return f"; there are no {what}"
    return f"; {what}: " + ", ".join(names[:20]) + (" ..." if len(names) > 20 else "")


def told(request: HttpRequest, error: BaseException) -> Response | None:
    """What a client is told of an error. None: it is a defect of ours, and the log's."""
    if isinstance(error, HTTPException):  # Starlette's own refusals: 404, 405 of fixed routes
        message = f"{request.method} {request.url.path}: {error.detail}"
        return error_response(HttpError(error.status_code, message, headers=error.headers))
    return error_response(error) if isinstance(error, HttpError) else None
