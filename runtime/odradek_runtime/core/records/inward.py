"""Records that reach a shard by way of its commands topic: forwarded input records, and commands nobody can read.

A record whose key lives on another shard is forwarded there in the transaction that moves its offset; at its shard it is
processed as if it had been read there, with its own topic, partition, offset and time. A record that is delivered a second time,
by a replay or after its partition was reset, says so, wherever it is processed.
"""

from __future__ import annotations

from odradek._definition import Subscription
from odradek._port import Origin
from odradek_runtime.log.parts import headers_of
from odradek_runtime.log.port import Message, Output

from .dead_letter import left_out
from .formats import COMMAND, Command, FormatError, Header, Stored


def forward(subscription: Subscription, message: Message, topic_id: str, shard: int) -> Command:
    """The command that carries a record, of the topic with this id, to the shard of its key."""
    headers = [Header(name, value) for name, value in headers_of(message)]
    return Command(
        kind="forward", target=subscription.handler.target, key=message.key(), payload=message.value(), headers=headers,
        topic=message.topic(), partition=message.partition(), offset=message.offset(), timestamp_ms=message.timestamp()[1],
        ref=shard, topic_id=topic_id, id=again_of(message),
    )  # fmt: skip


class Forwarded:
    """A forwarded record as a `Message`."""

    __slots__ = ("_command",)

    def __init__(self, command: Command) -> None:
        self._command = command

    @property
    def topic_id(self) -> str:
        """As the shard that read it knew it; "" from a version that did not tell."""
        return self._command.topic_id

    @property
    def again(self) -> str:
        """What delivers the record again; empty where it was read for the first time."""
        return self._command.id

    def topic(self) -> str:
        return self._command.topic

    def partition(self) -> int:
        return self._command.partition

    def offset(self) -> int:
        return self._command.offset

    def key(self) -> bytes | None:
        return self._command.key

    def value(self) -> bytes | None:
        return self._command.payload

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return [(header.name, header.value) for header in self._command.headers]

    def timestamp(self) -> tuple[int, int]:
        return 1, self._command.timestamp_ms


class Again:
    """A record that was read before, as a `Message`: what it starts now is another invocation than what it started then.

    Args:
        message: as read.
        again: the id of the replay, or of the reset, that delivers it again.
    """

    __slots__ = ("_message", "again")

    def __init__(self, message: Message, again: str) -> None:
        self._message = message
        self.again = again

    def topic(self) -> str:
        return self._message.topic()

    def partition(self) -> int:
        return self._message.partition()

    def offset(self) -> int:
        return self._message.offset()

    def key(self) -> bytes | None:
        return self._message.key()

    def value(self) -> bytes | None:
        return self._message.value()

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return list(headers_of(self._message))

    def timestamp(self) -> tuple[int, int]:
        return self._message.timestamp()


def again_of(message: Message) -> str:
    """What delivers this record again; empty where it is read for the first time."""
    return message.again if isinstance(message, (Again, Forwarded)) else ""


def is_barrier(message: Message) -> bool:
    """Whether a record of the commands topic is a barrier."""
    try:
        return COMMAND.decode(message.value() or b"").kind == "barrier"
    except FormatError:
        return False


def refused_command(topic: str, message: Message, why: str, field: str = "", *, with_value: bool = True) -> Output:
    """The dead letter for a command that cannot be read, or says what cannot be; `field`: in which of its fields."""
    told = {
        "odradek-error": why,
        "odradek-code": "400",
        "odradek-topic": message.topic(),
        "odradek-partition": str(message.partition()),
        "odradek-offset": str(message.offset()),
    }
    if field:
        told["odradek-field"] = field
    headers = [(name, text.encode()[:4096]) for name, text in told.items()]
    value = message.value()
    if not with_value and value is not None:
        headers.append(left_out("value", len(value)))
    return Output(topic, None, message.key(), value if with_value else None, [*headers, *headers_of(message)], 0)


def undeliverable(topic: str, command: Command, why: str, code: int = 404) -> Output:
    """The dead letter for a command to an app that is not there, or that cannot be carried out."""
    told = {"odradek-error": why, "odradek-code": str(code), "odradek-invocation": command.id}
    headers = [(name, text.encode()[:4096]) for name, text in told.items()]
    return Output(topic, None, None, COMMAND.encode(command), headers)


def origin_of(message: Message) -> Origin:
    """A record as `ctx.record` shows it."""
    headers = tuple(headers_of(message))
    return Origin(
        message.topic(), message.partition(), message.offset(), message.timestamp()[1], message.key(), headers, again_of(message)
    )


def recorded_origin(stored: Stored) -> Origin:
    """The same for the record that started an invocation of the journal."""
    headers = tuple((header.name, header.value) for header in stored.headers)
    return Origin(
        stored.topic, stored.partition, stored.offset, stored.timestamp_ms, stored.record_key, headers, stored.replay
    )
