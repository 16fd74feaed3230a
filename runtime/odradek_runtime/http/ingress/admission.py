"""Bad input stops here: what a request must fulfil before the engine sees it, each refusal naming the field."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest

from odradek._bad_input import BadInput
from odradek_runtime.http.ingress.errors import HttpError, bad_field, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from odradek._definition import Handler
    from odradek_runtime.core.disclosure import Disclosure
    from odradek_runtime.http.ingress.budget import Share

IDEMPOTENCY_HEADER = "idempotency-key"
HEADERS_LIMIT_BYTES = 16 * 1024
"""Of the headers a handler is given; with the payload they must fit into one record."""
IDEMPOTENCY_KEY_LIMIT = 1024
_NO_JSON = re.compile(r"(multipart|image|audio|video|font)/|(application|text)/(xml|html|css|javascript|zip|gzip|pdf)|[^;]*\+xml")
_OF_THE_CONNECTION = frozenset(
    {
        *("host", "connection", "content-length", "content-type", "transfer-encoding", "te", "trailer", "upgrade"),
        *("keep-alive", "expect", "proxy-connection", "proxy-authenticate", "user-agent", IDEMPOTENCY_HEADER),
        *("accept", "accept-encoding", "accept-language"),
    }
)


def check_content_type(handler: Handler, content_type: str | None) -> None:
    """415 for what is certainly not JSON. Lenient otherwise: `curl -d` says form data and means JSON."""
    if content_type and _takes_json(handler) and _NO_JSON.match(content_type.strip().lower()):
        raise HttpError(415, f"{handler.target} takes JSON (content-type: application/json), not {content_type}")


async def read_body(request: HttpRequest, limit_bytes: int, share: Share | None = None) -> bytes:
    """The body, which `share` holds as it arrives.

    Raises HttpError 413 as soon as it is known to be too long, 429 when there is no memory for it, 400 when the client leaves,
    503 when the worker does before the body is there.
    """
    too_long = HttpError(413, f"the body is longer than {limit_bytes} bytes (setting max_record_bytes)")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise HttpError(413, f"the body has {declared} bytes, more than {limit_bytes} (setting max_record_bytes)")
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit_bytes:
                raise too_long
            if share is not None:
                share.take(len(chunk))
    except ClientDisconnect:
        raise HttpError(400, "the connection ended within the body") from None
    except asyncio.CancelledError:  # nobody else cancels a request that has not begun to wait
        said = "this worker is leaving, and the body has not arrived in time; nothing was started, the request may be repeated"
        raise unavailable(said) from None
    return bytes(body)


def check_payload(handler: Handler, payload: bytes, id_: str, disclosure: Disclosure) -> None:
    """400 naming the field when the body does not decode as the argument of the handler, for which `id_` was to begin."""
    try:
        handler.decode(payload)
    except BadInput as error:
        said = disclosure.bad_input(error, id_, handler.target)
        raise HttpError(400, said, metadata={"field": error.field}) from error


def idempotency_key(request: HttpRequest) -> str | None:
    """The header's value, None without it. Raises HttpError 400 when it is empty or far too long."""
    value = request.headers.get(IDEMPOTENCY_HEADER)
    if value is not None and not 0 < len(value) <= IDEMPOTENCY_KEY_LIMIT:
        raise bad_field(IDEMPOTENCY_HEADER, f"must have 1 to {IDEMPOTENCY_KEY_LIMIT} characters, has {len(value)}")
    return value


def handler_headers(request: HttpRequest, withheld: Callable[[str], bool]) -> Mapping[str, str]:
    """What the handler finds in `ctx.headers`: lower-case names, repeated ones joined. Raises HttpError 413."""
    kept: dict[str, str] = {}
    size = 0
    for name, value in request.headers.items():
        if name in _OF_THE_CONNECTION or withheld(name):
            continue
        kept[name] = f"{kept[name]}, {value}" if name in kept else value
        size += len(name) + len(value)
    if size > HEADERS_LIMIT_BYTES:
        raise HttpError(413, f"the headers hold {size} bytes, more than {HEADERS_LIMIT_BYTES}")
    return kept


def _takes_json(handler: Handler) -> bool:
    return handler.takes_argument and handler.argument.content_type == "application/json"
