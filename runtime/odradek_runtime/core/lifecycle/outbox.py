"""The outbox: commands for other apps whose topics take none now. They wait in the journal, and nobody waits for them.

Stands behind `Outward`, which hands over what cannot be told now, and before it again when the agenda finds that the topic takes
records. A command waits under a key of its own (`o` + app + sequence), so it outlives a crash and moves with its shard; it goes in
the transaction that deletes the key, with the id and ref that it always had. While some wait, later ones for that app wait behind.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import islice

from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import COMMAND, Command
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import Shard
from odradek_runtime.core.topics.targets import AGAIN_MS
from odradek_runtime.core.topics.unavailable import AbsentTopic, Unavailable
from odradek_runtime.log.port import LogError

from .rejection import Rejection

logger = logging.getLogger("odradek")


class Outbox:
    """Of one machine: all its shards' commands that wait for other apps. Each topic is looked at again after its pause."""

    def __init__(self, scope: Scope, rejection: Rejection) -> None:
        self._scope = scope
        self._rejection = rejection
        self._look_ms: dict[str, float] = {}
        """When each app's topic is looked at again, by the steady clock."""
        self._said: set[str] = set()

    def keep(self, app: str, command: Command, shard: Shard, error: Unavailable | LogError | None = None) -> str:
        """It waits from now on. Gives why it cannot: the journal does not take it. "" if it does.

        `error`: why it has to; None: only because others wait before it.
        """
        scope = self._scope
        command.timestamp_ms = int(scope.now_ms)
        waiting = COMMAND.encode(command)
        over = scope.sizes.why_unwritten(waiting)
        if over:
            command.timestamp_ms = 0
            return over
        if error is not None:
            self._wait(app, error)
        shard.put(keys.outbox_slot(app, shard.next_sequence()), waiting)
        shard.outboxes.add(app)
        scope.touch(shard)
        return ""

    def wait_ms(self, shards: Iterable[Shard], steady_ms: float) -> float:
        """In how many milliseconds a topic is to be looked at for these shards; 0 or less: now."""
        apps = {app for shard in shards for app in shard.outboxes}
        return min((self._look_ms.get(app, steady_ms) for app in apps), default=float("inf")) - steady_ms

    def takes(self, app: str) -> bool:
        """Whether the app can be told now, or never any more: either way nothing has to wait longer."""
        scope = self._scope
        if scope.steady_ms < self._look_ms.get(app, 0.0):
            return False
        try:
            scope.targets.partitions(f"{app}.commands", scope.steady_ms)
        except (Unavailable, LogError) as error:
            why = self._rejection.why_no_letter() if isinstance(error, AbsentTopic) else error
            if why is not None:
                self._wait(app, why)
            return why is None
        return True

    def take(self, app: str, shard: Shard, most: int) -> Iterator[Command]:
        """The next of those that wait, in their order; from now on they wait no more. What the log has refused is a dead letter."""
        scope = self._scope
        found = list(islice(shard.scan_prefix(keys.outbox(app)), most))
        if len(found) < most:
            shard.outboxes.discard(app)
        for key, waiting in found:
            command = COMMAND.decode(waiting)
            command.timestamp_ms = 0
            shard.put(key, None)
            scope.epoch.bytes += len(waiting)
            poisonous = self._suspect(f"{app} {command.id} {command.ref}")
            if poisonous is not None:
                self._rejection.undelivered(command, f"the log refused it: {poisonous}", 500)
            else:
                yield command
        scope.touch(shard)
        self._end(app)

    def _suspect(self, root: str) -> str | None:
        """Why the log refused this command, if it was found to be what aborts an epoch (invariant 2)."""
        scope = self._scope
        if scope.splitting:
            scope.epoch.roots.append(root)
        return scope.condemn(root)

    def _wait(self, app: str, error: Unavailable | LogError) -> None:
        scope = self._scope
        self._look_ms[app] = scope.steady_ms + (error.again_ms if isinstance(error, Unavailable) else AGAIN_MS)
        if app not in self._said:
            self._said.add(app)
            logger.error("what the app %r is owed (answers to its calls) waits, and nothing else does: %s", app, error)

    def _end(self, app: str) -> None:
        """Say so, if no shard owes that app anything any more."""
        if app in self._said and not any(app in shard.outboxes for shard in self._scope.shards.values()):
            self._said.discard(app)
            logger.warning("the app %r gets all that has waited for it", app)
