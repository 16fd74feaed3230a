"""The sieve: which records of a shard's changelogs are the app's own. What a take-over reads passes through it.

Whoever may write to `<app>.journal` and `<app>.state` can put anything there. A record is the app's own when its key is of a kind
that `keys` knows, its value decodes as that kind's format, and the two agree with each other and with the shard. What is not is
left out, counted and told of. It is not told from damage: Kafka and the embedded log check every byte that they give back.

What a newer odradek may have written is no such record. One under a key whose kind is known would be missed: the shard is not
taken over (`Restrain`). One of a kind that is not known is nothing to this version: it is kept, for the one that wrote it.
"""

from __future__ import annotations

import logging
import math
import re
import struct
from collections.abc import Callable, Collection, Iterable, Iterator

from odradek._service import NAME
from odradek_runtime.log.port import LogError, Message, Partition
from odradek_runtime.routing import id_hash, shard_of
from odradek_runtime.store.store import Store, StoreError

from . import keys
from .formats import (
    CHUNK,
    COMMAND,
    INVOCATION,
    LOCK,
    POSITIONS,
    PROMISE,
    REPLAY,
    REPLAY_TALLY,
    SLOT,
    TIMER,
    FormatError,
    OtherVersion,
    of_a_format,
)
from .request import Failure

logger = logging.getLogger("odradek")

FIRST = 5
"""So many foreign records are named, with their offsets; all are counted."""
WRITTEN_AGAIN = 100_000
"""So many keys of ours, at most, are remembered because something foreign stands over them."""
INT64 = 2**63
FAR = 2**62
"""No count comes this far; what goes on from one must not leave the numbers that Avro has."""
DAYS_MS = 10**15
"""Nothing is kept for thirty thousand years."""
STATE_KEY = re.compile(rb"[^/]+/[^/]+/[^/]+")
REPLAY_ID = re.compile(r"[A-Za-z0-9._-]{1,60}")
STAMP = re.compile(rb"\d{1,19}\.\d{1,19}")
ID_BYTES = 30
_KIND_OF_REF = {keys.REF_RETRY: ("retry",), keys.REF_START: ("start",), keys.REF_PURGE: ("purge",), keys.REF_TIMEOUT: ("timeout",)}


class NotOurs(Exception):
    """Why a record is not the app's own."""


class Kept(NotOurs):
    """It is of a kind that this version does not know, and may be a newer one's: it is kept, and means nothing here."""


