"""Retention: what stays of an invocation that has ended, for how long, and that it goes when its time has come.

Stands behind `ending`. A completion stays for those who ask by idempotency key, by id or for a workflow; a journal where its
handler says so (`journal_retention=`), so that somebody may look at what it has done.
"""

from __future__ import annotations

from odradek._definition import Handler
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import Stored, Timer
from odradek_runtime.core.records.request import Failure
from odradek_runtime.core.running.invocation import Live
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import Shard
from odradek_runtime.core.topics.sizes import kept_for_certain

from .workflows import Workflows


class Retention:
    """Of one machine's invocations."""

    def __init__(self, scope: Scope, workflows: Workflows) -> None:
        self._scope = scope
        self._workflows = workflows

    def keep(self, live: Live, stored: Stored, result: bytes | None, failure: Failure | None) -> None:
        """Its completion stays for as long as somebody may ask for it, and at least as long as its journal."""
        shard, key = live.shard, keys.invocation(stored.id)
        retain_ms = max(stored.retain_ms, journal_ms(live.handler))
        if not retain_ms:
            if live.anchored or shard.read(key) is not None:
                shard.put(key, None)
            return
        stored.status = "completed" if failure is None else "failed"
        stored.result, stored.failure = result, failure
        if failure is None or not _may_restart(stored, failure):
            stored.payload, stored.headers = None, []
        stored.due_ms = int(self._scope.now_ms) + retain_ms
        shard.put(key, self._scope.sizes.entry(stored))
        shard.set_timer(keys.timer(stored.due_ms, stored.id, keys.REF_PURGE), Timer("purge"))

    def purge(self, shard: Shard, stored: Stored) -> None:
        """All that is kept of it goes now: nobody finds it any more."""
        shard.put(keys.invocation(stored.id), None)
        timer = keys.timer(stored.due_ms, stored.id, keys.REF_PURGE)
        if shard.read(timer) is not None:
            shard.put(timer, None)
        for chunk, _ in list(shard.scan_chunks(keys.chunks(stored.id))):
            shard.put(chunk, None)
        self._workflows.forget(shard, stored)
        self._scope.touch(shard)


def journal_ms(handler: Handler) -> int:
    """How long the journals of its invocations stay after their end; 0: they go with it."""
    return int((handler.journal_retention_s or 0) * 1000)


def _may_restart(stored: Stored, failure: Failure) -> bool:
    """Whether what started it is kept with its failure, so that somebody may have it run again: where there is room for both."""
    texts = sum(len(header.name) + len(header.value or b"") for header in stored.headers)
    return kept_for_certain(len(stored.payload or b"") + len(stored.key) + 2 * texts + failure.held_bytes)
