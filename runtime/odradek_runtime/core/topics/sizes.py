"""Sizes: whether the app's own topics take what the engine is about to write. Asked wherever a record is made (invariant 9).

One record that its topic does not take aborts the transaction of thousands. So each is measured where it is made, by the one who
can still do something else with what it holds: raise where a handler made it, answer a caller with 413, write a dead letter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from odradek import TerminalError
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.dead_letter import left_out
from odradek_runtime.core.records.formats import INVOCATION, Command, Entry, Header, Stored
from odradek_runtime.core.records.request import Failure
from odradek_runtime.log.port import Output
from odradek_runtime.log.sizes import record_bytes

if TYPE_CHECKING:
    from odradek_runtime.core.records.journal import Act

    from .targets import Targets

LEAST_BYTES = 262_144
"""No internal topic may take less: bookkeeping, errors and chunks of the journal must always fit."""
SMALL_BYTES = 65_536
"""What holds no more is not looked at any closer."""
AROUND_BYTES = 512
"""More than Avro, the key and the batch add to the bytes and texts that an entry, a command or an invocation holds."""
AROUND_ENTRY_BYTES = 4 * AROUND_BYTES
"""The same of an invocation's entry, which says more."""
GROWTH_BYTES = 512
"""Kept free in an invocation's entry for what it says later: its status, how often it failed, a short reason."""
UTF8_BYTES = 4
"""A character takes no more."""
_STAMP = (("odradek", b"0" * 40),)
"""At least as large as the header of a state record, which says what epoch wrote it."""


