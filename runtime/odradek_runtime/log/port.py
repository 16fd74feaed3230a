"""The log port: read, transact, fence, restore. First and last station of every record; Kafka and its twins implement it.

`Log` is the cluster (blocking calls, safe from any thread, used outside the hot path). `Member` is one worker's place in
the group: it posts `Event`s to a sink (a thread-safe callable that only enqueues) and takes orders that return at once.
The engine consumes the events in one thread. One contract suite (tests/contract) holds every implementation to this text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

Headers = Sequence[tuple[str, bytes | None]]


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Message(Protocol):
    """One record as read. The method names are confluent_kafka.Message's, so that Kafka's own objects pass uncopied."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> list[tuple[str, bytes | None]] | None: ...
    def timestamp(self) -> tuple[int, int]:
        """(type, Unix milliseconds); type 0 = none, 1 = create time, 2 = append time."""
        ...


Outgoing = tuple[str, int | None, bytes | None, bytes | None, Headers | None, int]
"""An `Output` without names: a plain tuple, which the hot path makes, unpacks and drops in 0.3 µs less a record."""


class Output(NamedTuple):
    """One record to write, an `Outgoing` with names.

    `partition` None: by murmur2 of the key, round robin without one. `timestamp_ms` 0: now.
    """

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: Headers | None = None
    timestamp_ms: int = 0


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """What a topic is. `id` changes when a topic is deleted and made again under the same name."""

    name: str
    id: str
    partitions: int
    config: Mapping[str, str]
    writable: bool = True
    """False: the brokers do not allow this worker to write to it."""
    replicas: int = 1
    """On how many brokers each partition is kept."""


class Refusal(NamedTuple):
    """What the brokers refuse as they are set up, though no record is to blame: rights, a topic that is missing, a quota.

    It is tried again until it has been mended.
    """

    resource: str
    """A topic's name, or a word for what else was asked for (`group`, `transactional id`, `cluster`, `quota` ...)."""
    operation: str
    """As ACLs have it (`Write`, `Read` ...), or empty."""
    message: str
    """What, where, and what to do about it."""


class ChangelogPosition(NamedTuple):
    """For one shard: offset after the last record that this shard's epoch wrote; None where the epoch wrote nothing."""

    journal: int | None
    state: int | None


@dataclass(slots=True)
class Transaction:
    """One epoch as the log sees it: all of it commits or none.

    Written in this order: `outputs` (published records and commands), then for each shard its `state` records, then its
    `journal` records (the caller puts the positions record last). `offsets` goes to the group: for each shard touched the
    commands partition (the fence), and the input partitions (the mirror). `stamps` are the ownership stamps taken from
    `Gained` when the work began: if one of them is no longer current, the transaction is refused as fenced and never sent.
    """

    epoch: int
    stamps: Mapping[int, int]
    outputs: list[Outgoing] = field(default_factory=list[Outgoing])
    state: dict[int, list[tuple[bytes, bytes | None]]] = field(default_factory=dict[int, list[tuple[bytes, bytes | None]]])
    journal: dict[int, list[tuple[bytes, bytes | None]]] = field(default_factory=dict[int, list[tuple[bytes, bytes | None]]])
    state_headers: dict[int, Headers] = field(default_factory=dict[int, Headers])
    offsets: dict[Partition, int] = field(default_factory=dict[Partition, int])


# --- events, posted by a member to its sink -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gained:
    """These shards are now this member's: shard -> ownership stamp (a number never used before by this member).

    Empty: it has joined, and there is nothing for it (yet).
    """

    shards: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Losing:
    """These shards are about to move (`lost` False: there is time to commit what is in flight) or have moved (`lost` True).

    The stamps are bumped before this is posted when `lost`, and after `release` otherwise. The rebalance waits until the
    engine calls `release()`, which it does when every epoch that touches those shards has ended (bounded by the log's
    own deadline). After it no transaction touching them is ever sent.
    """

    shards: tuple[int, ...]
    lost: bool
    release: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Records:
    """A batch as fetched (at most 2,000 records, of one class; several partitions mixed, in order within each).

    `generation` is the newest one given to `read` when the batch was fetched: a partition's messages from a batch older
    than the partition's own `read` are stale and must be dropped. Call `taken()` once when the batch has been dequeued: a
    member keeps only a few batches outstanding (backpressure). `reached`: partitions that have been read up to these offsets,
    behind the messages of this batch and all before it, with nothing but the log's own marks and aborted records left out.
    """

    messages: Sequence[Message]
    generation: int
    taken: Callable[[], None]
    reached: Mapping[Partition, int] = field(default_factory=dict[Partition, int])


@dataclass(frozen=True, slots=True)
class Committed:
    """The transaction of this epoch is durable. `positions`: per shard, where its changelogs now end."""

    epoch: int
    positions: Mapping[int, ChangelogPosition]


@dataclass(frozen=True, slots=True)
class Refused:
    """The transaction did not, or may not have, happened. The engine starts over from the log (invariant 8).

    fenced: a stamp or the group refused it. aborted: it surely did not commit; `poison` then says that one of its records
    was the cause. unknown: it may have committed; the member has already dropped its producer and settled the outcome with a
    new one under the same transactional id before it posts this.
    """

    epoch: int
    reason: Literal["fenced", "aborted", "unknown"]
    message: str
    poison: bool = False
    refusal: Refusal | None = None
    """The brokers refused it as they are set up: no record is to blame, and it is tried again after a while."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something an operator should read (broker unreachable, authentication failed ...). `fatal`: the member cannot go on."""

    message: str
    fatal: bool = False
    refusal: Refusal | None = None


