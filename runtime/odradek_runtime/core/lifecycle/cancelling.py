"""Cancelling: an invocation is told to end. Its handler gets asyncio.CancelledError at the await where it waits, and may clean up.

Stands between the commands of operators, callers and handlers and what wakes an invocation. The cancellation is journaled as one of
the things that come back, in its place among them, so that each replay raises it at the same await. What has not begun never does.
"""

from __future__ import annotations

import logging

from odradek_runtime.core.records.formats import ENDED, UNBEGUN, Command, Entry, Stored
from odradek_runtime.core.records.journal import CANCELLATION
from odradek_runtime.core.records.order import asker_of
from odradek_runtime.core.records.request import Failure
from odradek_runtime.core.running.invocation import Live
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import Shard

from .advance import Advance
from .due import Due
from .failing import Failing
from .killing import Killing
from .living import Living
from .revival import Revival

logger = logging.getLogger("odradek")


class Cancelling:
    """Of one machine's invocations."""

    def __init__(
        self, scope: Scope, living: Living, failing: Failing, killing: Killing, revival: Revival, advance: Advance, due: Due
    ) -> None:
        self._scope = scope
        self._living = living
        self._failing = failing
        self._killing = killing
        self._revival = revival
        self._advance = advance
        self._due = due

    def cancel(self, shard: Shard, command: Command) -> None:
        """As ordered, by an operator, a handler, or the invocation that waits for it and was cancelled itself."""
        stored = self._living.stored(shard, command.id)
        if stored is None or stored.status in ENDED:
            return
        if command.caller_id and not self._killing.waits_alone(shard, stored, command):
            return
        live = self._killing.shell(shard, stored)
        if CANCELLATION in live.journal.completed:
            return
        logger.info("%s %s is cancelled (%s)", stored.target, stored.id, command.caller_id or asker_of(command))
        if _cannot_run(stored):
            self._never(shard, stored, live)
            return
        self._killing.tell_callees(shard, live, "cancel")
        failure = Failure(409, f"{stored.target} was cancelled")
        cancellation = Entry("completion", CANCELLATION, value=live.journal.length.to_bytes(4), failure=failure)
        if stored.status in ("paused", "backing_off"):
            self._killing.put_out(shard, stored)
            stored.attempts, stored.failed_ms, stored.reason = 0, 0, ""
            self._revival.note(shard, stored.id, cancellation)
            self._due.retry(shard, stored)
        else:
            self._advance.complete(shard, stored.id, cancellation)

    def _never(self, shard: Shard, stored: Stored, live: Live) -> None:
        """It has not begun, or the app has not the code to go on with: it ends as it stands."""
        barred = self._failing.barred(live.subscription)
        if barred is not None:
            logger.error("%s cannot be cancelled, for its dead letter cannot be written: %s; order it again", stored.id, barred)
            return
        self._killing.end(shard, live, Failure(409, f"{stored.target} was cancelled"))


def _cannot_run(stored: Stored) -> bool:
    return stored.status in UNBEGUN or bool(stored.unbegun) or stored.pause in ("missing", "divergence")
