"""The private wire between workers of one app: a request or a reply as msgpack, on a port that only peers reach.

Workers of one app run the same version at a time (one code, one deployment), and nothing of this is stored.
"""

from __future__ import annotations

import msgspec

from odradek_runtime.core.records.request import Attach, Invoke, Reply, Request, Settle

ASK_PATH = "/odradek/private/ask"
_INVOKE, _ATTACH, _SETTLE = b"I", b"L", b"S"
"""Kinds of requests. `A` was an attachment to any invocation, public or not: a worker of that time answers this one with a 400."""
ACCEPTED = b"A"
"""Sent ahead of a reply that has to wait: the invocation is durable. No reply, a map, begins with it."""
_encoder = msgspec.msgpack.Encoder()
_DECODERS: dict[bytes, msgspec.msgpack.Decoder[Invoke] | msgspec.msgpack.Decoder[Attach] | msgspec.msgpack.Decoder[Settle]] = {
    _INVOKE: msgspec.msgpack.Decoder(Invoke),
    _ATTACH: msgspec.msgpack.Decoder(Attach),
    _SETTLE: msgspec.msgpack.Decoder(Settle),
}
_reply = msgspec.msgpack.Decoder(Reply)


def encode_request(request: Request) -> bytes:
    """One byte of kind, then the fields."""
    kind = _INVOKE if isinstance(request, Invoke) else _ATTACH if isinstance(request, Attach) else _SETTLE
    return kind + _encoder.encode(request)


def decode_request(body: bytes) -> Request:
    """Raises ValueError when a peer of another version, or nobody's peer, speaks."""
    kind, fields = body[:1], body[1:]
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise ValueError(f"unknown kind {kind!r} of request")
    try:
        return decoder.decode(fields)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a request of a peer: {error}") from error


def encode_reply(reply: Reply) -> bytes:
    """The fields as a map."""
    return _encoder.encode(reply)


def decode_reply(body: bytes) -> Reply:
    """Raises ValueError when it is no reply."""
    try:
        return _reply.decode(body)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a reply of a peer: {error}") from error
