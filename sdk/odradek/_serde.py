"""Values to bytes and back: one `Serde` per type hint, made once and kept.

JSON by msgspec, by pydantic where the type holds a pydantic model, raw for `bytes`. Topics differ in two things: `str`
is plain UTF-8, and a key is text. The hot path calls `encode` and `decode` bare and turns what they raise into
`BadInput` only then (`explain`).
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import msgspec
import msgspec.inspect

Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]

JSON = "application/json"
RAW = "application/octet-stream"
DECODE_ERRORS: tuple[type[Exception], ...] = (Exception,)
"""What a decoder raises: ValueErrors as a rule, but a type's own constructor (`__post_init__`) may raise anything."""

_AT = re.compile(r"^(?P<message>.*) - at (?P<where>.*)$", re.DOTALL)
_PATH = re.compile(r"`(\$[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `([^`]*)`$")
_HINTS_KEPT = 4096


class BadInput(ValueError):
    """Bytes that are not what a type hint asks for: `field` is a JSON path ("$.amount"), `message` what is wrong."""

    field: str
    message: str

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)
        self.field = field
        self.message = message

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


@dataclass(frozen=True, slots=True)
class Serde:
    """How values of one type travel. `decode` raises one of DECODE_ERRORS, which `explain` turns into BadInput."""

    encode: Encode
    decode: Decode
    admits_none: bool
    content_type: str
    expected: str
    """The type as its author wrote it, for messages."""

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


def topic_serde(hint: Any) -> Serde:
    """Give the serde of a topic's values: as `json_serde`, but `str` is plain UTF-8, and None is a tombstone."""
    plain, optional = _split_none(hint)
    if plain is bytes:
        return Serde(_same, _same, optional, RAW, describe(hint))
    if plain is str:
        return Serde(_encode_text, _decode_text, optional, "text/plain; charset=utf-8", describe(hint))
    return json_serde(hint)


def key_encoder(hint: Any) -> Encode:
    """Give the encoder of a topic's keys: `bytes` raw, all else text (what is a string in JSON loses its quotes)."""
    plain, _ = _split_none(hint)
    if plain is bytes:
        return _same
    if plain is str:
        return encode_key
    encode = json_serde(hint).encode

    def encode_as_text(key: Any) -> bytes:
        data = encode(key)
        return _decode_str(data).encode() if data[:1] == b'"' else data

    return encode_as_text


def encode_any(value: object) -> bytes:
    """Encode a value whose type nobody declared: raw if it is bytes, else JSON."""
    return value if isinstance(value, bytes) else _encode(value)


def encode_key(key: str) -> bytes:
    """Give the bytes of an object key; the inverse of `decode_key`, also for keys that are not UTF-8."""
    try:
        return key.encode()
    except UnicodeEncodeError:
        return key.encode("utf-8", "surrogateescape")
    except AttributeError:
        raise TypeError(f"a key must be a str, not {key!r}") from None


def decode_key(key: bytes) -> str:
    """Give an object key as text; bytes that are not UTF-8 become surrogate escapes."""
    return key.decode("utf-8", "surrogateescape")


def describe(hint: Any) -> str:
    """Name a type hint for a message."""
    if isinstance(hint, type) and not get_args(hint):
        return hint.__qualname__
    return str(hint).replace("typing.", "")


def explain(error: Exception, expected: str) -> BadInput:
    """Say where decoding failed and what was expected there."""
    if isinstance(error, BadInput):
        return error
    errors: Any = getattr(error, "errors", None)
    if callable(errors):
        return _explain_pydantic(cast("Sequence[Mapping[str, Any]]", errors(include_url=False)))
    if isinstance(error, msgspec.ValidationError):
        return _explain_msgspec(str(error))
    if isinstance(error, UnicodeDecodeError):
        return BadInput("$", f"expected UTF-8 text, got byte {error.object[error.start]:#04x} at offset {error.start}")
    if not isinstance(error, ValueError):
        return BadInput("$", f"{expected} does not take this value: {error!r}")
    return BadInput("$", f"expected {expected} as JSON, but: {error}")


def _explain_msgspec(text: str) -> BadInput:
    path, message = "$", text
    if found := _AT.match(text):
        message, where = found.groups()
        at = _PATH.search(where)
        path = at[1] if at else path
        if not where.startswith("`$"):  # "`key` in `$.prices`": the key of a mapping is wrong, not its value
            message = f"{message} (the {where.partition(' ')[0].strip('`')})"
    if missing := _MISSING.match(message):
        return BadInput(f"{path}.{missing[1]}", "this required field is missing")
    return BadInput(path, message)