class Sieve:
    """For one shard. Each method returns for a record of ours, and raises NotOurs or OtherVersion for any other."""

    def __init__(self, shards: int, number: int) -> None:
        self._n = shards
        self._number = number
        self._kinds: dict[bytes, Callable[[bytes, bytes], None]] = {
            b"i": self._invocation,
            b"j": self._chunk,
            b"l": self._lock,
            b"q": self._slot,
            b"t": self._timer,
            b"a": self._attachment,
            b"z": self._paused,
            b"w": self._promise,
            b"y": self._waiter,
            b"o": self._owed,
            b"r": self._replay,
            b"k": self._replay_order,
            b"u": self._replay_tally,
            b"p": self._positions,
        }

    @property
    def kinds(self) -> Collection[bytes]:
        """The letters that the journal's keys begin with."""
        return self._kinds.keys()

    def journal(self, key: bytes, value: bytes | None) -> None:
        """One of the journal, or of what a store has of it. A deletion is of no version."""
        kind = self._kinds.get(key[:1])
        if kind is None:
            self._unknown(key, value)
            return
        try:
            if value is not None:
                kind(key, value)
            elif key[:1] == b"p":
                raise NotOurs("a deletion of the positions")
        except OtherVersion:
            raise
        except (FormatError, ValueError, struct.error) as error:
            raise NotOurs(f"key {key[:60]!r}: {str(error)[:200]}") from error

    def state(self, key: bytes) -> None:
        """One of the state, by its key as the topic has it. One of another shard is no harm: nobody reads it here."""
        if not STATE_KEY.fullmatch(key):
            raise NotOurs(f"key {key[:60]!r} is not object/key/name")
        if not key.isascii():
            try:
                for part in (key[: key.index(b"/")], key[key.rindex(b"/") :]):
                    keys.unescape(part).decode()
            except UnicodeDecodeError:
                raise NotOurs(f"key {key[:60]!r}: its object or its name is no text") from None

    def stamped(self, stamp: bytes) -> None:
        """Whether a state record says which epoch wrote it, as all that the engine writes do."""
        if not STAMP.fullmatch(stamp):
            raise NotOurs(f"no header odradek that says which epoch wrote it, but {stamp[:40]!r}")

    # --- by kind ---

    def _unknown(self, key: bytes, value: bytes | None) -> None:
        if key and key[:1] not in (keys.STATE, keys.STORE_POSITION) and (value is None or of_a_format(value)):
            raise Kept(f"key {key[:60]!r} is of a kind that this version does not know")
        raise NotOurs(f"key {key[:60]!r} is of no kind")

    def _invocation(self, key: bytes, value: bytes) -> None:
        stored = INVOCATION.decode(value)
        self._is(stored.id == self._id(key[1:]), f"it holds {stored.id[:60]!r}")
        self._is(stored.status != "unknown", "its status is unknown")
        self._is(not stored.caller_id or id_hash(stored.caller_id) >= 0, "its caller is none")
        self._is(-(2**31) <= stored.caller_ref < 2**31, f"its caller's entry is {stored.caller_ref}")
        self._is(0 <= stored.retain_ms < DAYS_MS, f"it is kept for {stored.retain_ms} ms")
        self._is(stored.attempts >= 0, f"it has failed {stored.attempts} times")
        self._is(not stored.key or shard_of(stored.key, self._n) == self._number, "its key belongs to another shard")
        self._failure(stored.failure)

    def _chunk(self, key: bytes, value: bytes) -> None:
        self._is(len(key) == 1 + ID_BYTES + 1 + 8 and key[1 + ID_BYTES : 2 + ID_BYTES] == b"/", "its length or form")
        self._id(key[1 : 1 + ID_BYTES])
        for entry in CHUNK.decode(value).entries:
            self._is(entry.kind != "unknown" and 0 <= entry.ref < 2**31, f"an entry {entry.kind} {entry.ref}")
            self._is(math.isfinite(entry.at_ms) and 0 <= entry.at_ms < INT64, f"an entry at {entry.at_ms}")
            self._failure(entry.failure)

    def _lock(self, key: bytes, value: bytes) -> None:
        self._object_key(key[1:])
        lock = LOCK.decode(value)
        self._is(id_hash(lock.holder) % self._n == self._number, f"its holder {lock.holder} belongs to another shard")
        self._is(0 <= lock.head <= lock.tail < FAR, f"its inbox is {lock.head} to {lock.tail}")

    def _slot(self, key: bytes, value: bytes) -> None:
        self._is(key[-9:-8] == b"/", "its form")
        self._object_key(key[1:-9])
        self._id(SLOT.decode(value).id.encode())

    def _timer(self, key: bytes, value: bytes) -> None:
        self._is(len(key) == 1 + 8 + ID_BYTES + 4, "its length")
        due_ms, id_, ref = keys.split_timer(key)
        self._id(id_.encode())
        timer = TIMER.decode(value)
        expected = ("sleep", "step") if ref >= 0 else _KIND_OF_REF.get(ref, ())
        self._is(due_ms < INT64 and timer.kind in expected, f"a timer {timer.kind} of {ref} at {due_ms}")
        self._is(timer.attempt >= 0, f"it has failed {timer.attempt} times")

    def _attachment(self, key: bytes, value: bytes) -> None:
        self._is(key[1 + ID_BYTES : 2 + ID_BYTES] == b"/", "its form")
        self._id(key[1 : 1 + ID_BYTES])
        waiting = COMMAND.decode(value)
        id_hash(waiting.id)
        self._is(waiting.kind == "complete", f"a command {waiting.kind}")
        self._is(key == keys.attachment(key[1 : 1 + ID_BYTES].decode(), waiting.id, waiting.ref), f"{waiting.id} {waiting.ref}")

    def _paused(self, key: bytes, value: bytes) -> None:
        self._is(SLOT.decode(value).id == self._id(key[1:]), "it holds another id")

    def _promise(self, key: bytes, value: bytes) -> None:
        self._object_key(key[1:].rpartition(b"/")[0])
        found = PROMISE.decode(value)
        self._is((found.value is None) != (found.failure is None), "neither a value nor an error, or both")
        self._failure(found.failure)

    def _waiter(self, key: bytes, value: bytes) -> None:
        promise, id_, ref = keys.split_waiter(key)
        self._object_key(promise[1:].rpartition(b"/")[0])
        self._is(key[-keys.WAITER_BYTES - 1 : -keys.WAITER_BYTES] == b"/" and ref >= 0, "its form")
        self._is(SLOT.decode(value).id == self._id(id_.encode()), "it holds another id")

    def _owed(self, key: bytes, value: bytes) -> None:
        self._is(key[-9:-8] == b"/" and NAME.fullmatch(key[1:-9].decode()) is not None, "its form")
        waiting = COMMAND.decode(value)
        self._is(waiting.kind in ("invoke", "complete", "awakeable"), f"a command {waiting.kind}")
        id_hash(waiting.id)
        self._is(-(2**31) <= waiting.ref < 2**31, f"of entry {waiting.ref}")

    def _replay_order(self, key: bytes, value: bytes) -> None:
        self._replay(b"r" + key[1:], value)

    def _replay(self, key: bytes, value: bytes) -> None:
        found = REPLAY.decode(value)
        self._is(REPLAY_ID.fullmatch(found.id) is not None, f"its id {found.id[:60]!r}")
        self._is(0 <= found.partition < 2**31 and key == keys.replay(found.id, found.partition), "it holds another")
        self._is(found.partition % self._n == self._number, "its partition belongs to another shard")
        self._is(0 <= found.first <= found.next < FAR and found.stop < FAR, f"its range {found.first} {found.next} {found.stop}")
        numbers = (found.records, found.passed, found.gone, found.begun_ms, found.ended_ms, found.parts)
        self._is(all(0 <= number < FAR for number in numbers), "a number out of range")
        self._is(math.isfinite(found.rate) and found.rate >= 0, f"its rate {found.rate}")

    def _replay_tally(self, key: bytes, value: bytes) -> None:
        found = REPLAY_TALLY.decode(value)
        self._is(REPLAY_ID.fullmatch(found.id) is not None and key == keys.replay_tally(found.id), "it holds another")
        counts = (found.started, found.ended_well, found.dead_letters, found.left_out, found.at_ms)
        self._is(all(0 <= count < FAR for count in counts), "a number out of range")

    def _positions(self, key: bytes, value: bytes) -> None:
        self._is(key == keys.POSITIONS, "more than a letter")
        found = POSITIONS.decode(value)
        self._is(found.shards > 0, "no shards")
        offsets = [offset for place in found.inputs for offset in (place.offset, place.until)]
        numbers = (found.incarnation, found.epoch, found.sequence, *offsets)
        self._is(all(0 <= number < FAR for number in numbers), "a number out of range")
        self._is(all(REPLAY_ID.fullmatch(place.reset or "none") for place in found.inputs), "an id of a reset that is none")
        self._is(0 <= found.clock < 2**30 and all(0 <= ms < FAR for ms in (found.time_ms, *found.clocks_ms)), "its clocks")
        amiss = [place for place in found.inputs if place.partition < 0 or place.partition % found.shards != self._number]
        self._is(not amiss, f"it names partitions of other shards: {amiss[:1]}")

    # --- parts ---

    def _id(self, raw: bytes) -> str:
        id_ = raw.decode("ascii")
        self._is(id_hash(id_) % self._n == self._number, f"{id_} belongs to another shard")
        return id_

    def _object_key(self, raw: bytes) -> None:
        service, _, key = raw.partition(b"/")
        self._is(bool(service and key) and b"/" not in key, "not object/key")
        self._is(shard_of(keys.unescape(key), self._n) == self._number, "its key belongs to another shard")

    def _failure(self, failure: Failure | None) -> None:
        self._is(failure is None or 400 <= failure.code <= 599, "a failure with a code that is none")

    @staticmethod
    def _is(sound: bool, said: str) -> None:
        if not sound:
            raise ValueError(said)


