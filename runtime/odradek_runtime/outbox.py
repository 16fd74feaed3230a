"""The outbox: commands for other apps whose topics take none now. They wait in the journal, and nobody waits for them.

Stands behind `Outward`, which hands over what cannot be told now, and before it again when the agenda finds that the topic takes
records. A command waits under a key of its own (`o` + app + sequence), so it outlives a crash and moves with its shard; it goes in
the transaction that deletes the key, with the id and ref that it always had. While some wait, later ones for that app wait behind.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

from . import keys
from .formats import COMMAND, Command
from .log.port import LogError
from .targets import AGAIN_MS
from .unavailable import AbsentTopic, Unavailable

if TYPE_CHECKING:
    from .machine import Machine
    from .shard import Shard

logger = logging.getLogger("odradek")


class Outbox:
    """Of one machine: all its shards' commands that wait for other apps. Each topic is looked at again after its pause."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._look_ms: dict[str, float] = {}
        """When each app's topic is looked at again, by the steady clock."""
        self._said: set[str] = set()

    def keep(self, app: str, command: Command, shard: Shard, error: Unavailable | LogError | None = None) -> str:
        """It waits from now on. Gives why it cannot: the journal does not take it. "" if it does.

        `error`: why it has to; None: only because others wait before it.
        """
        machine = self._machine
        command.timestamp_ms = int(machine.now_ms)
        waiting = COMMAND.encode(command)
        over = machine.sizes.why_unwritten(waiting)
        if over:
            command.timestamp_ms = 0
            return over
        if error is not None:
            self._wait(app, error)
        shard.put(keys.outbox_slot(app, shard.next_sequence()), waiting)
        shard.outboxes.add(app)
        machine.touch(shard)
        return ""

    def wait_ms(self, shards: Iterable[Shard], steady_ms: float) -> float:
        """In how many milliseconds a topic is to be looked at for these shards; 0 or less: now."""
        apps = {app for shard in shards for app in shard.outboxes}
        return min((self._look_ms.get(app, steady_ms) for app in apps), default=float("inf")) - steady_ms

    def takes(self, app: str) -> bool:
        """Whether the app can be told now, or never any more: either way nothing has to wait longer."""
        machine = self._machine
        if machine.steady_ms < self._look_ms.get(app, 0.0):
            return False
        try:
            machine.targets.partitions(f"{app}.commands", machine.steady_ms)
        except (Unavailable, LogError) as error:
            why = machine.outward.why_no_letter() if isinstance(error, AbsentTopic) else error
            if why is not None:
                self._wait(app, why)
            return why is None
        return True

    def tell(self, app: str, shard: Shard, most: int) -> None:
        """The next of those that wait are told, in their order."""
        machine = self._machine
        found = list(islice(shard.scan_prefix(keys.outbox(app)), most))
        if len(found) < most:
            shard.outboxes.discard(app)
        for key, waiting in found:
            command = COMMAND.decode(waiting)
            command.timestamp_ms = 0
            shard.put(key, None)
            machine.epoch.bytes += len(waiting)
            poisonous = self._suspect(f"{app} {command.id} {command.ref}")
            if poisonous is not None:
                machine.outward.dead(command, f"the log refused it: {poisonous}", 500)
            else:
                machine.outward.tell(app, command, shard)
        machine.touch(shard)
        self._end(app)

    def _suspect(self, root: str) -> str | None:
        """Why the log refused this command, if it was found to be what aborts an epoch (invariant 2)."""
        machine = self._machine
        if machine.splitting:
            machine.epoch.roots.append(root)
        return machine.condemn(root)

    def _wait(self, app: str, error: Unavailable | LogError) -> None:
        machine = self._machine
        self._look_ms[app] = machine.steady_ms + (error.again_ms if isinstance(error, Unavailable) else AGAIN_MS)
        if app not in self._said:
            self._said.add(app)
            logger.error("what the app %r is owed (answers to its calls) waits, and nothing else does: %s", app, error)

    def _end(self, app: str) -> None:
        """Say so, if no shard owes that app anything any more."""
        if app in self._said and not any(app in shard.outboxes for shard in self._machine.shards.values()):
            self._said.discard(app)
            logger.warning("the app %r gets all that has waited for it", app)
