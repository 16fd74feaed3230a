"""Values to bytes and back: one `Serde` per type hint, made once and kept.

JSON by msgspec, by pydantic where the type holds a pydantic model, raw for `bytes`. Topics differ in two things: `str`
is plain UTF-8, and a key is text. What would not come back is refused: a type when its serde is made (`_checks`,
`_pydantic`), a value when it is encoded (`_guard`). The hot path calls `decode` bare and turns what it raises into
`BadInput` only then (`explain`).
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from odradek._bad_input import DECODE_ERRORS, explain
from odradek._check import Check, is_text
from odradek._checks import checks_of
from odradek._errors import RefusedValue
from odradek._guard import Decode, Encode, Guard, own_check
from odradek._pydantic import holds_pydantic, pydantic_codec

JSON = "application/json"
RAW = "application/octet-stream"
_HINTS_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Serde:
    """How values of one type travel. `decode` raises one of DECODE_ERRORS, which `explain` turns into BadInput."""

    encode: Encode
    """Raises RefusedValue for what would not come back."""
    decode: Decode
    admits_none: bool
    content_type: str
    expected: str
    """The type as its author wrote it, for messages."""
    guard: Guard
    """Makes another `encode`, whose refusals say what the value is for ("state 'spent'")."""

    def load(self, data: bytes) -> Any:
        """Decode `data`; raises BadInput."""
        try:
            return self.decode(data)
        except DECODE_ERRORS as error:
            raise explain(error, self.expected) from error


def json_serde(hint: Any) -> Serde:
    """Give the serde of a type hint in handlers, steps and state; raises TypeError when no serde fits it."""
    try:
        hash(hint)
    except TypeError:  # Annotated with unhashable metadata
        return _make_json(hint)
    return _kept_json(hint)


def serde_for(what: str, hint: Any) -> Serde:
    """Give the serde of a type that a handler hands over as it runs: as `json_serde`, but the refusal is RefusedValue."""
    try:
        return json_serde(hint)
    except (TypeError, NameError) as error:
        raise RefusedValue(what, "type", str(error)) from error


def topic_serde(hint: Any) -> Serde:
    """Give the serde of a topic's values: as `json_serde`, but `str` is plain UTF-8, and None is a tombstone."""
    plain, optional = _split_none(hint)
    if plain is bytes:
        return _serde(hint, Guard(_BYTES, bytes), _same, optional, RAW)
    if plain is str:
        return _serde(hint, Guard(_STR, str.encode), bytes.decode, optional, "text/plain; charset=utf-8")
    return json_serde(hint)


def is_text_key(hint: Any) -> bool:
    """Tell whether a topic's keys of this type are plain text."""
    return _split_none(hint)[0] is str


def key_encoder(hint: Any, what: str = "a key") -> Encode:
    """Give the encoder of a topic's keys: `bytes` raw, all else text (what is a string in JSON loses its quotes)."""
    plain, _ = _split_none(hint)
    if plain is bytes:
        return Guard(_BYTES, bytes)(what)
    if plain is str:
        return Guard(_STR, encode_key)(what)
    encode = json_serde(hint).guard(what)

    def encode_as_text(key: Any) -> bytes:
        data = encode(key)
        return _decode_str(data).encode() if data[:1] == b'"' else data

    return encode_as_text


def encode_any(value: object, what: str = "the value") -> bytes:
    """Encode a value whose type nobody declared by the type it has: raw if it is bytes, else JSON. Raises RefusedValue."""
    return value if type(value) is bytes else _OWN(what)(value)


def encode_key(key: str) -> bytes:
    """Give the bytes of an object key; the inverse of `decode_key`, also for keys that are not UTF-8. Raises RefusedValue."""
    if type(key) is not str:
        raise RefusedValue("a key", "$", f"must be a str, not {key!r}")
    try:
        return key.encode()
    except UnicodeEncodeError:
        return _encode_escaped(key)


def _encode_escaped(key: str) -> bytes:
    data = key.encode("utf-8", "surrogatepass")
    try:
        data = key.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        pass
    if decode_key(data) != key:
        raise RefusedValue("a key", "$", f"{key!r} holds surrogates that stand for no bytes; pass text")
    return data