class Foreign:
    """What one take-over has left out of one changelog's partition."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.records = 0
        self.over: set[bytes] = set()
        """Keys, as the store has them, that may be ours: what we have there is written again, lest only the foreign value stays."""
        self._first: list[str] = []

    def note(self, offset: int, why: NotOurs, key: bytes | None = None) -> None:
        self.records += 1
        if len(self._first) < FIRST:
            self._first.append(f"@{offset} {why}")
        if key is not None and len(self.over) < WRITTEN_AGAIN:
            self.over.add(key)

    def tell(self) -> None:
        """One line, whatever there is."""
        if self.records:
            logger.error(
                "%s[%d]: %d records are not this app's own and are left out; the first: %s. Somebody else writes to the topic: let "
                "nobody but the app do so (docs/acls.md); odradek_foreign_records_total counts them",
                *self.partition, self.records, "; ".join(self._first),
            )  # fmt: skip


class Restrain:
    """Records under keys of ours that a newer odradek may have written: while one is the last under its key, nobody takes over."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self._found: dict[bytes, tuple[int, str]] = {}

    def note(self, key: bytes, offset: int, why: OtherVersion) -> None:
        self._found[key] = offset, str(why)

    def lift(self, key: bytes) -> None:
        """Another record of the key has come."""
        if self._found:
            self._found.pop(key, None)

    def check(self) -> None:
        """Raise LogError if there is one."""
        if self._found:
            key, (offset, why) = next(iter(self._found.items()))
            topic, number = self._partition
            raise LogError(
                f"shard {number}: {len(self._found)} records of {topic} cannot be read by this version, the first at "
                f"{topic}[{number}]@{offset} under key {key[:60]!r}: {why}. Without them invocations would be lost or run "
                "twice. Ways out: run the version of odradek that wrote them · if none of yours did, write a deletion (the same "
                f"key, no value) to {topic}[{number}] for each, and let nobody but the app write there (docs/acls.md)",
                retriable=False,
            )


