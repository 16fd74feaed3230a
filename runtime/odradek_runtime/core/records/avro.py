"""Avro's binary encoding (specification 1.11), as far as the engine's own schemas go: a schema becomes a function, once.

Stands below the formats, which write by it and read by fastavro. That one walks a schema anew for each datum it writes, by way of
dicts, and tries each branch of a union; here a value's attributes go straight into bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from odradek_runtime.avro_long import long

Write = Callable[[Any], bytes]
Schema = Any
"""As JSON has it: a name, a union's list, or an object."""

LOWEST, HIGHEST = -64, 1024
LONG_BITS = 64


def writer(schema: Schema) -> Write:
    """What writes a datum of a schema: of a record, an object with its fields as attributes.

    The function raises TypeError, ValueError or OverflowError for a value that the schema has no place for.
    """
    match schema:
        case str():
            return _WRITERS[schema]
        case ["null", other]:
            return _write_optional(writer(other))
        case {"type": "record", "fields": fields}:
            return _write_record([field["name"] for field in fields], [writer(field["type"]) for field in fields])
        case {"type": "array", "items": items}:
            return _write_array(writer(items))
        case {"type": "map", "values": values}:
            return _write_map(writer(values))
        case {"type": "enum", "symbols": symbols}:
            return _write_enum(symbols)
        case _:
            raise ValueError(f"no writer for the schema {schema}")


_SHORT = tuple(long(number) for number in range(LOWEST, HIGHEST))
_NOTHING, _SOMETHING = long(0), long(1)
"""Which branch of a union with null it is."""
_END = long(0)


def _write_long(number: int) -> bytes:
    if LOWEST <= number < HIGHEST:
        return _SHORT[number - LOWEST]
    if not -(1 << (LONG_BITS - 1)) <= number < 1 << (LONG_BITS - 1):
        raise OverflowError(f"{number} takes more than {LONG_BITS} bits")
    return long(number)


def _write_bytes(data: bytes) -> bytes:
    size = len(data)
    return (_SHORT[size - LOWEST] if size < HIGHEST else long(size)) + data


def _write_string(text: str) -> bytes:
    data = text.encode()
    size = len(data)
    return (_SHORT[size - LOWEST] if size < HIGHEST else long(size)) + data


def _write_boolean(flag: bool) -> bytes:
    return b"\x01" if flag else b"\x00"


_write_double = struct.Struct("<d").pack


def _write_optional(write: Write) -> Write:
    def write_optional(value: Any) -> bytes:
        return _NOTHING if value is None else _SOMETHING + write(value)

    return write_optional


def _write_record(names: Sequence[str], writers: Sequence[Write]) -> Write:
    if len(names) == 1:
        (name,), (only,) = names, writers
        return lambda value: only(getattr(value, name))
    attributes = attrgetter(*names)

    def write_record(value: Any) -> bytes:
        return b"".join([write(attribute) for write, attribute in zip(writers, attributes(value), strict=True)])

    return write_record


def _write_array(write: Write) -> Write:
    def write_array(items: Sequence[Any]) -> bytes:
        if not items:
            return _END
        return b"".join([_write_long(len(items)), *map(write, items), _END])

    return write_array


def _write_map(write: Write) -> Write:
    def write_map(entries: Mapping[str, Any]) -> bytes:
        if not entries:
            return _END
        written = [_write_string(key) + write(value) for key, value in entries.items()]
        return b"".join([_write_long(len(entries)), *written, _END])

    return write_map


def _write_enum(symbols: Sequence[str]) -> Write:
    written = {symbol: long(index) for index, symbol in enumerate(symbols)}

    def write_enum(symbol: str) -> bytes:
        found = written.get(symbol)
        if found is None:
            raise ValueError(f"{symbol!r} is none of {', '.join(symbols)}")
        return found

    return write_enum


_WRITERS: dict[str, Write] = {
    "int": _write_long,
    "long": _write_long,
    "bytes": _write_bytes,
    "string": _write_string,
    "boolean": _write_boolean,
    "double": _write_double,
}
