"""What decodes bytes that others may have written: each decoder, its documented errors, and sound inputs to spoil.

A target of a name has its corpus in `corpus/<name>.txt`: inputs that once went wrong, a line of hex each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from odradek_runtime.avro_long import long
from odradek_runtime.core.records import formats
from odradek_runtime.core.records.formats import FormatError
from odradek_runtime.core.records.request import Attach, Invoke, Reply
from odradek_runtime.http.ingress import wire as peers
from odradek_runtime.http.ingress.delay import delay_s
from odradek_runtime.http.ingress.errors import HttpError
from odradek_runtime.log.embedded import framing
from odradek_runtime.log.embedded.framing import EmbeddedMessage, FramingError
from odradek_runtime.routing import id_hash
from tests.engine.test_formats import FIXED

CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True, slots=True)
class Target:
    """A decoder. `prefix`: how many bytes of a sound input stay as they are, at least, in most of the spoilt ones."""

    decode: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    sound: Sequence[bytes]
    prefix: int = 0


def _record(raw: bytes) -> object:
    message = EmbeddedMessage("t", 0, 7, raw)
    return message.key(), message.value(), message.headers(), message.timestamp()


def _id(raw: bytes) -> object:
    id_ = raw.decode("utf-8", "replace")
    hash_ = id_hash(id_)
    assert id_.isascii(), "another text of the same letters is another id"
    assert 0 <= hash_ < 2**32
    return hash_


def _formats() -> dict[str, Target]:
    known = {name.lower(): format_ for name, format_ in vars(formats).items() if isinstance(format_, formats.Format)}
    return {
        f"format-{name}": Target(format_.decode, (FormatError,), [FIXED[name][0].encode(FIXED[name][1])], prefix=10)
        for name, format_ in known.items()
    }


_HEADERS = framing.encode_headers([("trace", b"1"), ("none", None)])
_RECORDS = [
    framing.encode_record(b"key", b"value" * 40, headers, long(1_700_000_000_000))
    for headers in (_HEADERS, framing.encode_headers(None))
]
_INVOKE = Invoke("inv_" + "a" * 26, "shop/add", b"key", b"{}", {"trace": "1"}, wait=True)
_PEERS = [peers.encode_request(each) for each in (_INVOKE, Attach("inv_x", wait=True))]

TARGETS: dict[str, Target] = {
    **_formats(),
    "embedded-record": Target(_record, (FramingError,), _RECORDS),
    "embedded-key": Target(framing.record_key, (FramingError,), _RECORDS),
    "embedded-topic": Target(framing.decode_topic, (FramingError,), [framing.encode_topic(3, "id", 8, {"a": "b", "c": "d"})]),
    "embedded-pair": Target(framing.decode_pair, (FramingError,), [framing.encode_pair(3, 2**40)]),
    "embedded-number": Target(framing.decode_long, (FramingError,), [long(-(2**63))]),
    "peer-request": Target(peers.decode_request, (ValueError,), _PEERS),
    "peer-reply": Target(peers.decode_reply, (ValueError,), [peers.encode_reply(Reply("completed", "inv_x", value=b"1"))]),
    "invocation-id": Target(_id, (ValueError,), [b"inv_" + b"a" * 26]),
    "delay": Target(lambda raw: delay_s(raw.decode("latin-1")), (HttpError,), [b"1500ms", b"P1W2DT3H4M5.5S", b"12"]),
}


def corpus(name: str) -> list[bytes]:
    """Inputs that once went wrong."""
    path = CORPUS / f"{name}.txt"
    return [bytes.fromhex(line) for line in path.read_text().splitlines()] if path.exists() else []