def sift(sieve: Sieve, store: Store) -> None:
    """A store that an older version has restored may hold what is not ours. Raises StoreError if the log is to say more."""
    try:
        gone = list(_amiss(sieve, store.scan(b"", b"\xff" * 8)))
    except OtherVersion as error:
        raise StoreError(f"the store holds what this version cannot read: {error}", "unusable") from error
    if any(key == keys.POSITIONS for key, _ in gone):
        raise StoreError(f"the positions in the store are not this app's own: {dict(gone)[keys.POSITIONS]}", "unusable")
    if gone:
        store.write([(key, None) for key, _ in gone])
        logger.error("%d records in a store are not this app's own: they are gone from it; the first: %s", len(gone), gone[0][1])


def _amiss(sieve: Sieve, pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, NotOurs]]:
    for key, value in pairs:
        try:
            if key[:1] == keys.STATE:
                sieve.state(key[1:])
            elif key[:1] != keys.STORE_POSITION:
                sieve.journal(key, value)
        except Kept:
            continue
        except NotOurs as why:
            yield key, why


def passes(sieve: Sieve, foreign: Foreign, restrain: Restrain, message: Message, key: bytes, *, behind: bool) -> bool:
    """Whether a record of the journal is ours to apply. `behind`: it lies behind our last positions."""
    value = message.value()
    if value is None:
        restrain.lift(key)
    try:
        sieve.journal(key, value)
    except OtherVersion as why:
        restrain.note(key, message.offset(), why)
        return False
    except Kept as why:
        foreign.note(message.offset(), why)
        return True
    except NotOurs as why:
        known = key[:1] in sieve.kinds and key != keys.POSITIONS
        foreign.note(message.offset(), why, key if known else None)
        return False
    if key == keys.POSITIONS and behind:
        foreign.note(message.offset(), NotOurs("positions of an epoch that others came after"))
        return False
    restrain.lift(key)
    return True
