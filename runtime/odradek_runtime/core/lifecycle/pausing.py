"""Pausing: an invocation stands still until somebody has it go on. It keeps its key, its place in line, and what comes back for it.

Stands between the commands of operators and the parts that pause and retry. What has not begun is paused, too: in line for its key
it keeps its place, and holds up its key when its turn has come; its time and its turn wait for it.
"""

from __future__ import annotations

import logging

from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import BEGUN, ENDED, UNBEGUN, Command, Stored, Timer
from odradek_runtime.core.records.order import asker_of
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import Shard

from .due import Due
from .failing import Failing
from .killing import Killing
from .limits import Limits
from .living import Living

logger = logging.getLogger("odradek")

OPERATOR = "operator"
"""Why it is paused: somebody has asked for it."""


class Pausing:
    """Of one machine's invocations."""

    def __init__(self, scope: Scope, living: Living, limits: Limits, failing: Failing, killing: Killing, due: Due) -> None:
        self._scope = scope
        self._living = living
        self._limits = limits
        self._failing = failing
        self._killing = killing
        self._due = due

    def pause(self, shard: Shard, command: Command) -> None:
        """It does nothing more for now. What has ended, or is paused, stays as it is."""
        stored = self._living.stored(shard, command.id)
        if stored is None or stored.status == "paused" or stored.status in ENDED:
            return
        reason = f"asked for by {asker_of(command)}"
        if stored.reason:
            reason = f"{reason}; before that: {stored.reason}"
        live = self._living.find(shard, stored.id)
        if live is not None:
            self._failing.paused(live, OPERATOR, reason)
            return
        unbegun, due_ms = (stored.status if stored.status in UNBEGUN else ""), stored.due_ms
        begun = stored.status in BEGUN
        self._killing.put_out(shard, stored)
        if begun:
            self._limits.ended(self._killing.shell(shard, stored))
        else:
            stored.unbegun, stored.due_ms = unbegun, due_ms
        self._failing.pause(shard, stored, OPERATOR, reason)

    def resume(self, shard: Shard, command: Command) -> None:
        """It goes on, whatever has paused it; one that waits for its next attempt has it now."""
        stored = self._living.stored(shard, command.id)
        if stored is None or stored.status not in ("paused", "backing_off"):
            return
        logger.info("%s %s is resumed (asked for by %s)", stored.target, stored.id, asker_of(command))
        unbegun, due_ms = stored.unbegun, stored.due_ms
        self._killing.put_out(shard, stored)
        stored.attempts, stored.failed_ms, stored.reason = 0, 0, ""
        if unbegun:
            self._stand_again(shard, stored, unbegun, due_ms)
        else:
            self._due.retry(shard, stored)

    def _stand_again(self, shard: Shard, stored: Stored, unbegun: str, due_ms: int) -> None:
        """One that had not begun waits again where it stood, unless its time, or its turn, has come meanwhile."""
        if unbegun == "inboxed" and not self._has_key(shard, stored):
            stored.status = "inboxed"
        else:
            stored.status = "scheduled"
            stored.due_ms = due_ms if due_ms > self._scope.now_ms else 0
            shard.set_timer(keys.timer(stored.due_ms, stored.id, keys.REF_START), Timer("start"))
        shard.put(keys.invocation(stored.id), self._scope.sizes.entry(stored))
        self._scope.touch(shard)

    def _has_key(self, shard: Shard, stored: Stored) -> bool:
        base = self._killing.base(stored)
        held = shard.locks.held.get(base)
        return held is not None and held.holder == stored.id