def _explain_pydantic(errors: Sequence[Mapping[str, Any]]) -> BadInput:
    found = [("$" + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in e["loc"]), str(e["msg"])) for e in errors]
    (path, message), others = found[0], found[1:4]
    more = "".join(f"; {where}: {what}" for where, what in others)
    return BadInput(path, message + more + ("; …" if len(found) > 4 else ""))


@lru_cache(maxsize=_HINTS_KEPT)
def _kept_json(hint: Any) -> Serde:
    return _make_json(hint)


def _make_json(hint: Any) -> Serde:
    plain, optional = _split_none(hint)
    admits_none = optional or hint in (Any, object, None, type(None))
    if plain is bytes:
        if optional:
            return Serde(_none_is_empty, _empty_is_none(_same), optional, RAW, describe(hint))
        return Serde(_same, _same, optional, RAW, describe(hint))
    encode, decode = _pydantic(hint) if _holds_pydantic(hint, set()) else _msgspec(hint)
    return Serde(encode, _empty_is_none(decode) if admits_none else decode, admits_none, JSON, describe(hint))


def _msgspec(hint: Any) -> tuple[Encode, Decode]:
    try:
        nodes = list(_nodes(msgspec.inspect.type_info(hint)))
    except TypeError as error:
        raise TypeError(f"no serde for {describe(hint)}: {error}") from error
    for node in nodes:
        if isinstance(node, msgspec.inspect.CustomType) and node.cls is not object:
            raise TypeError(
                f"no serde for {describe(node.cls)} (in {describe(hint)}): use a dataclass, TypedDict, msgspec.Struct, "
                "attrs or pydantic class, a builtin type, or bytes that you encode yourself"
            )
    return _encode, msgspec.json.Decoder(hint).decode


def _holds_pydantic(hint: Any, seen: set[type]) -> bool:
    """Tell whether pydantic has to do it: a model or pydantic dataclass occurs in the type, or in a field of it."""
    if hasattr(hint, "__pydantic_validator__"):
        return True
    parts = [] if get_origin(hint) is Literal else list(get_args(hint))
    if isinstance(hint, type) and hint not in seen and "__annotations__" in vars(hint):
        seen.add(hint)
        parts += get_type_hints(hint, include_extras=True).values()
    return any(_holds_pydantic(part, seen) for part in parts)


def _pydantic(hint: Any) -> tuple[Encode, Decode]:
    from pydantic import TypeAdapter  # only where the user's own types have brought it

    adapter: TypeAdapter[Any] = TypeAdapter(hint)
    return adapter.dump_json, adapter.validate_json


def _nodes(root: msgspec.inspect.Type) -> Iterator[msgspec.Struct]:
    """Walk a type as msgspec sees it, each node once (types may be recursive)."""
    seen: set[int] = set()
    todo: list[Any] = [root]
    while todo:
        node = todo.pop()
        if isinstance(node, tuple):
            todo.extend(node)  # pyright: ignore[reportUnknownArgumentType]  (a tuple of nodes)
        elif isinstance(node, msgspec.Struct) and id(node) not in seen:
            seen.add(id(node))
            yield node
            todo.extend(getattr(node, name) for name in node.__struct_fields__)


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
    if not isinstance(data, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]  (untyped callers)
        raise TypeError(f"declared as bytes, but the value is {data!r}")
    return data


def _none_is_empty(value: bytes | None) -> bytes:
    return b"" if value is None else _same(value)


def _empty_is_none(decode: Decode) -> Decode:
    return lambda data: decode(data) if data else None


def _encode_text(value: str) -> bytes:
    try:
        return value.encode()
    except AttributeError:
        raise TypeError(f"declared as str, but the value is {value!r}") from None


def _decode_text(data: bytes) -> str:
    return data.decode()


def _dump(value: Any) -> Any:
    """Help msgspec with a pydantic model inside a value of undeclared type."""
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"cannot encode {type(value).__qualname__} as JSON: declare its type, or pass bytes of your own")
    return dump(mode="json")


_encode: Encode = msgspec.json.Encoder(enc_hook=_dump).encode
_decode_str: Callable[[bytes], str] = msgspec.json.Decoder(str).decode
