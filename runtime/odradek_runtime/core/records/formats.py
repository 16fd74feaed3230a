"""Formats: everything written to Kafka or to the store, in Avro single-object encoding (Avro 1.11 specification).

A value is C3 01, the CRC-64-AVRO fingerprint of its writer's schema, then the datum. `schemas/*.avsc` hold today's
schemas; `schemas/past/*.avsc` every one that was ever shipped and has changed since, so that old data decodes for ever.
"""

from __future__ import annotations

import io
import json
from importlib.resources import files
from typing import Any, Generic, TypeVar

import fastavro
import msgspec
from fastavro.schema import fingerprint, to_parsing_canonical_form

from . import avro
from .request import Failure

S = TypeVar("S", bound=msgspec.Struct)
_AVRO: Any = fastavro  # its stubs are partly untyped
_MAGIC = b"\xc3\x01"
_SHIPPED: set[bytes] = set()
"""What everything begins with that any version up to this one has written, of whatever format."""


class FormatError(Exception):
    """Bytes that this version cannot read: not ours, torn, or written by a newer odradek."""


class OtherVersion(FormatError):
    """Avro of a schema that this version does not have: a newer odradek wrote it, or something else that writes such."""


def of_a_format(data: bytes) -> bool:
    """Whether they begin as all that is written in a format does."""
    return data[:2] == _MAGIC and len(data) >= 10


class Header(msgspec.Struct, frozen=True):
    """One header of a record or a call."""

    name: str
    value: bytes | None


class Command(msgspec.Struct):
    """A record of `<app>.commands` (schemas/command.avsc)."""

    kind: str
    id: str = ""
    target: str = ""
    key: bytes | None = None
    payload: bytes | None = None
    headers: list[Header] = []
    caller_app: str = ""
    caller_id: str = ""
    ref: int = -1
    at_ms: int = 0
    idempotent: bool = False
    failure: Failure | None = None
    topic: str = ""
    partition: int = -1
    offset: int = -1
    timestamp_ms: int = 0
    name: str = ""
    topic_id: str = ""


UNBEGUN = ("scheduled", "inboxed")
BEGUN = ("running", "backing_off", "paused")
ENDED = ("completed", "failed")
"""Of an invocation's statuses: before it runs, from then on, and after."""


class Stored(msgspec.Struct):
    """An unfinished or kept invocation (schemas/invocation.avsc)."""

    id: str
    target: str
    key: bytes
    payload: bytes | None
    headers: list[Header]
    status: str = "running"
    topic: str = ""
    partition: int = -1
    offset: int = -1
    timestamp_ms: int = 0
    record_key: bytes | None = None
    caller_app: str = ""
    caller_id: str = ""
    caller_ref: int = -1
    retain_ms: int = 0
    created_ms: int = 0
    failed_ms: int = 0
    attempts: int = 0
    reason: str = ""
    pause: str = ""
    python: str = ""
    result: bytes | None = None
    failure: Failure | None = None
    fingerprint: bytes = b""
    replay: str = ""
    due_ms: int = 0
    unbegun: str = ""


class Entry(msgspec.Struct):
    """One journal entry (schemas/chunk.avsc)."""

    kind: str
    ref: int
    name: str = ""
    key: bytes | None = None
    value: bytes | None = None
    failure: Failure | None = None
    at_ms: float = 0.0


class Chunk(msgspec.Struct):
    """What one epoch added to a journal (schemas/chunk.avsc)."""

    entries: list[Entry]
    at_ms: int = 0


class Lock(msgspec.Struct):
    """Who holds an object key, and its inbox (schemas/lock.avsc)."""

    holder: str
    head: int
    tail: int


class Slot(msgspec.Struct):
    """One place in an inbox (schemas/slot.avsc)."""

    id: str


class Promise(msgspec.Struct):
    """What a promise was given (schemas/promise.avsc)."""

    value: bytes | None
    failure: Failure | None


class Timer(msgspec.Struct):
    """Something that is due at a time (schemas/timer.avsc)."""

    kind: str
    attempt: int = 0
    first_ms: int = 0
    created_ms: int = 0
    clock: int = 0


class Position(msgspec.Struct):
    """Next offset to read of one partition; what moved it last, and how far it had come before."""

    topic: str
    partition: int
    offset: int
    topic_id: str = ""
    reset: str = ""
    until: int = 0


