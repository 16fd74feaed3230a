"""The parts of a record that need care: its headers, whatever its writer put there, and its place as people read it.

The one place that asks a `Message` for its headers.

Kafka takes a header name of any bytes. The Kafka client wants UTF-8: for one other name it raises for the whole record, and asked
again gives a list with a hole in it, which ends the process of whoever looks there. It does not even raise where the interpreter
has grown quick at the call, and takes a method in C at its word: `_ask` goes by a call that is always checked.
"""

from __future__ import annotations

from operator import methodcaller
from typing import Protocol, cast, runtime_checkable

from .port import Headers, Message

UNREADABLE = "odradek-unreadable-headers"
"""The one header that stands for all of a record's, where one of them has a name that is not UTF-8."""


_ask = methodcaller("headers")


@runtime_checkable
class _Settable(Protocol):
    def set_headers(self, headers: list[tuple[str, bytes | None]]) -> None: ...


def place_of(message: Message) -> str:
    """Where it stands.

    >>> from confluent_kafka import Message
    >>> place_of(Message("orders", 0, 17, b"k", b"v", []))
    'orders[0]@17'
    """
    return f"{message.topic()}[{message.partition()}]@{message.offset()}"


def headers_of(message: Message) -> Headers:
    """Names and values, in order; `UNREADABLE` alone, with the client's words, where the client cannot give them.

    >>> from confluent_kafka import Message
    >>> headers_of(Message("orders", 0, 17, b"k", b"v", [("trace", b"1"), ("trace", None)]))
    [('trace', b'1'), ('trace', None)]
    """
    try:
        return cast("Headers | None", _ask(message)) or ()
    except Exception as error:  # noqa: BLE001  whatever a client raises for a record belongs to that record
        told: list[tuple[str, bytes | None]] = [(UNREADABLE, str(error.__cause__ or error).encode())]
        if isinstance(message, _Settable):
            message.set_headers(told)
        return told
