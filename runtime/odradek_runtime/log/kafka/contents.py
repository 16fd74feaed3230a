"""What one transaction carries, and what a producer is asked and answers when it lives in a process of its own.

Stands between the commit thread and its producers. The messages are msgpack: encoding an epoch takes 0.05 µs a record, and that is
all the work that stays in the process whose interpreter lock the engine needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from odradek_runtime.log.kafka.confluent import GroupMetadata
from odradek_runtime.log.port import Headers, Outgoing, Refusal

Reason = Literal["outdated", "fenced", "aborted", "unknown"]
"""How a transaction failed, in the words of the port's `Refused`. Outdated: the group refused its offsets, for its generation has
moved on; nobody had asked for the commit, so the transaction surely does not happen."""

Changelog = tuple[str, int, Sequence[tuple[bytes, bytes | None]], Headers | None]
"""(topic, shard, records, headers of each): the last record's delivery gives the shard's position."""

Position = tuple[str, int, int, str]
"""(topic, partition, offset, metadata) of the group."""


class Contents(msgspec.Struct, tag=True, array_like=True):
    """One transaction from begin to its offsets, in the order in which it is written."""

    outputs: Sequence[Outgoing]
    changelogs: Sequence[Changelog]
    offsets: Sequence[Position]
    metadata: GroupMetadata


class Opening(msgspec.Struct, array_like=True):
    """Which producer a process is to hold."""

    servers: str
    options: Mapping[str, str]
    transactional_id: str
    transaction_timeout_s: float
    batch_bytes: int
    verbose: bool
    """Whether anybody reads the client library's log lines."""


class Initialise(msgspec.Struct, tag=True, array_like=True):
    """Make the producer, then fence and settle whatever was open under its id. The first request of all."""

    opening: Opening
    topic: str | None
    timeout_s: float


class Commit(msgspec.Struct, tag=True, array_like=True):
    """End the transaction."""


class Abort(msgspec.Struct, tag=True, array_like=True):
    """End it without effect."""


class Doubt(msgspec.Struct, tag=True, array_like=True):
    """Ask whether the coordinator's connection has dropped."""


Request = Contents | Initialise | Commit | Abort | Doubt


class Done(msgspec.Struct, tag=True, array_like=True):
    """It was done. `yes` answers Contents, Abort and Doubt; `ends`, Commit: (topic, partition, offset after the last record)."""

    yes: bool = True
    ends: Sequence[tuple[str, int, int]] = ()


class TransactionFailed(msgspec.Struct, tag=True, array_like=True):
    """A TransactionFailedError."""

    reason: Reason
    message: str
    poison: bool
    spent: bool
    refusal: Refusal | None = None


class ClientFailed(msgspec.Struct, tag=True, array_like=True):
    """A KafkaException with its KafkaError."""

    code: int
    text: str
    fatal: bool


class LogFailed(msgspec.Struct, tag=True, array_like=True):
    """A LogError."""

    message: str
    retriable: bool


Outcome = Done | TransactionFailed | ClientFailed | LogFailed


class Reply(msgspec.Struct, array_like=True):
    """The answer to one request, with what was said since the last.

    Troubles are (kind, message, fatal, refusal); lines are the client library's.
    """

    outcome: Outcome
    troubles: Sequence[tuple[str, str, bool, Refusal | None]] = ()
    lines: Sequence[str] = ()
