"""The fingerprint of a request's body: how a second one with the same idempotency key is told from a repetition of the first.

It is kept with the invocation that the key started, for as long as its completion is.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from odradek._definition import Handler

SIZE_BYTES = 16
_JSON = msgspec.json.Encoder(order="deterministic")


def fingerprint(handler: Handler | None, payload: bytes | None) -> bytes:
    """Of what the handler is given; of JSON, the value counts and not its spelling. Empty where there is nothing to compare.

    `{"a": 1, "b": 2}` and `{"b":2,"a":1}` have the same one.
    """
    if handler is None or not handler.takes_argument:
        return b""
    body = payload or b""
    if handler.argument.content_type == "application/json":
        try:
            body = _JSON.encode(msgspec.json.decode(body))
        except (msgspec.MsgspecError, RecursionError, ValueError):
            pass  # the handler's own reader decides what that is
    return blake2b(body, digest_size=SIZE_BYTES).digest()


def differ(kept: bytes, asked: bytes) -> bool:
    """Whether both are known and not the same: what was written by an older version has none."""
    return bool(kept) and bool(asked) and kept != asked
