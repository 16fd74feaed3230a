"""Restarts: an invocation is run again, under a new id from its beginning, or under its own from an entry of its journal on.

Stands beside killing. Under a new id it begins once more with what had started it, and the old one ends. From an entry on it
forgets that entry and all after it, with what has come of them: a replay of the rest brings it there, and it goes on with the code
of today.
"""

from __future__ import annotations

import logging

from msgspec.structs import replace

from odradek_runtime.core.operations.table import KINDS
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import BEGUN, ENDED, SLOT, Command, Entry, Slot, Stored, Timer
from odradek_runtime.core.records.journal import CANCELLATION, Journal
from odradek_runtime.core.records.order import asker_of, becomes
from odradek_runtime.core.records.request import Failure
from odradek_runtime.core.running.invocation import PYTHON, Live
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import Shard

from .due import Due
from .ending import Ending
from .keeping import Keeping
from .killing import KILLED, Killing
from .living import Living
from .starts import ASKED_MS, Starts

logger = logging.getLogger("odradek")


class Restarts:
    """Of one machine's invocations."""

    def __init__(
        self, scope: Scope, living: Living, keeping: Keeping, ending: Ending, killing: Killing, starts: Starts, due: Due
    ) -> None:
        self._scope = scope
        self._living = living
        self._keeping = keeping
        self._ending = ending
        self._killing = killing
        self._starts = starts
        self._due = due

    def restart(self, shard: Shard, command: Command) -> None:
        """As ordered: from an entry on, or as a new one."""
        stored = self._living.stored(shard, command.id)
        if stored is None:
            return
        if command.ref >= 0:
            self._from_entry(shard, stored, command)
        elif self._living.stored(shard, becomes(command)) is None:
            self._as_new(shard, stored, command)

    # --- as new ---

    def _as_new(self, shard: Shard, stored: Stored, command: Command) -> None:
        if stored.status in ENDED and stored.payload is None:
            logger.warning("%s has ended, and what started it is not kept: it is not restarted", stored.id)
            return
        id_ = becomes(command)
        new = replace(
            stored, id=id_, status="running", caller_app="", caller_id="", caller_ref=-1, created_ms=int(self._scope.now_ms),
            retain_ms=max(stored.retain_ms, ASKED_MS), failed_ms=0, attempts=0, reason="", pause="", python=PYTHON, result=None,
            failure=None, fingerprint=b"", due_ms=0, unbegun="",
        )  # fmt: skip
        logger.info("%s %s is restarted as %s (asked for by %s)", stored.target, stored.id, id_, asker_of(command))
        if stored.status not in ENDED:
            self._killing.replace(shard, stored, Failure(KILLED, f"{stored.target} was restarted as {id_}"))
        self._starts.begin(shard, new, 0)

    # --- from an entry on ---

    def _from_entry(self, shard: Shard, stored: Stored, command: Command) -> None:
        if stored.status not in BEGUN or stored.unbegun:  # its place in line, its time and its turn are its own still
            logger.warning("%s has not begun, or has ended: it is not restarted from an entry on", stored.id)
            return
        live, first = self._killing.shell(shard, stored), command.ref
        self._keeping.anchor(live)
        self._keeping.flush(live)
        if first > live.journal.length:
            logger.warning("%s has no entry %d in its journal, which has %d: it goes on", stored.id, first, live.journal.length)
            return
        by = asker_of(command)
        logger.info("%s %s is restarted from entry %d on (asked for by %s)", stored.target, stored.id, first, by)
        kept = live.journal.commands[:first]
        came = [entry for entry in live.journal.completions if _behind(entry) < first]
        self._forget(shard, live, first)
        stored.created_ms = max(int(self._scope.now_ms), stored.created_ms + 1)  # what comes of the old ones is nobody's
        for place, running in shard.running.items():
            if place[0] == stored.id:  # a step before that entry that still runs goes on, and its result counts
                shard.running[place] = running._replace(created_ms=stored.created_ms)
        stored.attempts, stored.failed_ms, stored.reason = 0, 0, ""
        self._write(shard, stored, kept, came)
        self._due.retry(shard, stored)

    def _forget(self, shard: Shard, live: Live, first: int) -> None:
        """Its journal, its coroutine, what it has at work; what it waits for from that entry on is killed."""
        self._killing.tell_callees(shard, live, "kill", first)
        self._killing.put_out(shard, live.endure())
        self._ending.set_free(live)
        for place in [place for place in shard.running if place[0] == live.id and place[1] >= first]:
            del shard.running[place]

    def _write(self, shard: Shard, stored: Stored, kept: list[Entry], came: list[Entry]) -> None:
        """What is kept of its journal, and the timers of what it waits for still."""
        journal = Journal()
        journal.commands, journal.length = kept, len(kept)
        journal.unwritten = [*kept, *came]
        if journal.unwritten:
            for chunk in journal.take_unwritten(self._scope.now_ms):
                shard.put(keys.chunk(stored.id, shard.next_sequence()), chunk)
        ended, now_ms = {entry.ref for entry in came}, int(self._scope.now_ms)
        for entry in kept:
            kind = KINDS.get(entry.kind)
            if kind is None or entry.ref in ended or entry.failure is not None:
                continue
            key, row = kind.timer(stored.id, entry), kind.row(self._killing.base(stored), stored.id, entry)
            if key is not None:
                shard.set_timer(key, Timer(entry.kind, 0, now_ms, stored.created_ms))
            if row is not None:
                shard.put(row, SLOT.encode(Slot(stored.id)))
        handler = self._scope.handlers.get(stored.target)
        if handler is not None and handler.timeout_s is not None:
            due_ms = int(now_ms + handler.timeout_s * 1000)
            shard.set_timer(keys.timer(due_ms, stored.id, keys.REF_TIMEOUT), Timer("timeout", created_ms=stored.created_ms))


def _behind(completion: Entry) -> int:
    """The entry that it stays with. A cancellation stays with the first of its clean-up, which nothing else brings about."""
    return completion.ref if completion.ref != CANCELLATION else int.from_bytes(completion.value or b"")
