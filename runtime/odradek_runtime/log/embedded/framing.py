"""Rows of the embedded log as bytes: Avro binary laid out by hand, the generic encoder being too slow for records.

Owns the encoding of what stands on disk and the `Message` that readers get. The shapes are those of
schemas/embedded_*.avsc; a test decodes every one of them with fastavro.
"""

from __future__ import annotations

from collections.abc import Mapping

from odradek_runtime.avro_long import long
from odradek_runtime.log.port import Headers, LogError

CREATE_TIME = 1
LONG_BYTES = 10
"""An Avro long has no more."""


class FramingError(LogError):
    """Bytes that are no row of the embedded log. The disk's checksums hold, so somebody else has written them."""

    def __init__(self, what: str, raw: bytes) -> None:
        super().__init__(
            f"the embedded log holds {what} that this version of odradek cannot read ({len(raw)} bytes, {raw[:12].hex()}...):"
            " it was written by another version, or by something else. Put a copy of its folder back, or move the folder away to"
            " start with nothing",
            retriable=False,
        )


_SHORT = [long(n) for n in range(4096)]


def _length(number: int) -> bytes:
    return _SHORT[number] if number < 4096 else long(number)


def read_long(raw: bytes, at: int) -> tuple[int, int]:
    """The long at this place and the place after it. Raises IndexError or ValueError where there is none."""
    rest = shift = 0
    while True:
        byte = raw[at]
        at += 1
        rest |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (rest >> 1) ^ -(rest & 1), at
        shift += 7
        if shift == 7 * LONG_BYTES:
            raise ValueError("a long without an end")


def _read_size(raw: bytes, at: int) -> tuple[int, int]:
    """How many bytes or items follow: no more than there can be. Raises IndexError or ValueError."""
    size, at = read_long(raw, at)
    if not 0 <= size <= len(raw) - at:
        raise ValueError(f"{size} of {len(raw) - at}")
    return size, at


def _text(text: str) -> bytes:
    raw = text.encode()
    return _length(len(raw)) + raw


def _read_text(raw: bytes, at: int) -> tuple[str, int]:
    size, at = _read_size(raw, at)
    return raw[at : at + size].decode(), at + size


def _optional(data: bytes | None) -> bytes:
    return b"\x00" if data is None else b"\x02" + _length(len(data)) + data


def _read_optional(raw: bytes, at: int) -> tuple[bytes | None, int]:
    if not raw[at]:
        return None, at + 1
    size = raw[at + 1]
    if size < 0x80:
        size >>= 1
        at += 2
    else:
        size, at = _read_size(raw, at + 1)
    return raw[at : at + size], at + size


def encode_headers(headers: Headers | None) -> bytes:
    """An Avro array of {name, value}; the same for every record that carries these headers."""
    if not headers:
        return b"\x00"
    items = b"".join(_text(name) + _optional(value) for name, value in headers)
    return _length(len(headers)) + items + b"\x00"


def encode_record(key: bytes | None, value: bytes | None, headers: bytes, timestamp: bytes) -> bytes:
    """embedded_record.avsc; `headers` and `timestamp` come encoded, since most records of a transaction share them."""
    if key is not None and value is not None:
        return b"\x02%b%b\x02%b%b%b%b" % (_length(len(key)), key, _length(len(value)), value, headers, timestamp)
    return _optional(key) + _optional(value) + headers + timestamp


def record_key(raw: bytes) -> tuple[bytes | None, bool]:
    """The key of an encoded record, and whether it is a tombstone (it has no value). Raises FramingError."""
    try:
        key, at = _read_optional(raw, 0)
        return key, not raw[at]
    except (IndexError, ValueError) as error:
        raise FramingError("a record", raw) from error


def encode_topic(number: int, identity: str, partitions: int, config: Mapping[str, str]) -> bytes:
    """embedded_topic.avsc."""
    entries = b"".join(_text(name) + _text(value) for name, value in sorted(config.items()))
    table = _length(len(config)) + entries + b"\x00" if config else b"\x00"
    return long(number) + _text(identity) + long(partitions) + table


def decode_topic(raw: bytes) -> tuple[int, str, int, dict[str, str]]:
    """(number, id, partitions, config). Raises FramingError."""
    config: dict[str, str] = {}
    try:
        number, at = read_long(raw, 0)
        identity, at = _read_text(raw, at)
        partitions, at = read_long(raw, at)
        count, at = _read_size(raw, at)
        for _ in range(count):
            name, at = _read_text(raw, at)
            config[name], at = _read_text(raw, at)
    except (IndexError, ValueError) as error:
        raise FramingError("a topic", raw) from error
    return number, identity, partitions, config


def encode_pair(first: int, second: int) -> bytes:
    """embedded_partition.avsc (first, end) and embedded_block.avsc (bytes, newest timestamp)."""
    return long(first) + long(second)


def decode_pair(raw: bytes) -> tuple[int, int]:
    """The inverse of `encode_pair`. Raises FramingError."""
    try:
        first, at = read_long(raw, 0)
        return first, read_long(raw, at)[0]
    except (IndexError, ValueError) as error:
        raise FramingError("two numbers", raw) from error


def decode_long(raw: bytes) -> int:
    """embedded_number.avsc: one long. Raises FramingError."""
    try:
        return read_long(raw, 0)[0]
    except (IndexError, ValueError) as error:
        raise FramingError("a number", raw) from error


class EmbeddedMessage:
    """One record as read; has the methods of `log.port.Message`. Bytes that are none: FramingError, at the latest when asked."""

    __slots__ = ("_key", "_offset", "_partition", "_raw", "_rest", "_topic", "_value")

    def __init__(self, topic: str, partition: int, offset: int, raw: bytes) -> None:
        self._topic = topic
        self._partition = partition
        self._offset = offset
        self._raw = raw
        try:
            self._key, at = _read_optional(raw, 0)
            self._value, self._rest = _read_optional(raw, at)
            raw[self._rest]  # what follows is read when it is asked for
        except (IndexError, ValueError) as error:
            raise self._unread() from error

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return self._read_headers()[0] or None

    def timestamp(self) -> tuple[int, int]:
        at = self._rest + 1 if not self._raw[self._rest] else self._read_headers()[1]
        try:
            return CREATE_TIME, read_long(self._raw, at)[0]
        except (IndexError, ValueError) as error:
            raise self._unread() from error

    def _read_headers(self) -> tuple[list[tuple[str, bytes | None]], int]:
        headers: list[tuple[str, bytes | None]] = []
        try:
            count, at = _read_size(self._raw, self._rest)
            for _ in range(count):
                name, at = _read_text(self._raw, at)
                value, at = _read_optional(self._raw, at)
                headers.append((name, value))
        except (IndexError, ValueError) as error:
            raise self._unread() from error
        return headers, at + 1 if count else at

    def _unread(self) -> FramingError:
        return FramingError(f"a record ({self._topic}[{self._partition}]@{self._offset})", self._raw)

    def __repr__(self) -> str:
        return f"EmbeddedMessage({self._topic}[{self._partition}]@{self._offset} key={self._key!r})"
