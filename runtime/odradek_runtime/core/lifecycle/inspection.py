"""The inspection: what a command that was read from the commands topic says, held against what it names.

Stands between `Machine.command`, which reads the record, and everything that acts on it. Other apps write commands, too, and
whoever has the right to write to the topic: so nothing in one is believed. What a worker hands over within itself never comes here.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, NamedTuple

from odradek._bad_input import BadInput
from odradek._service import NAME
from odradek_runtime.core.epoch import RESET
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.answers import completion
from odradek_runtime.core.records.formats import REPLAY, Command, FormatError
from odradek_runtime.core.records.inward import Forwarded
from odradek_runtime.core.records.journal import describe
from odradek_runtime.core.records.order import becomes
from odradek_runtime.core.records.request import Failure
from odradek_runtime.core.records.sieve import FAR, REPLAY_ID, NotOurs, Sieve
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import Shard
from odradek_runtime.log.port import Partition
from odradek_runtime.routing import id_hash, shard_of

from .living import Living
from .resets import RESET_ID
from .settling import Entries

if TYPE_CHECKING:
    from collections.abc import Callable

INT32 = 2**31
INT64 = 2**63
YEAR_10000_MS = 253_402_300_800_000
"""What is later is no date: neither a person nor `datetime` could say when it is due."""
REMEDY = "only odradek apps that call this one may write to its commands topic (docs/acls.md); the record is kept here"
AGAIN = re.compile(rf"(?:{REPLAY_ID.pattern})(?:@\d{{1,10}}/\d{{1,19}})?")
"""What delivers a record again: a replay, a reset, or a replay with the place of the dead letter that it sends back."""
BARRIER = re.compile(r"\d{1,19}\.\d{1,19}")
"""The incarnation of a shard, and the epoch that wrote it."""


class Flaw(NamedTuple):
    """Why a command is refused: which of its fields, and what is wrong with it."""

    field: str
    said: str


class Inspection:
    """Of the commands of one machine's shards."""

    def __init__(self, scope: Scope, living: Living, entries: Entries) -> None:
        self._scope = scope
        self._living = living
        self._entries = entries
        self._kinds: dict[str, Callable[[Shard, Command], Flaw | None]] = {
            "invoke": self._invoke,
            "complete": self._complete,
            "awakeable": self._awakeable,
            "attach": self._attach,
            "forward": self._forward,
            "barrier": self._barrier,
            "replay": self._replay,
            "cancel_replay": self._cancel_replay,
            "reset": self._reset,
            "kill": self._order,
            "cancel": self._order,
            "pause": self._operators,
            "resume": self._operators,
            "purge": self._operators,
            "restart": self._restart,
        }

    def flaw(self, shard: Shard, command: Command) -> Flaw | None:
        """What is wrong with a command that has come to this shard; None if nothing is."""
        look = self._kinds.get(command.kind)
        if look is None:
            return Flaw("kind", "this version of odradek does not know it")
        return _numbers(command) or look(shard, command)

    def answer(self, command: Command, flaw: Flaw) -> Command | None:
        """What whoever waits for a refused start is told; None if nobody does, or nobody could be told."""
        if command.kind != "invoke" or not command.caller_id or _numbers(command) or _caller(command):
            return None
        failure = Failure(400, f"{command.target}: {flaw.field}: {flaw.said}", {"field": flaw.field})
        return completion(command.caller_app, command.caller_id, command.ref, None, failure)

    # --- by kind ---

    def _invoke(self, shard: Shard, command: Command) -> Flaw | None:
        return (
            self._id(shard, command.id)
            or _caller(command)
            or self._target(shard, command.target, command.key or b"")
            or self._another(shard, command)
        )

    def _target(self, shard: Shard, target: str, key: bytes) -> Flaw | None:
        """One that the app does not have (any more, or yet) is no flaw: the invocation waits for code that has it."""
        parts = target.split("/")
        if len(parts) != 2 or not all(map(NAME.fullmatch, parts)):
            return Flaw("target", f"{_shown(target)} is not service/handler")
        handler = self._scope.handlers.get(target)
        if handler is None:
            return None
        if handler.keyed and not key:
            return Flaw("key", f"{target} needs one")
        if not handler.keyed:
            return Flaw("key", f"{target} takes none") if key else None
        return self._key(shard, key)

    def _key(self, shard: Shard, key: bytes) -> Flaw | None:
        home = shard_of(key, self._scope.n)
        return None if home == shard.number else Flaw("key", f"{_shown(key)} lives on shard {home}, and this is {shard.number}")

    def _another(self, shard: Shard, command: Command) -> Flaw | None:
        existing = self._living.stored(shard, command.id)
        if existing is None or (existing.target, existing.key) == (command.target, command.key or b""):
            return None
        return Flaw("id", f"{command.id} is an invocation of {existing.target}, not of {command.target} with this key")

    def _complete(self, shard: Shard, command: Command) -> Flaw | None:
        return self._id(shard, command.id) or _result(command) or self._awaited(shard, command)

    def _attach(self, shard: Shard, command: Command) -> Flaw | None:
        if not command.caller_id:
            return Flaw("caller_id", "nobody is named who would wait")
        return self._id(shard, command.id) or _caller(command)

    def _awakeable(self, shard: Shard, command: Command) -> Flaw | None:
        flaw = self._id(shard, command.id) or _result(command)
        if flaw is None and not self._scope.awakeable_ids.good(command.id, command.ref, command.key or b""):
            flaw = Flaw("key", "it is not the seal of an awakeable of this app (setting awakeable_secret)")
        return flaw or self._awaited(shard, command)

    def _awaited(self, shard: Shard, command: Command) -> Flaw | None:
        """A result comes for what waits for it. For what has ended, or has its result, it comes too late."""
        found, entry = self._entries.waiting(shard, command.id, command.ref, command.kind)
        if found == "unbegun":
            return Flaw("id", f"{command.id} has not begun, and waits for no result")
        if found == "no_entry":
            return Flaw("ref", f"{command.id} has no entry {command.ref} in its journal: it has asked for no such thing")
        if found == "another" and entry is not None:
            done = describe(entry.kind, entry.name, entry.key)
            return Flaw("ref", f"entry {command.ref} of {command.id} is {done}, which waits for no such result")
        return None

    def _forward(self, shard: Shard, command: Command) -> Flaw | None:
        subscription = self._scope.subscription_of(command)
        if subscription is None:
            return Flaw("target", f"the app no longer has the handler {_shown(command.target)} on {_shown(command.topic)}")
        if command.partition < 0 or command.offset < 0:
            return Flaw("offset", f"there is no record {command.topic}[{command.partition}]@{command.offset}")
        if len(command.topic_id) > 249:
            return Flaw("topic_id", f"{_shown(command.topic_id)} is no id of a topic")
        if command.id and not AGAIN.fullmatch(command.id):
            return Flaw("id", f"{_shown(command.id)} is no id of a replay")
        if not subscription.handler.keyed:
            return None
        record = Forwarded(command)
        try:
            decoded = None if subscription.key is None else subscription.decode(record.value())
            key = subscription.record_key(record.key(), decoded)
        except BadInput:  # as if it had been read here: its subscription says what becomes of it
            return None
        return self._key(shard, key)

    def _replay(self, shard: Shard, command: Command) -> Flaw | None:
        try:
            part = REPLAY.decode(command.payload or b"")
            Sieve(self._scope.n, shard.number).journal(keys.replay(part.id, part.partition), command.payload)
        except (FormatError, NotOurs, struct.error, UnicodeEncodeError) as error:
            return Flaw("payload", str(error)[:300])
        if part.next != part.first or part.stop < part.first or part.records or part.passed or part.gone or part.ended_ms:
            return Flaw("payload", f"{_shown(part.id)} is no replay that has yet to begin")
        if part.status != "running" or part.id.startswith(RESET):
            return Flaw("payload", f"{_shown(part.id)}, {_shown(part.status)}, is no replay that could begin")
        subscribed = self._scope.subscriptions.get(part.topic)
        if subscribed is None and part.topic not in self._scope.letters:
            return Flaw("topic", f"the app does not subscribe to {_shown(part.topic)}")
        if subscribed is not None and part.handler not in ("", *(each.handler.target for each in subscribed)):
            return Flaw("handler", f"{_shown(part.handler)} does not subscribe to {_shown(part.topic)}")
        return None

    def _cancel_replay(self, _: Shard, command: Command) -> Flaw | None:
        return None if REPLAY_ID.fullmatch(command.id) else Flaw("id", f"{_shown(command.id)} is no id of a replay")

    def _barrier(self, _: Shard, command: Command) -> Flaw | None:
        return None if BARRIER.fullmatch(command.id) else Flaw("id", f"{_shown(command.id)} is no barrier of a shard")

    def _reset(self, shard: Shard, command: Command) -> Flaw | None:
        """Which positions are moved, and where to. The log is asked where it ends, if that is not behind what has been read."""
        if not RESET_ID.fullmatch(command.id):
            return Flaw("id", f"{_shown(command.id)} is no id of a reset")
        if command.topic not in self._scope.subscriptions:
            return Flaw("topic", f"the app does not subscribe to {_shown(command.topic)}")
        place = Partition(command.topic, command.partition)
        if place not in shard.positions:
            return Flaw("partition", f"{_shown(command.topic)}[{command.partition}] is not read by shard {shard.number}")
        if not 0 <= command.offset < FAR:
            return Flaw("offset", f"{command.offset} is no offset of a record")
        if command.topic_id not in ("", shard.topic_ids.get(command.topic, "")):
            return Flaw("topic_id", f"{_shown(command.topic)} was deleted and made again: its records are others now")
        if command.offset > shard.positions[place] and command.offset > (end := self._scope.targets.end(place)):
            said = f"{command.topic}[{command.partition}] ends at {end}, and {command.offset} is beyond it"
            return Flaw("offset", f"{said}: records that are yet to come would be skipped")
        return None

    def _order(self, shard: Shard, command: Command) -> Flaw | None:
        """About one invocation: by an operator, or by the one that waits for it. Whether that one may is seen where it is done."""
        flaw = self._id(shard, command.id) or _caller(command)
        if flaw is None and command.caller_id and command.ref < 0:
            return Flaw("ref", f"{command.ref} is no entry of the journal of {command.caller_id}")
        return flaw

    def _restart(self, shard: Shard, command: Command) -> Flaw | None:
        """Under its own id, or under a new one, which must be of the same shard."""
        flaw = self._operators(shard, command)
        if flaw is not None or command.ref >= 0:
            return flaw
        return self._id(shard, becomes(command))

    def _operators(self, shard: Shard, command: Command) -> Flaw | None:
        """About one invocation, by an operator: no invocation may order it."""
        if command.caller_id:
            return Flaw("caller_id", f"{_shown(command.caller_id)}: no invocation orders this of another")
        return self._id(shard, command.id)

    def _id(self, shard: Shard, id_: str) -> Flaw | None:
        try:
            home = id_hash(id_) % self._scope.n
        except ValueError as error:
            return Flaw("id", str(error))
        return None if home == shard.number else Flaw("id", f"{id_} belongs to shard {home}, and this is {shard.number}")