Event = Gained | Losing | Records | Committed | Refused | Trouble
Sink = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Peer:
    """Another member of the group: its private URL (None when it gave none) and its shards."""

    url: str | None
    shards: tuple[int, ...]


class Member(Protocol):
    """One worker's place in the group. Orders return at once unless they say that they block."""

    def join(self, sink: Sink) -> None:
        """Join the group of `<app>.commands` and begin to post events."""
        ...

    def read(self, positions: Mapping[Partition, int], generation: int) -> None:
        """Read these partitions from these offsets on, committed records only; each one already read is repositioned.

        `generation` must be greater than in every earlier call.
        """
        ...

    def stop_reading(self, partitions: Sequence[Partition]) -> None: ...

    def pause(self, partitions: Sequence[Partition]) -> None:
        """Keep the position, deliver nothing (batches already posted may still arrive and must be handled)."""
        ...

    def resume(self, partitions: Sequence[Partition]) -> None: ...

    def commit(self, transaction: Transaction) -> None:
        """Send one transaction; `Committed` or `Refused` follows. The next may be given only after that event."""
        ...

    def settle(self, shard: int) -> int | None:
        """Blocks. End what dead owners of the shard left open, then give the stable committed offset of its commands.

        Fences the transactional ids that the committed offset's metadata names when their member has left the group. None:
        nothing was ever committed. Raises LogError when it cannot be known in time (the caller repeats it).
        """
        ...

    def leave(self) -> None:
        """Blocks. Leave the group at once (the engine has released everything) and free what is held."""
        ...


class Publisher(Protocol):
    """Writes records into topics from outside an app, exactly once across interruptions."""

    def position(self) -> int:
        """How many source items earlier runs under the same name have durably published; 0 at first."""
        ...

    def publish(self, outputs: Sequence[Output], position: int) -> None:
        """Blocks. Write these records and the new position atomically and durably."""
        ...

    def close(self) -> None: ...


class Log(Protocol):
    """A cluster. Blocking, safe from any thread."""

    def topic(self, name: str) -> TopicInfo | None:
        """What the topic is, or None. Never creates it."""
        ...

    def topics(self) -> Sequence[str]:
        """The names of all topics, sorted, without the log's own internals."""
        ...

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str]) -> TopicInfo:
        """Create it if absent (a race with another worker is no error) and return what exists."""
        ...

    def delete_topic(self, name: str) -> None:
        """Blocks until it is gone; one that is not there is no error."""
        ...

    def committed_offsets(self, app: str, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The offsets that the app's group has committed for these; a partition for which there is none is left out."""
        ...

    def forget_group(self, app: str) -> None:
        """Delete the app's group with all its offsets. Raises LogError while it has members."""
        ...

    def offsets(self, partition: Partition) -> tuple[int, int]:
        """(first offset, end offset), uncommitted records included in the end."""
        ...

    def offset_at(self, partition: Partition, timestamp_ms: int) -> int:
        """First offset whose record is at or after this Unix time; the end offset when there is none."""
        ...

    def times_at(self, positions: Mapping[Partition, int]) -> Mapping[Partition, int]:
        """Blocks, some seconds at most. Of the first committed record at or behind each offset its Unix milliseconds.

        Left out: partitions that have no such record (yet), whose record bears no time, or that do not answer in time.
        """
        ...

    def scan(self, partition: Partition, start: int, stop: int, *, sparing: bool = False) -> Iterator[Sequence[Message]]:
        """Committed records with start <= offset < stop, in batches, ending when the position has reached `stop`.

        `sparing`: whoever reads takes his time, or is one of many: some MiB are held at the most, not what reads fastest.
        Raises LogError when `start` is below the first offset, or when it does not move for 30 s (a transaction left open).
        """
        ...

    def trim(self, partition: Partition, before: int) -> None:
        """Delete the records below this offset."""
        ...

    def peers(self, app: str) -> Sequence[Peer]:
        """The app's live members with the shards they own now."""
        ...

    def member(self, app: str, shards: int, url: str | None) -> Member:
        """A member of the app's group (group id = app), not yet joined. `url`: where peers reach this worker over HTTP."""
        ...

    def publisher(self, name: str) -> Publisher: ...

    def shared_secret(self, app: str) -> bytes | None:
        """Blocks. What the app's workers alone know, made by the first that asks; None where one process has them all.

        It may be another one later: then all workers are given that.
        """
        ...

    def ping(self, timeout_s: float) -> None:
        """Blocks. Raises LogError unless the cluster answers a question within this time."""
        ...

    def close(self) -> None: ...


class LogError(Exception):
    """The log refused or could not be reached; the message says what to do.

    `retriable` False: repeating it will not help. `refusal`: it will, once somebody has set the brokers up otherwise.
    """

    def __init__(self, message: str, *, retriable: bool = True, refusal: Refusal | None = None) -> None:
        super().__init__(message)
        self.retriable = retriable
        self.refusal = refusal
