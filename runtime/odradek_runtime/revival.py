"""Revival: an invocation whose coroutine is gone comes back from the store, by replay of its journal.

Beside the runner, which drives what is alive: after an eviction, a restart or a move, `waits` and the runner ask here for what a
timer or a completion belongs to.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from . import keys
from .formats import Entry, FormatError, Timer
from .formats import Invocation as Stored
from .invocation import Live
from .journal import Journal
from .runner import PYTHON

if TYPE_CHECKING:
    from .machine import Machine
    from .shard import Shard

logger = logging.getLogger("odradek")


class Revival:
    """Makes live invocations of stored ones."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def revive(self, shard: Shard, stored: Stored) -> Live | None:
        """A Live for a stored invocation. None when the app has lost its handler: it is paused and says so."""
        handler = self._machine.handlers.get(stored.target)
        subscription = None
        if stored.topic:
            found = [s for s in self._machine.subscriptions.get(stored.topic, ()) if s.handler.target == stored.target]
            subscription = found[0] if found else None
        if handler is None or (stored.topic and subscription is None):
            on = f" on {stored.topic}" if stored.topic else ""
            reason = f"the app no longer has the handler {stored.target}{on}: deploy code that has it; it goes on at the next start"
            self._machine.ending.pause(shard, stored, "missing", reason)
            return None
        base = self._machine.base(handler.service, stored.key)
        live = Live(self._machine, shard, handler, stored.key, base, stored.payload)
        live.subscription = subscription
        live.endure(stored)
        if stored.python not in ("", PYTHON):
            logger.warning("%s was begun on Python %s and goes on with %s", stored.id, stored.python, PYTHON)
        return live

    def rebuild(self, shard: Shard, stored: Stored) -> Live | None:
        """A suspended invocation whose coroutine is gone, its journal loaded, not yet run. None: it cannot run, it is paused."""
        machine = self._machine
        live = self.revive(shard, stored)
        if live is None:
            return None
        try:
            live.journal = Journal.load(shard.scan_chunks(keys.chunks(stored.id)))
        except FormatError as error:
            machine.ending.pause(shard, stored, "divergence", str(error))
            return None
        live.anchored = True
        shard.live[stored.id] = live
        self._machine.limits.began(live)
        return live

    def replay(self, shard: Shard, stored: Stored) -> Live | None:
        """Rebuild an invocation from its journal and run it as far as it goes."""
        live = shard.live.get(stored.id) or self.rebuild(shard, stored)
        if live is not None and live.coroutine is None:
            self._machine.runner.start(live)
        return shard.live.get(stored.id)

    def rerun_step(self, shard: Shard, stored: Stored, ref: int, timer: Timer) -> None:
        """A step's time has come (again): after a failed attempt, or because its worker died before it ended."""
        live = self.replay(shard, stored)
        if live is None or live.closed:
            return
        if (stored.id, ref) in shard.running:
            return
        if ref in live.bodies and ref in live.pending:
            self._machine.runner.start_step(live, ref, timer.attempt, timer.first_ms)
        else:
            shard.put(keys.timer(0, stored.id, ref), None)
            self._machine.touch(shard)

    def note(self, shard: Shard, id_: str, completion: Entry) -> None:
        """Journal a completion of an invocation that cannot run now; its next attempt will find it."""
        journal = Journal()
        journal.add_completion(self._machine.sizes.completion("what it waits for", completion))
        for chunk in journal.take_unwritten():
            shard.put(keys.chunk(id_, shard.next_sequence()), chunk)
        self._machine.touch(shard)
