"""A live invocation: the engine's side of a context. It turns what the handler does into a segment, or replays its journal.

A segment is all that happens between two waits: state writes, records, commands, journal entries. The runner merges it into the
epoch when the coroutine waits or ends, and drops it when an attempt fails (invariant 5). Attributes that only a long-lived
invocation needs are class-level defaults: most invocations start and end in one epoch and never touch them.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import msgspec

from odradek import TerminalError
from odradek._errors import Refused
from odradek._port import Asked, Headers, Origin
from odradek_runtime.core.addressing import resolve
from odradek_runtime.core.operations.kind import WITHDRAWAL, Noted, Open
from odradek_runtime.core.operations.table import ASKED
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import Entry, Header, Stored
from odradek_runtime.core.records.inward import Forwarded, origin_of, recorded_origin
from odradek_runtime.core.records.journal import Act, Diverged, Journal
from odradek_runtime.core.records.keys import SUFFIXES, suffix_of
from odradek_runtime.core.records.request import Failure
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import ABSENT, Shard
from odradek_runtime.core.topics.sizes import kept_for_certain
from odradek_runtime.core.topics.unavailable import AbsentTopic, Unavailable
from odradek_runtime.log.parts import headers_of
from odradek_runtime.log.port import LogError, Message, Outgoing
from odradek_runtime.routing import derived_id, key_hash, workflow_id

if TYPE_CHECKING:
    from odradek._context import Context
    from odradek._definition import Handler, Subscription
    from odradek_runtime.core.durable.turns import Turns


T = TypeVar("T")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_EMPTY = Journal()
_SUFFIXES = SUFFIXES
"""By a name of its own: of an imported one CPython makes a bound method for each call, 40 ns for each read and write."""


class Live:
    """One invocation with a coroutine (or about to have one). Implements `odradek._port.Operations`."""

    subscription: Subscription | None = None
    context: Context
    coroutine: Coroutine[Any, Any, Any] | None = None
    waits_for: Any = None
    lasting = False
    """It may have to wait: it has a journal of its own, and operations."""
    anchored = False
    """It is in the journal topic, or will be when this epoch commits: entry, lock and timers are written as they change."""
    created_ms = 0
    """Of its entry: an id may be used again once its completion is no longer kept."""
    begun_ms = 0.0
    """When it first had to wait."""
    closed = False
    cancelled = False
    """Its task is to be cancelled as soon as it has one."""
    raised: tuple[BaseException, ...] = ()
    """Errors that its handler was given by what it waited for."""
    diverged = ""
    refused = ""
    unwritten: Exception | None = None
    """Why a record or a command could not be written for now: the attempt is repeated, whatever the handler makes of the error."""
    message: Message | None = None
    begun: list[Open] | None = None
    """Operations of this segment, in their order."""
    deadline: bytes | None = None
    """The key of the timer that ends it when it takes too long."""
    refusals: dict[int, Failure] | None = None
    """Of this segment's commands, those that were refused where they were made."""
    again = ""
    """What has delivered its record again, if something has and it has not been revived since."""
    left_out: int | None = None
    """The size of the value that it had: it was made to go without."""
    turns: Turns | None = None
    """What runs its tasks and timers, once it has used asyncio."""
    _id = ""
    _origin: Origin | None = None
    _uuids = 0

    def __init__(
        self, scope: Scope, shard: Shard, handler: Handler, key: bytes, base: bytes, payload: bytes | None
    ) -> None:
        self.scope = scope
        self.shard = shard
        self.handler = handler
        self.key = key
        self.base = base
        self.payload = payload
        self.commands: list[Act] = []
        self.writes: dict[bytes, bytes | None] = {}
        self.outputs: list[Outgoing] = []
        # Every record looks at these: where an instance keeps them the interpreter remembers, where its class does it looks up.
        self.size = 0
        """Bytes that the segment adds to its epoch."""
        self.fleeting = True
        """It has nothing but its segment: no id, no origin, no entry in the journal was asked for."""
        self.stored: Stored | None = None
        self.journal = _EMPTY

    def endure(self) -> Stored:
        """Its entry, which the journal topic is to hold if it does not end in this epoch: made when it is asked for."""
        if self.stored is None:
            origin = self.origin
            assert origin is not None, "a call has its entry from the start"
            self.be(stored_record(self, origin, self.begun_ms or self.scope.now_ms))
        assert self.stored is not None, "it has one now"
        return self.stored

    def be(self, stored: Stored) -> None:
        """It has this entry in the journal topic, or will have."""
        self.stored, self.created_ms = stored, stored.created_ms
        self._id = stored.id
        self.last()

    def last(self) -> None:
        """It may have to wait, from now on."""
        if not self.lasting:
            self.fleeting, self.lasting = False, True
            self.journal = Journal()
            self.ops: dict[int, Open] = {}

    def let_go(self) -> None:
        """Its coroutine is gone, and so is all that it would have needed. A step that is of it still knows it by its id."""
        self.journal, self.ops, self.stored = _EMPTY, {}, None
        self.payload = self.message = self._origin = None

    @property
    def named(self) -> bool:
        """Somebody may look for it by its id; a record that is delivered once more, or was forwarded, may come twice."""
        return bool(self._id) or isinstance(self.message, Forwarded) or bool(self.again)

    # --- what a context asks ---

    @property
    def id(self) -> str:
        if not self._id:
            origin = self.origin
            assert origin is not None, "only an invocation that a record started may not know its id yet"
            hash_ = key_hash(self.key) if self.key else self.shard.number
            self.fleeting = False
            if self.handler.mode == "run":
                self._id = workflow_id(self.handler.service, self.key)
                return self._id
            # Made again, a topic has other records at the same offsets. A forwarded one may be of another than is known here.
            told = self.message.topic_id if isinstance(self.message, Forwarded) else ""
            topic_id = told or self.shard.topic_ids.get(origin.topic, "")
            parts = (origin.topic, topic_id, origin.partition, origin.offset, self.handler.target)
            self._id = derived_id(hash_, *parts, *((origin.replay,) if origin.replay else ()))
        return self._id

    @property
    def headers(self) -> Mapping[str, str]:
        if self.origin is not None:
            pairs: Headers = self.origin.headers
        else:
            pairs = [(h.name, h.value) for h in self.stored.headers] if self.stored else ()
        texts = {name.lower(): value.decode("utf-8", "replace") for name, value in pairs if value is not None}
        return MappingProxyType(texts)

    @property
    def origin(self) -> Origin | None:
        """The record that started it; made when asked for, since most handlers never ask."""
        if self._origin is None:
            self.fleeting = False
            if self.message is not None:
                self._origin = origin_of(self.message)
            elif self.stored is not None and self.stored.topic:
                self._origin = recorded_origin(self.stored)
        return self._origin

    def strip(self) -> None:
        """Forget the value and the headers of its record."""
        self.left_out = len(self.payload) if self.payload is not None else None
        self.payload = None
        self._origin = replace(self.origin, headers=()) if self.origin is not None else None

    @property
    def replaying(self) -> bool:
        return self.journal.replaying

    def refuse(self, message: str) -> NoReturn:
        self.refused = self.refused or message
        self.fleeting = False
        raise Refused(message)

    def read(self, name: str) -> bytes | None:
        if self.journal is not _EMPTY and self.journal.replaying:
            return self._replay("get", name).value
        key = self.base + (_SUFFIXES.get(name) or suffix_of(name))
        value = self.writes.get(key, ABSENT)
        if value is ABSENT:
            value = self.shard.read(key)
        self.commands.append(("get", name, None, value, 0.0))
        return value

    def write(self, name: str, value: bytes | None) -> None:
        if self.journal is not _EMPTY and self.journal.replaying:
            self._replay("set", name)
            return
        key = self.base + (_SUFFIXES.get(name) or suffix_of(name))
        self.commands.append(("set", name, None, None, 0.0))
        size = len(key) if value is None else len(key) + len(value)
        if size > self.scope.sizes.plain_state:
            try:
                self.scope.sizes.check_state(name, key, value)
            except TerminalError as error:
                self.refuse_entry(error)
        self.size += size
        self.writes[key] = value

    def clear(self) -> None:
        if self.journal.replaying:
            self._replay("clear", "")
            return
        for key in self._state_keys():
            self.writes[key] = None
        self.commands.append(("clear", "", None, None, 0.0))

    def names(self) -> Sequence[str]:
        if self.journal.replaying:
            recorded = self._replay("names", "").value or b"[]"
            return msgspec.json.decode(recorded, type=list[str])
        names = sorted(keys.unescape(key[len(self.base) + 1 :]).decode() for key in self._state_keys())
        self.commands.append(("names", "", None, msgspec.json.encode(names), 0.0))
        return names

    def publish(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        partition: int | None,
        timestamp_ms: int | None,
    ) -> None:
        if self.journal is not _EMPTY and self.journal.replaying:
            self._replay("publish", topic, key)
            return
        size = (len(value) if value else 0) + (len(key) if key else 0)
        targets = self.scope.targets
        self.commands.append(("publish", topic, key, None, 0.0))
        if headers is not None or partition is not None or timestamp_ms is not None or size > targets.plain.get(topic, -1):
            try:
                targets.check(topic, key, value, headers, partition, timestamp_ms, self.scope.now_ms, self.scope.steady_ms)
            except TerminalError as error:
                self.refuse_entry(error)
            except (Unavailable, LogError) as error:
                self._not_now(error)
        self.size += size
        self.outputs.append((topic, partition, key, value, headers, timestamp_ms or 0))

    def begin(self, asked: Asked[T]) -> T:
        """One of the kinds of operation (`operations.table`); it begins when its segment has become part of the epoch."""
        given: T = ASKED[type(asked)].ask(self, asked)
        return given

    def now_ms(self) -> float:
        if self.journal.replaying:
            return self._replay("now", "").at_ms
        now_ms = self.scope.now_ms
        self.commands.append(("now", "", None, None, now_ms))
        return now_ms

    def clock_ms(self) -> float:
        """As `now_ms`, of this very moment: what the handler did before may have taken long."""
        if not self.journal.replaying:
            self.scope.look_at_clock()
        return self.now_ms()

    def seed(self) -> int:
        return int.from_bytes(self.id.encode(), "big")

    def uuid_bytes(self) -> bytes:
        self._uuids += 1
        return blake2b(f"{self.id}/uuid/{self._uuids}".encode(), digest_size=16).digest()

    # --- what a kind of operation asks ---

    def note(self, kind: str, name: str, key: bytes | None, at_ms: float = 0.0, value: bytes | None = None) -> Noted:
        """Journal one operation, or replay it."""
        if self.journal.replaying:
            entry = self._replay(kind, name, key)
            return Noted(entry.ref, entry.at_ms, fresh=False, value=entry.value)
        self.commands.append((kind, name, key, value, at_ms))
        return Noted(self.journal.length + len(self.commands) - 1, at_ms, fresh=True, value=value)

    def look(self, row: bytes) -> bytes | None:
        """A row of the journal, below what this segment has written."""
        value = self.writes.get(row, ABSENT)
        return self.shard.read(row) if value is ABSENT else value

    def lay(self, row: bytes, value: bytes) -> None:
        """Write one, with the segment."""
        self.fleeting = False
        self.size += len(row) + len(value)
        self.writes[row] = value

    def outlive(self) -> None:
        """It has something to wait for. Raises TerminalError when what started it is too large to be kept."""
        self.last()
        why = self.why_unkept()
        if why:
            self.refuse_entry(TerminalError(f"{self.handler.target} cannot wait for anything: what started it {why}", code=413))

    def why_unkept(self) -> str:
        """Why the journal cannot keep it for later. "" if it can, or does."""
        if self.anchored or self._is_small():
            return ""
        return self.scope.sizes.why_unkept(self.endure(), self.base)

    def _is_small(self) -> bool:
        """Whether what started it is so small that nobody needs to look any closer."""
        message = self.message
        if message is None or self.stored is not None:
            return False
        return kept_for_certain(len(self.payload or b"") + len(self.base) + len(message.key() or b"")) and not headers_of(message)

    def open(self, op: Open, *, fresh: bool) -> None:
        """The operation is there; one that is awaited until its result comes."""
        if op.future is not None:
            self.ops[op.ref] = op
        if fresh:
            self.fleeting = False
            if self.begun is None:
                self.begun = []
            self.begun.append(op)

    def withdraw(self, ref: int) -> None:
        """Nobody waits for that operation any more: what comes back for it is nobody's, in this run and in each replay."""
        op = self.ops.pop(ref, None)
        if op is None or op.timer is None:
            return
        if ref >= self.journal.length:  # it has yet to begin
            op.timer = None
        else:
            self.open(Open(WITHDRAWAL, ref, None, timer=op.timer), fresh=True)

    def resolve(self, target: str, key: bytes | None) -> tuple[str, str]:
        """Which handler a name means."""
        try:
            return resolve(self.scope, target, key)
        except (Unavailable, LogError) as error:
            self._not_now(error)

    def reach(self, app: str) -> None:
        """Look whether another app is there."""
        try:
            self.scope.targets.partitions(f"{app}.commands", self.scope.steady_ms)
        except AbsentTopic as error:
            raise TerminalError(f"there is no app {app!r}: {error}", code=404) from error
        except (Unavailable, LogError) as error:
            self._not_now(error)

    def refuse_entry(self, error: TerminalError) -> NoReturn:
        """The entry just noted does not happen. That is journaled, too: a handler that goes on goes on so in every replay."""
        self.fleeting = False
        self.refusals = {**(self.refusals or {}), len(self.commands) - 1: Failure(error.code, error.message, error.metadata)}
        raise error

    # --- inside ---

    def _state_keys(self) -> list[bytes]:
        found = {key for key, _ in self.shard.scan_prefix(self.base + b"/")}
        found.update(key for key, value in self.writes.items() if value is not None)
        return sorted(key for key in found if self.writes.get(key, b"") is not None)

    def _replay(self, kind: str, name: str, key: bytes | None = None) -> Entry:
        try:
            entry = self.journal.replay(kind, name, key)
        except Diverged as error:
            self.diverged = self.diverged or str(error)
            raise
        if entry.failure is not None:
            raise TerminalError(entry.failure.message, code=entry.failure.code, metadata=entry.failure.metadata)
        return entry

    def _not_now(self, error: Exception) -> NoReturn:
        """Where the command goes takes nothing for now. A handler that goes on all the same would do so without it, for good."""
        self.unwritten, self.fleeting = error, False
        raise error



def stored_record(live: Live, origin: Origin, now_ms: float) -> Stored:
    """The journal topic's entry for an invocation that a record started."""
    return Stored(
        id=live.id, target=live.handler.target, key=live.key, payload=live.payload,
        headers=[Header(name, value) for name, value in origin.headers],
        topic=origin.topic, partition=origin.partition, offset=origin.offset, timestamp_ms=origin.timestamp_ms,
        record_key=origin.key, created_ms=int(now_ms), python=PYTHON, replay=origin.replay,
    )  # fmt: skip
