"""Revival: an invocation whose coroutine is gone comes back from the store, with its journal, to be run by replay.

Stands between the store and `advance`: after an eviction, a restart or a move, a timer or a completion asks here for what it is of.
"""

from __future__ import annotations

import logging

from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import Entry, FormatError, Stored
from odradek_runtime.core.records.journal import Journal
from odradek_runtime.core.running.invocation import PYTHON, Live
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import Shard

from .failing import Failing
from .limits import Limits
from .living import Living

logger = logging.getLogger("odradek")


class Revival:
    """Makes live invocations of stored ones."""

    def __init__(self, scope: Scope, living: Living, limits: Limits, failing: Failing) -> None:
        self._scope = scope
        self._living = living
        self._limits = limits
        self._failing = failing

    def revive(self, shard: Shard, stored: Stored) -> Live | None:
        """A Live for a stored invocation. None when the app has lost its handler: it is paused and says so."""
        handler = self._scope.handlers.get(stored.target)
        subscription = None
        if stored.topic:
            found = [s for s in self._scope.subscriptions.get(stored.topic, ()) if s.handler.target == stored.target]
            subscription = found[0] if found else None
        if handler is None or (stored.topic and subscription is None):
            on = f" on {stored.topic}" if stored.topic else ""
            reason = f"the app no longer has the handler {stored.target}{on}: deploy code that has it; it goes on at the next start"
            self._failing.pause(shard, stored, "missing", reason)
            return None
        base = self._scope.base(handler.service, stored.key)
        live = Live(self._scope, shard, handler, stored.key, base, stored.payload)
        live.subscription = subscription
        live.be(stored)
        if stored.python not in ("", PYTHON):
            logger.warning("%s was begun on Python %s and goes on with %s", stored.id, stored.python, PYTHON)
        return live

    def rebuild(self, shard: Shard, stored: Stored) -> Live | None:
        """A suspended invocation whose coroutine is gone, its journal loaded, not yet run. None: it cannot run, it is paused."""
        live = self.revive(shard, stored)
        if live is None:
            return None
        try:
            live.journal = Journal.load(shard.scan_chunks(keys.chunks(stored.id)))
        except FormatError as error:
            self._failing.pause(shard, stored, "divergence", str(error))
            return None
        live.anchored = True
        self._living.add(live)
        self._limits.began(live)
        return live

    def note(self, shard: Shard, id_: str, completion: Entry) -> None:
        """Journal a completion of an invocation that cannot run now; its next attempt will find it."""
        journal = Journal()
        journal.add_completion(self._scope.sizes.completion("what it waits for", completion))
        for chunk in journal.take_unwritten(self._scope.now_ms):
            shard.put(keys.chunk(id_, shard.next_sequence()), chunk)
        self._scope.touch(shard)
