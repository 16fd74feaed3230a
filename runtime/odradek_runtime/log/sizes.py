"""How the log counts: what a record takes, to the byte, in the batch that a broker holds against `max.message.bytes`.

Of the port, because every log counts alike: Kafka, its embedded twin, and whoever must know before a record is written.
"""

from __future__ import annotations

from .port import Headers

BATCH_BYTES = 61
"""The head of a batch. A record that is too large to share one has a batch for itself."""
FIXED_BYTES = 3
"""Of each record: its attributes, and the distance of its time and of its offset to the batch's first."""
BARE_BYTES = BATCH_BYTES + 24
"""More than a record without headers takes beside key and value."""
LIMIT_BYTES = 1_048_588
"""`max.message.bytes` where nobody has set it."""


def record_bytes(key: bytes | None, value: bytes | None, headers: Headers | None = None) -> int:
    """What a record takes alone in its batch, uncompressed.

    >>> record_bytes(b"key", b"value") - len(b"key") - len(b"value")
    68
    """
    size = FIXED_BYTES + _field(key) + _field(value) + _varint(len(headers) if headers else 0)
    for name, text in headers or ():
        size += _field(name.encode()) + _field(text)
    return BATCH_BYTES + _varint(size) + size


def _field(data: bytes | None) -> int:
    """A length, and what it is the length of; nothing at all has the length -1."""
    return 1 if data is None else _varint(len(data)) + len(data)


def _varint(number: int) -> int:
    """Bytes of a number in zigzag, seven bits each."""
    return max((number.bit_length() + 7) // 7, 1)