def encode_headers(what: str, headers: Mapping[str, str | bytes]) -> list[tuple[str, bytes | None]]:
    """Give headers as a record carries them. Raises RefusedValue."""
    return [(_text(what, "a header's name", name).decode(), _header(what, name, value)) for name, value in headers.items()]


def _header(what: str, name: str, value: str | bytes) -> bytes:
    return value if type(value) is bytes else _text(what, f"header {name!r}", value)


def _text(what: str, where: str, value: Any) -> bytes:
    try:
        return Guard(_STR, str.encode)(what)(value)
    except RefusedValue as error:
        raise RefusedValue(what, where, str(error).partition(": $: ")[2]) from None


def encode_name(name: str) -> bytes:
    """Give the bytes of a state's name. Raises RefusedValue."""
    if type(name) is not str or not name or not is_text(name):
        raise RefusedValue("a state's name", "$", f"must be text and not empty, not {name!r}")
    return name.encode()


def decode_key(key: bytes) -> str:
    """Give an object key as text; bytes that are not UTF-8 become surrogate escapes."""
    return key.decode("utf-8", "surrogateescape")


def describe(hint: Any) -> str:
    """Name a type hint for a message."""
    if isinstance(hint, type) and not get_args(hint):
        return hint.__qualname__
    return str(hint).replace("typing.", "")


@lru_cache(maxsize=_HINTS_KEPT)
def _kept_json(hint: Any) -> Serde:
    return _make_json(hint)


def _make_json(hint: Any) -> Serde:
    plain, optional = _split_none(hint)
    admits_none = optional or hint in (Any, object, None, type(None))
    if plain is bytes:
        if optional:
            return _serde(hint, Guard(_SOME_BYTES, _none_is_empty), _empty_is_none(_same), True, RAW)
        return _serde(hint, Guard(_BYTES, bytes), _same, False, RAW)
    name = describe(hint)
    if holds_pydantic(hint):
        dump, decode = pydantic_codec(hint, name)
        guard = Guard(_ANYTHING, dump, decode)
    else:
        check, reads_back = checks_of(hint, name)
        decode = msgspec.json.Decoder(hint).decode
        guard = Guard(check, _dump, decode if reads_back else None)
    return _serde(hint, guard, _empty_is_none(decode) if admits_none else decode, admits_none, JSON)


def _serde(hint: Any, guard: Guard, decode: Decode, admits_none: bool, content_type: str) -> Serde:
    name = describe(hint)
    return Serde(guard(f"a value of {name}"), decode, admits_none, content_type, name, guard)


def _split_none(hint: Any) -> tuple[Any, bool]:
    """Give the hint without `| None` and without Annotated, and whether it had the `| None`."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, types.UnionType):
        args = [arg for arg in get_args(hint) if arg is not type(None)]
        if len(args) == 1 and len(args) < len(get_args(hint)):
            return _split_none(args[0])[0], True
        return hint, len(args) < len(get_args(hint))
    return hint, False


def _same(data: bytes) -> bytes:
    return data


def _none_is_empty(value: bytes | None) -> bytes:
    return value or b""


def _empty_is_none(decode: Decode) -> Decode:
    return lambda data: decode(data) if data else None


_BYTES = Check("bytes", (bytes,))
_STR = Check("str", (str,))
_ANYTHING = Check("", ok=lambda _: True)
_SOME_BYTES = Check(
    "bytes | None",
    (bytes, type(None)),
    lambda value: value is None or (type(value) is bytes and value != b""),
    "no bytes stand for None here; declare bytes without None, or pass None",
)
_dump: Encode = msgspec.json.Encoder().encode
_decode_str: Callable[[bytes], str] = msgspec.json.Decoder(str).decode


def _dump_model(value: Any) -> Any:
    """Help msgspec with a pydantic model inside a value of undeclared type."""
    return msgspec.Raw(json_serde(type(value)).encode(value))


_OWN = Guard(own_check(lambda kind: json_serde(kind).guard), msgspec.json.Encoder(enc_hook=_dump_model).encode)