def _numbers(command: Command) -> Flaw | None:
    """Whether every number is one that the log, the store and a calendar can hold."""
    for field, number, least, bound in (
        ("ref", command.ref, -1, INT32),
        ("at_ms", command.at_ms, 0, YEAR_10000_MS),
        ("partition", command.partition, -1, INT32),
        ("offset", command.offset, -1, INT64),
        ("timestamp_ms", command.timestamp_ms, -INT64, INT64),
    ):
        if not least <= number < bound:
            return Flaw(field, f"{number} is not between {least} and {bound - 1}")
    return None


def _caller(command: Command) -> Flaw | None:
    """Who is to be told of the end: an id, and the app that it is of ("": this one)."""
    if command.caller_app and not NAME.fullmatch(command.caller_app):
        return Flaw("caller_app", f"{_shown(command.caller_app)} is no name of an app")
    if not command.caller_id:
        return Flaw("caller_app", f"{command.caller_app} is named, and no caller_id") if command.caller_app else None
    try:
        id_hash(command.caller_id)
    except ValueError as error:
        return Flaw("caller_id", str(error))
    return None


def _result(command: Command) -> Flaw | None:
    if command.ref < 0:
        return Flaw("ref", f"{command.ref} is no entry of a journal")
    if command.failure is None:
        return None
    if command.payload is not None:
        return Flaw("failure", "there is a result as well")
    if not 400 <= command.failure.code <= 599:
        return Flaw("failure.code", f"{command.failure.code} is not between 400 and 599")
    return None


def _shown(text: str | bytes) -> str:
    """As a message holds it: short, and without control characters."""
    return repr(text[:100].decode("utf-8", "replace") if isinstance(text, bytes) else text[:100])
