"""What the admin API and its client say about topics: msgspec structs, as JSON (bytes in base64) or msgpack."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from odradek_runtime.recovery.replay_report import ReplayReport
from odradek_runtime.worker.upkeep.jobs import Job, Kind
from odradek_runtime.worker.upkeep.sightings import JournalSeen

JSON = "application/json"
MSGPACK = "application/msgpack"
T = TypeVar("T")


class WireRecord(msgspec.Struct, array_like=True):
    """A record to publish; the fields are `port.Output`'s."""

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] | None = None
    timestamp_ms: int = 0


class WireMessage(msgspec.Struct, array_like=True):
    """A record as read; `timestamp` is (type, Unix milliseconds)."""

    offset: int
    timestamp: tuple[int, int]
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] | None = None


class Page(msgspec.Struct):
    """Some records of a partition; reading goes on at `next_offset`."""

    records: list[WireMessage]
    next_offset: int


class WireTopic(msgspec.Struct):
    """A topic; the fields are `port.TopicInfo`'s. `id` is empty when it is asked to be made."""

    name: str
    partitions: int
    config: dict[str, str]
    id: str = ""


class Bounds(msgspec.Struct):
    """Where a partition begins and ends."""

    first: int
    end: int


class Committed(msgspec.Struct):
    """What a group has committed of one topic: partition -> next offset to read."""

    offsets: dict[int, int]


class Position(msgspec.Struct):
    """How many source items a publisher has durably published."""

    position: int


class TopicNames(msgspec.Struct):
    """All topics."""

    topics: list[str]


class WirePart(msgspec.Struct):
    """A range of one partition: from `first` on, `stop` left out."""

    partition: int
    first: int
    stop: int


class WireReplay(msgspec.Struct):
    """A replay to begin. `handler` empty: all that subscribe; `keys` empty: all; `rate`: records a second, 0 without limit."""

    id: str
    topic: str
    parts: list[WirePart]
    handler: str = ""
    keys: list[bytes] = []
    rate: float = 0.0
    asked_by: str = ""
    dry_run: bool = False


class WireTarget(msgspec.Struct):
    """Where one partition is to be read on."""

    partition: int
    offset: int


class WireReset(msgspec.Struct):
    """Positions of this app to move."""

    id: str
    app: str
    topic: str
    parts: list[WireTarget]
    asked_by: str = ""
    dry_run: bool = False


class WireMove(msgspec.Struct):
    """One position that would move from `now` to `to`: offsets `again` or `skipped`, and of those asked for `gone`."""

    partition: int
    now: int
    to: int
    again: int
    skipped: int
    gone: int
    first: int
    end: int


class Ordered(msgspec.Struct, omit_defaults=True):
    """An order that was given: `new` False when it had been before, or is a dry run, of which `moves` says what it would do."""

    id: str
    new: bool
    moves: list[WireMove] = []


class Begun(msgspec.Struct):
    """An order: `new` False when it had been given before, or is a dry run. `letters`: the topic takes dead letters."""

    id: str
    new: bool
    handlers: list[str] = []
    letters: bool = False


class ReplayRows(msgspec.Struct):
    """What one worker knows of replays: the shards that it can speak for, and their rows."""

    shards: list[int]
    rows: list[tuple[bytes, bytes]]


class Replays(msgspec.Struct):
    """All replays; `unknown_shards`: those that nobody speaks for just now: what they have to tell is missing."""

    replays: list[ReplayReport]
    unknown_shards: list[int]


class WantedVerifications(msgspec.Struct):
    """Stores to verify: of these shards, or of all."""

    shards: list[int] | None = None
    asked_by: str = ""


class WantedRebuild(msgspec.Struct):
    """A store to build anew."""

    shard: int
    asked_by: str = ""


class WantedJob(msgspec.Struct):
    """Either, as one worker passes it on to another."""

    kind: Kind
    shard: int
    asked_by: str


class WantedInvocation(msgspec.Struct):
    """One invocation, as one worker asks another for it."""

    shard: int
    id: str


class SeenInvocation(msgspec.Struct):
    """It, and its journal; None: there is none."""

    seen: JournalSeen | None


class WantedControl(msgspec.Struct):
    """What is to be done with invocations. `order`: its id; the same one again does nothing. Empty: made up."""

    ids: list[str] = []
    asked_by: str = ""
    order: str = ""
    entry: int = -1
    """Of restarts: from which entry on; less than 0: as a new invocation."""


class Controlled(msgspec.Struct):
    """Of which invocations it is ordered, of which it cannot be (and why), and which there are not. `new`: not ordered before."""

    order: str
    new: bool
    ordered: list[str] = []
    refused: dict[str, str] = {}
    unknown: list[str] = []
    becomes: dict[str, str] = {}
    """Of restarts: the ids of those that begin in their place."""


class Jobs(msgspec.Struct):
    """What has been begun, or was under way."""

    verifications: list[Job]


class Refused(msgspec.Struct):
    """What any error's answer says."""

    message: str


def encode(value: Any, media_type: str) -> bytes:
    """In msgpack when that is asked for, else JSON."""
    return msgspec.msgpack.encode(value) if media_type == MSGPACK else msgspec.json.encode(value)


def decode(body: bytes, media_type: str, kind: type[T]) -> T:
    """Raises ValueError that names the field."""
    if media_type == MSGPACK:
        return msgspec.msgpack.decode(body, type=kind)
    return msgspec.json.decode(body, type=kind)
