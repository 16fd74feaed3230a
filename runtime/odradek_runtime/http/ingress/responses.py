"""From the engine's `Reply` to the response on the wire: result, acknowledgement, state, or failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from odradek_runtime.core.records.request import Failure, Reply
from odradek_runtime.http.ingress.errors import ID_HEADER, HttpError, failure_response, unavailable
from odradek_runtime.http.ingress.standing import attach_path

if TYPE_CHECKING:
    from odradek._definition import Handler

_ACKNOWLEDGED = {"accepted": "Accepted", "previously_accepted": "PreviouslyAccepted"}
_SETTLED = {"settled": "Settled", "settled_before": "PreviouslySettled"}


def respond(reply: Reply, handler: Handler | None) -> Response:
    """The response to a reply; without an `handler` (asked by id alone) the result's bytes tell its type."""
    headers = {ID_HEADER: reply.invocation_id}
    if reply.status == "completed":
        media_type = _media_type(reply.value, handler)
        return Response(reply.value, 200, headers, media_type=media_type)
    if reply.status in _ACKNOWLEDGED:
        body = {"invocationId": reply.invocation_id, "status": _ACKNOWLEDGED[reply.status]}
        return Response(msgspec.json.encode(body), 202, headers, media_type="application/json")
    if reply.status == "running":
        return Response(b'{"status":"running"}', 202, headers, media_type="application/json")
    if reply.status == "failed":
        return failure_response(reply.failure or Failure(500, "failed without a reason"), reply.invocation_id)
    if reply.status in _SETTLED:
        body = {"invocationId": reply.invocation_id, "status": _SETTLED[reply.status]}
        return Response(msgspec.json.encode(body), 200, headers, media_type="application/json")
    if reply.status == "nobody_waits":
        raise HttpError(404, "nobody waits for this awakeable: its invocation has ended, or there never was one")
    if reply.status == "not_found":
        id_ = reply.invocation_id
        raise HttpError(404, f"no invocation {id_!r} of a public handler: it never was, or its retention has passed")
    if reply.status == "other_body":
        raise HttpError(
            409,
            f"the idempotency key has started {reply.invocation_id} with another body; send another key with another request",
            metadata={"invocationId": reply.invocation_id, "attach": attach_path(reply.invocation_id)},
            headers=headers,
        )
    if reply.status == "refused" and reply.failure is not None:
        raise HttpError(reply.failure.code, reply.failure.message)
    raise unavailable("the shard has moved; the request may be repeated")


def _media_type(value: bytes, handler: Handler | None) -> str:
    if handler is None:
        return "application/json" if _is_json(value) else "application/octet-stream"
    return handler.result.content_type


def _is_json(value: bytes) -> bool:
    try:
        msgspec.json.decode(value, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    return True
