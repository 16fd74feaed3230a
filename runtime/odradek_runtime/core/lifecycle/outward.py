"""Commands that leave an invocation: handed over within the worker, written for another worker, or told to another app.

Stands behind everything that starts or answers an invocation. What is for a shard of this worker is handed over within the epoch
where that keeps the order (invariant 11); what a commands topic does not take is no reason to stop: a record goes where its
subscription says, whoever waits for an answer gets one, the rest is a dead letter.
"""

from __future__ import annotations

import logging
from collections import deque

from odradek._service import NAME
from odradek_runtime.core.records.answers import completion
from odradek_runtime.core.records.formats import COMMAND, Command
from odradek_runtime.core.records.inward import Forwarded, origin_of
from odradek_runtime.core.records.request import Failure
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import Shard
from odradek_runtime.core.topics.unavailable import AbsentTopic, Unavailable
from odradek_runtime.log.port import LogError, Output
from odradek_runtime.routing import id_hash

from .outbox import Outbox
from .rejection import Rejection

logger = logging.getLogger("odradek")


class Outward:
    """Of one machine's shards."""

    def __init__(self, scope: Scope, rejection: Rejection, outbox: Outbox) -> None:
        self._scope = scope
        self._rejection = rejection
        self._outbox = outbox
        self.handed: deque[tuple[Shard, Command]] = deque()
        """What is for shards of this worker, and has not come to them yet."""
        self._barriers: set[int] = set()

    def route(self, command: Command, source: Shard) -> None:
        """Hand a command over within this epoch if its shard is here, else write it to the commands topic (invariant 11)."""
        scope = self._scope
        scope.touch(source)
        scope.epoch.bytes += len(command.payload or b"")
        app, command.name = command.name, ""
        if app not in ("", scope.app.name):
            self._abroad(app, command, source)
            return
        number = command.ref if command.kind == "forward" else id_hash(command.id) % scope.n
        shard = scope.shards.get(number)
        here = shard is not None and shard.phase == "open" and shard.local and not scope.splitting
        if here and shard is not None and scope.epoch.handovers < scope.handover_limit:
            scope.epoch.handovers += 1
            self.handed.append((shard, command))
            scope.touch(shard)  # it does not go away before the command has come to it
            return
        self.write_handed()
        if self._write(command, number, source) and shard is not None:
            self.request_barrier(shard)

    def write_handed(self) -> None:
        """To the commands topic, in their order: what comes later must not overtake them (invariant 11)."""
        while self.handed:
            shard, command = self.handed.popleft()
            if self._write(command, shard.number, shard):
                self.request_barrier(shard)

    def unstarted(self, command: Command, why: str, source: Shard) -> None:
        """An invocation that is too large to be: its caller hears of it; one that nobody waits for is a dead letter."""
        if command.caller_id:
            failed = completion(command.caller_app, command.caller_id, command.ref, None, Failure(413, why))
            self.route(failed, source)
        else:
            self._rejection.undelivered(command, why, 413)

    # --- barriers ---

    def request_barrier(self, shard: Shard) -> None:
        """Local hand-over waits until a barrier written in this epoch has been read back (invariant 11)."""
        shard.local = False
        shard.barrier = ""  # an earlier one, read back before this epoch closes, lies before what this epoch writes
        self._barriers.add(shard.number)
        self._scope.touch(shard)

    def close(self) -> None:
        """The epoch ends: its barriers come behind all that it writes."""
        scope, epoch = self._scope, self._scope.epoch
        for number in self._barriers:
            shard = scope.shards.get(number)
            if shard is not None:
                shard.barrier = f"{shard.incarnation}.{epoch.number}"
                barrier = COMMAND.encode(Command(kind="barrier", id=shard.barrier))
                epoch.outputs.append(Output(scope.commands_topic, number, None, barrier))
        self._barriers.clear()

    def discard(self) -> None:
        """The open epoch will not be."""
        self.handed.clear()
        self._barriers.clear()

    # --- other workers ---

    def _write(self, command: Command, number: int, source: Shard) -> bool:
        """For a shard of this app. False: its topic does not take it, and something else was done."""
        scope = self._scope
        encoded = COMMAND.encode(command)
        over = scope.sizes.why_unsent(scope.commands_topic, encoded)
        if over:
            self._unsent(command, source, over)
            return False
        scope.epoch.outputs.append(Output(scope.commands_topic, number, None, encoded))
        scope.epoch.urgent = True
        return True

    def _unsent(self, command: Command, source: Shard, over: str) -> None:
        subscription = self._scope.subscription_of(command) if command.kind == "forward" else None
        if subscription is not None:
            record = Forwarded(command)
            failure = Failure(413, f"to forward it to the shard of its key {over}")
            self._rejection.record(subscription, origin_of(record), record.value(), failure)
        elif command.kind == "complete":
            self.route(completion("", command.id, command.ref, None, Failure(413, f"the result {over}")), source)
        else:
            self.unstarted(command, f"the start of {command.target} {over}", source)

    # --- other apps ---

    def _abroad(self, app: str, command: Command, source: Shard) -> None:
        """For another app, behind what waits for it already. One that is none cannot be told."""
        if not NAME.fullmatch(app):
            self._rejection.undelivered(command, f"{app[:100]!r} is no name of an app", 404)
        elif app in source.outboxes:
            self._later(app, command, source)
        else:
            self._tell(app, command, source)

    def tell_owed(self, app: str, shard: Shard, most: int) -> None:
        """The next of what has waited for an app goes out."""
        for command in self._outbox.take(app, shard, most):
            self._tell(app, command, shard)

    def _tell(self, app: str, command: Command, source: Shard) -> None:
        """One that is gone since it called cannot be told, one that takes nothing now is told later: that stops nobody here."""
        scope, topic = self._scope, f"{app}.commands"
        try:
            partition = id_hash(command.id) % scope.targets.partitions(topic, scope.steady_ms)
        except AbsentTopic as error:
            barred = self._rejection.why_no_letter()
            if barred is None:
                self._rejection.undelivered(command, str(error), 404)
            else:
                self._later(app, command, source, barred)
        except (Unavailable, LogError) as error:
            self._later(app, command, source, error)
        else:
            encoded = COMMAND.encode(command)
            over = scope.sizes.why_unsent(topic, encoded)
            if over and command.kind == "complete":
                encoded = COMMAND.encode(completion("", command.id, command.ref, None, Failure(413, f"the result {over}")))
            scope.epoch.outputs.append(Output(topic, partition, None, encoded))

    def _later(self, app: str, command: Command, source: Shard, error: Unavailable | LogError | None = None) -> None:
        over = self._outbox.keep(app, command, source, error)
        if not over:
            return
        why = f"{over}, where it was to wait for {app}.commands"
        if command.kind == "complete":
            failed = completion("", command.id, command.ref, None, Failure(413, f"the result {why}"))
            self._outbox.keep(app, failed, source, error)
        else:
            self.unstarted(command, f"the start of {command.target} {why}", source)