class Sizes:
    """What the app's internal topics take, as far as `targets` has seen. `steady_ms` gives the time by the steady clock."""

    def __init__(self, app: str, targets: Targets, max_record_bytes: int, steady_ms: Callable[[], float]) -> None:
        self._targets = targets
        self._most_bytes = max_record_bytes
        self._steady_ms = steady_ms
        self._commands, self._journal, self._state = f"{app}.commands", f"{app}.journal", f"{app}.state"
        self.plain_state = -1
        """State of so many bytes (key and value) fits for certain: the hot path looks here."""

    def learn(self, letters: Iterable[str], steady_ms: float) -> None:
        """At the start, so that no record waits for it: what these topics take, and those that take dead letters."""
        for topic in (self._commands, self._journal, self._state, *letters):
            self._targets.limit(topic, steady_ms)

    def renew(self) -> None:
        """A record was refused: what is known may have changed, so the next write asks."""
        self.plain_state = -1

    # --- what handlers make ---

    def check_state(self, name: str, key: bytes, value: bytes | None) -> None:
        """Raise TerminalError unless the state topic takes it, and the journal what reads it. `key`: as the store has it."""
        if self.plain_state < 0:
            least = min(self._limit(self._state), self._limit(self._journal), self._most_bytes)
            self.plain_state = least - 2 * AROUND_BYTES
        what, size = f"state {name!r}", len(value or b"")
        self._check(what, size, "max_record_bytes", self._most_bytes)
        self._check(what, record_bytes(key[1:], value, _STAMP), self._state)
        self._check(what, size + len(name.encode()) + AROUND_BYTES, self._journal)

    def check_invoke(self, app: str, command: Command) -> None:
        """Raise TerminalError unless the commands topic of that app ("" = this one) takes it, and the journal that keeps it."""
        what, payload = f"{command.target}: an argument", len(command.payload or b"")
        self._check(what, payload, "max_record_bytes", self._most_bytes)
        size = payload + _held(command.key, command.target, *_texts(command.headers)) + AROUND_BYTES
        if size > SMALL_BYTES:
            self._check(what, size, f"{app}.commands" if app else self._commands)
            if not app:
                self._check(what, size + GROWTH_BYTES, self._journal)

    def check_given(self, app: str, what: str, value: bytes | None) -> None:
        """Raise TerminalError unless what waits there (`app` "" = here) can be given this value."""
        size = len(value or b"") + AROUND_BYTES
        self._check(what, len(value or b""), "max_record_bytes", self._most_bytes)
        if size > SMALL_BYTES:
            self._check(what, size, f"{app}.commands" if app else self._commands)
            if not app:
                self._check(what, size, self._journal)

    def why_no_result(self, stored: Stored, result: bytes) -> str:
        """Why the log does not take a result: as an answer to a caller, or as what is kept of the invocation. "" if it does."""
        if len(result) > self._most_bytes:
            return _said(len(result), "max_record_bytes", self._most_bytes)
        kept = len(result) + _held(stored.key, stored.record_key, stored.target) + AROUND_BYTES
        topic = f"{stored.caller_app}.commands" if stored.caller_app else self._commands
        return self._over(kept, self._journal) or self._over(len(result) + AROUND_BYTES, topic)

    def letter(self, letter: Output) -> Output:
        """A dead letter as its topic takes it: without its value, its headers, its key, if need be; their sizes in headers."""
        if self._fits(letter):
            return letter
        told = [(name, text) for name, text in letter.headers or () if name.startswith("odradek-")]
        own = [(name, text) for name, text in letter.headers or () if not name.startswith("odradek-")]
        if letter.value is not None:
            told = [*told, left_out("value", len(letter.value))]
            letter = letter._replace(value=None, headers=[*told, *own])
        if own and not self._fits(letter):
            told = [*told, left_out("headers", _held(*(part for pair in own for part in pair)))]
            letter = letter._replace(headers=told)
        if letter.key is not None and not self._fits(letter):
            told = [*told, left_out("key", len(letter.key))]
            letter = letter._replace(key=None, headers=told)
        return letter if self._fits(letter) else letter._replace(headers=[(name, (text or b"")[:100]) for name, text in told])

    # --- the journal ---

    def completion(self, what: str, entry: Entry) -> Entry:
        """The entry, or if the journal does not take its value one that says so."""
        over = self._over(len(entry.value or b"") + AROUND_BYTES, self._journal)
        return Entry(entry.kind, entry.ref, failure=Failure(413, f"{what} {over}")) if over else entry

    def why_unwritten(self, record: bytes) -> str:
        """Why the journal does not take a record of a short key. "" if it does."""
        return self._over(len(record) + AROUND_BYTES, self._journal)

    def why_unjournaled(self, commands: Sequence[Act]) -> str:
        """Why the journal does not take what a handler did. "" if it does."""
        for kind, name, key, value, _ in commands:
            if (len(key) if key else 0) + (len(value) if value else 0) + UTF8_BYTES * len(name) <= SMALL_BYTES - AROUND_BYTES:
                continue
            over = self._over(_held(key, value, name) + AROUND_BYTES, self._journal)
            if over:
                return f"{kind} {name}: the entry {over}"
        return ""

    def why_unkept(self, stored: Stored, base: bytes) -> str:
        """Why an invocation cannot wait: the journal does not take its entry, or the lock of its key. "" if it does.

        `base`: what the state keys of its object begin with.
        """
        held = _held(stored.payload, stored.key, stored.record_key, *_texts(stored.headers))
        if kept_for_certain(held):
            return ""
        size = held + AROUND_ENTRY_BYTES
        if size > self._limit(self._journal):  # perhaps: to the byte, then
            bare = msgspec.structs.replace(stored, reason="")
            size = record_bytes(keys.invocation(stored.id), INVOCATION.encode(bare)) + GROWTH_BYTES
        return self._over(size, self._journal) or self._over(len(base) + AROUND_BYTES, self._journal)

    def entry(self, stored: Stored) -> bytes:
        """An invocation's entry as the journal takes it: a long reason is cut where there is no room for it."""
        encoded = INVOCATION.encode(stored)
        if len(encoded) <= SMALL_BYTES:
            return encoded
        over = len(encoded) + AROUND_BYTES // 4 - self._limit(self._journal, len(encoded))
        if over > 0 and stored.reason:
            reason = stored.reason.encode()
            stored.reason = reason[: max(len(reason) - over, GROWTH_BYTES // 4)].decode("utf-8", "ignore")
            encoded = INVOCATION.encode(stored)
        return encoded

    # --- commands ---

    def why_unsent(self, topic: str, encoded: bytes) -> str:
        """Why a commands topic does not take a command. "" if it does."""
        return self._over(record_bytes(None, encoded), topic)

    # --- inside ---

    def _limit(self, topic: str, wanted: int = 0) -> int:
        return self._targets.limit(topic, self._steady_ms(), wanted)

    def _over(self, size: int, topic: str) -> str:
        if size <= SMALL_BYTES:
            return ""
        limit = self._limit(topic, size)
        return _said(size, topic, limit) if size > limit else ""

    def _check(self, what: str, size: int, where: str, limit: int | None = None) -> None:
        limit = self._limit(where, size) if limit is None else limit
        if size > limit:
            raise TerminalError(f"{what} {_said(size, where, limit)}", code=413)

    def _fits(self, letter: Output) -> bool:
        size = record_bytes(letter.key, letter.value, letter.headers)
        return size <= self._limit(letter.topic, size)



def kept_for_certain(held_bytes: int) -> bool:
    """Whether the journal takes the entry of an invocation whose payload, keys and headers hold so much, whatever its bounds."""
    return held_bytes + AROUND_ENTRY_BYTES <= SMALL_BYTES


def made_of(body: bytes | None, key: bytes | None, headers: Sequence[Header]) -> str:
    """What is large in a request that is too large, the largest first, and what helps.

    >>> made_of(b"x" * 900, b"k" * 40, [])
    ' (its body 900, its key 40, its headers 0 bytes): send less, or raise the max.message.bytes of that topic'
    """
    sizes = {"body": _held(body), "key": _held(key), "headers": sum(_held(each.name, each.value) for each in headers)}
    told = ", ".join(f"its {part} {size}" for part, size in sorted(sizes.items(), key=lambda pair: -pair[1]))
    return f" ({told} bytes): send less, or raise the max.message.bytes of that topic"


def _held(*parts: bytes | str | None) -> int:
    return sum(len(part.encode()) if isinstance(part, str) else len(part) for part in parts if part)


def _texts(headers: Sequence[Header]) -> list[bytes | str | None]:
    """What headers hold, and 16 bytes of Avro for each."""
    return [part for header in headers for part in (header.name, header.value, b"\0" * 16)]


def _said(size: int, where: str, limit: int) -> str:
    return f"takes {size} bytes, over the limit of {where}, {limit} bytes"
