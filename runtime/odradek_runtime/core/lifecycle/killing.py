"""Killing: an invocation ends without running any more of its code, whatever it waits for, and so do the calls that it waits for.

Stands between the commands of operators and callers and `ending`. It needs neither coroutine nor handler: what the app has lost, or
what cannot be replayed, can be killed, too. Its key is free after that. A record that started it goes where its subscription says.
"""

from __future__ import annotations

import logging

from odradek import ObjectContext
from odradek._definition import Handler
from odradek_runtime.core.operations.table import KINDS
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import ENDED, Command, FormatError, Stored
from odradek_runtime.core.records.journal import Journal
from odradek_runtime.core.records.order import asker_of
from odradek_runtime.core.records.request import Failure
from odradek_runtime.core.running.invocation import Live
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import Shard

from .ending import Ending
from .failing import Failing
from .limits import Limits
from .living import Living
from .outward import Outward
from .retention import Retention

logger = logging.getLogger("odradek")

KILLED = 409
"""The code that whoever waits for it is told."""


class Killing:
    """Of one machine's invocations."""

    def __init__(
        self,
        scope: Scope,
        living: Living,
        limits: Limits,
        outward: Outward,
        ending: Ending,
        failing: Failing,
        retention: Retention,
    ) -> None:
        self._scope = scope
        self._living = living
        self._limits = limits
        self._outward = outward
        self._ending = ending
        self._failing = failing
        self._retention = retention

    def kill(self, shard: Shard, command: Command) -> None:
        """As ordered, by an operator or by the invocation that waits for it and was killed itself."""
        stored = self._living.stored(shard, command.id)
        if stored is None or stored.status in ENDED:
            return
        if command.caller_id and not self.leaves(shard, stored, command):
            return
        live = self.shell(shard, stored)
        barred = self._failing.barred(live.subscription)
        if barred is not None:
            logger.error("%s cannot be killed, for its dead letter cannot be written: %s; order it again", stored.id, barred)
            return
        by = f"called by {command.caller_id}, which has been killed" if command.caller_id else f"asked for by {asker_of(command)}"
        logger.warning("%s %s is killed (%s)", stored.target, stored.id, by, extra={"handler": stored.target})
        if command.caller_id:  # it does not wait any more, and may have made the same call anew
            stored.caller_app, stored.caller_id, stored.caller_ref = "", "", -1
        self.end(shard, live, Failure(KILLED, f"{stored.target} was killed"))

    def end(self, shard: Shard, live: Live, failure: Failure) -> None:
        """It is over, and what it waits for is killed, too."""
        self.tell_callees(shard, live, "kill")
        self.put_out(shard, live.endure())
        self._living.unqueue(shard, live)
        self._ending.failed(live, failure)

    def replace(self, shard: Shard, stored: Stored, failure: Failure) -> None:
        """Another one begins in its place: it is over, and is no dead letter."""
        live = self.shell(shard, stored)
        self.tell_callees(shard, live, "kill")
        self.put_out(shard, stored)
        self._living.unqueue(shard, live)
        self._ending.replaced(live, failure)

    def purge(self, shard: Shard, command: Command) -> None:
        """What is kept of one that has ended goes now: nobody finds it any more, and its idempotency key starts another."""
        stored = self._living.stored(shard, command.id)
        if stored is None or stored.status not in ENDED:
            return
        logger.info("%s %s is purged (asked for by %s)", stored.target, stored.id, asker_of(command))
        self._retention.purge(shard, stored)

    def leaves(self, shard: Shard, stored: Stored, command: Command) -> bool:
        """A caller does not wait for it any more. Whether nobody does: it is the caller's own, and no other has attached."""
        shard.put(keys.attachment(stored.id, command.caller_id, command.ref), None)
        self._scope.touch(shard)
        return self.waits_alone(shard, stored, command)

    def waits_alone(self, shard: Shard, stored: Stored, command: Command) -> bool:
        """Whether it is the caller's own, and no other waits for it."""
        own = (stored.caller_id, stored.caller_ref) == (command.caller_id, command.ref)
        return own and not shard.waiters.get(stored.id) and not self._attached(shard, stored.id)

    def _attached(self, shard: Shard, id_: str) -> bool:
        return id_ in shard.attached and next(iter(shard.scan_prefix(keys.attached(id_))), None) is not None

    def tell_callees(self, shard: Shard, live: Live, kind: str, first: int = 0) -> None:
        """The calls that it waits for, from that entry on, hear of it, in the order in which it has made them."""
        own = self._scope.app.name
        for entry in live.journal.unanswered():
            known = KINDS.get(entry.kind)
            callee = known.callee(own, live.id, entry) if known is not None and known.outside and entry.ref >= first else None
            if callee is not None:
                told = Command(kind=kind, id=callee.id, caller_app=own, caller_id=live.id, ref=entry.ref, name=callee.app)
                self._outward.route(told, shard)

    def put_out(self, shard: Shard, stored: Stored) -> None:
        """Nothing starts it, tries it again, or counts it among those that wait for their turn."""
        for due_ms in {0, stored.due_ms}:
            for ref in (keys.REF_START, keys.REF_RETRY):
                key = keys.timer(due_ms, stored.id, ref)
                if shard.read(key) is not None:
                    shard.put(key, None)
        if stored.status == "paused":
            shard.put(keys.paused(stored.id), None)
        stored.due_ms, stored.unbegun, stored.pause = 0, "", ""
        self._limits.leave(shard, stored)
        self._scope.targets.unavailable.ended(stored.id)

    # --- without its code ---

    def base(self, stored: Stored) -> bytes:
        """What the state keys of its object begin with, also of one that the app has lost."""
        return keys.state_prefix(stored.target.partition("/")[0]) + keys.escape(stored.key)

    def shell(self, shard: Shard, stored: Stored) -> Live:
        """It as it lives, or else a shell of it with its journal, which is never run."""
        live = self._living.find(shard, stored.id) or self._living.in_line(shard, stored.id)
        if live is not None:
            live.last()
            return live
        handler = self._scope.handlers.get(stored.target) or _lost(stored.target)
        live = Live(self._scope, shard, handler, stored.key, self.base(stored), stored.payload)
        found = [each for each in self._scope.subscriptions.get(stored.topic, ()) if each.handler.target == stored.target]
        live.subscription = found[0] if found else None
        live.be(stored)
        live.journal = _journal(shard, stored)
        live.anchored = True
        return live


def _journal(shard: Shard, stored: Stored) -> Journal:
    """As far as it can be read; all of it goes in any case."""
    found = list(shard.scan_chunks(keys.chunks(stored.id)))
    try:
        return Journal.load(found)
    except FormatError as error:
        logger.warning("the journal of %s cannot be read, so what it has called goes on: %s", stored.id, error)
        journal = Journal()
        journal.chunks = [key for key, _ in found]
        return journal


async def _nothing(ctx: ObjectContext) -> None:
    """What a handler would do that the app has lost."""


def _lost(target: str) -> Handler:
    """Stands for a handler that the app has lost: it may have held its key."""
    service, _, name = target.partition("/")
    return Handler(service, name, _nothing, "exclusive", ObjectContext, {})