class Positions(msgspec.Struct):
    """The record that closes a shard's part of an epoch (schemas/positions.avsc)."""

    shards: int
    incarnation: int
    epoch: int
    sequence: int
    time_ms: int
    inputs: list[Position]
    journal_id: str = ""
    state_id: str = ""
    clock: int = 0
    clocks_ms: list[int] = []


class Replay(msgspec.Struct):
    """One partition's part of a replay (schemas/replay.avsc)."""

    id: str
    topic: str
    partition: int
    first: int
    next: int
    stop: int
    topic_id: str = ""
    handler: str = ""
    keys: list[bytes] = []
    rate: float = 0.0
    asked_by: str = ""
    begun_ms: int = 0
    ended_ms: int = 0
    status: str = "running"
    reason: str = ""
    records: int = 0
    passed: int = 0
    gone: int = 0
    parts: int = 0


class ReplayTally(msgspec.Struct):
    """What has become of a replay's invocations, as far as one shard has counted (schemas/replay_tally.avsc)."""

    id: str
    started: int = 0
    ended_well: int = 0
    dead_letters: int = 0
    left_out: int = 0
    at_ms: int = 0


class StorePosition(msgspec.Struct):
    """How far a store has followed its changelogs (schemas/store_position.avsc)."""

    journal_id: str
    state_id: str
    journal_offset: int
    state_offset: int
    time_ms: int
    sifted: bool = False


class Format(Generic[S]):
    """The codec of one schema: `encode` writes today's form, `decode` reads every form ever shipped.

    >>> SLOT.decode(SLOT.encode(Slot(id="inv_1")))
    Slot(id='inv_1')
    """

    def __init__(self, name: str, type_: type[S]) -> None:
        source = _load(f"{name}.avsc")
        self._type = type_
        self._what = name.replace("_", " ")
        # msgspec notes on the class what it is made of, when it is first asked: two threads that ask first end the process.
        msgspec.json.Decoder(type_)
        self._schema: Any = _AVRO.parse_schema(source)
        self._write = avro.writer(source)
        self._prefix = _MAGIC + _fingerprint(source)
        self._writers: dict[bytes, Any] = {self._prefix: self._schema}
        for past in _past(name):
            self._writers[_MAGIC + _fingerprint(past)] = _AVRO.parse_schema(past)
        _SHIPPED.update(self._writers)

    def encode(self, value: S) -> bytes:
        return self._prefix + self._write(value)

    def decode(self, data: bytes) -> S:
        """Raises FormatError when the bytes are not of this schema, in any version."""
        writer = self._writers.get(data[:10])
        if writer is None:
            kind = OtherVersion if of_a_format(data) and data[:10] not in _SHIPPED else FormatError
            raise kind(
                f"no {self._what} that this version of odradek knows (starts with {data[:10].hex()}); "
                "it was written by a newer version, or by something else"
            )
        try:
            datum: Any = _AVRO.schemaless_reader(io.BytesIO(data[10:]), writer, self._schema)
            return msgspec.convert(datum, self._type)
        except (EOFError, ValueError, IndexError, TypeError, msgspec.ValidationError) as error:
            raise FormatError(f"a damaged {self._what}: {error}") from error


def _load(name: str) -> Any:
    return json.loads(files("odradek").joinpath("schemas", name).read_text())


def _past(name: str) -> list[Any]:
    folder = files("odradek").joinpath("schemas", "past")
    if not folder.is_dir():
        return []
    found = sorted(item.name for item in folder.iterdir() if item.name.split(".")[0] == name)
    return [_load(f"past/{item}") for item in found]


def _fingerprint(schema: Any) -> bytes:
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


COMMAND = Format("command", Command)
INVOCATION = Format("invocation", Stored)
CHUNK = Format("chunk", Chunk)
LOCK = Format("lock", Lock)
SLOT = Format("slot", Slot)
PROMISE = Format("promise", Promise)
TIMER = Format("timer", Timer)
POSITIONS = Format("positions", Positions)
REPLAY = Format("replay", Replay)
REPLAY_TALLY = Format("replay_tally", ReplayTally)
STORE_POSITION = Format("store_position", StorePosition)
