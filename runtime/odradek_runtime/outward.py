"""Commands that leave: to another shard's worker, or to another app, as far as their topics take them.

Stands behind `Machine.route`, which hands over itself what is for a shard of this worker. What a commands topic does not take is
no reason to stop: a record goes where its subscription says, whoever waits for an answer gets one, the rest is a dead letter.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from odradek import RetryableError, TerminalError
from odradek._service import NAME

from .ending import completion
from .formats import COMMAND, Command
from .inward import Forwarded, origin_of, undeliverable
from .log.port import LogError, Output
from .metrics import NO_HANDLER
from .request import Failure
from .routing import id_hash
from .unavailable import AbsentTopic, Unavailable

if TYPE_CHECKING:
    from .machine import Machine
    from .shard import Shard

logger = logging.getLogger("odradek")


class AppNotStarted(RetryableError):
    """Another app that is called has no topics yet. Of our own, so that others are told its text."""


class Outward:
    """Writes commands into the epoch, for the machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def resolve(self, target: str, key: bytes | None) -> tuple[str, str]:
        """(other app or "", service/handler). Raises TerminalError when there is no such handler, or the key is amiss."""
        machine = self._machine
        parts = target.split("/")
        if len(parts) == 3 and parts[0] != machine.app.name:
            try:
                machine.targets.partitions(f"{parts[0]}.commands", machine.steady_ms)
            except AbsentTopic as error:
                raise AppNotStarted(f"the app {parts[0]!r} has not been started yet: there is no {parts[0]}.commands") from error
            return parts[0], f"{parts[1]}/{parts[2]}"
        local = "/".join(parts[-2:])
        handler = machine.handlers.get(local)
        if handler is None:
            raise TerminalError(f"there is no handler {target!r}: the app has {', '.join(sorted(machine.handlers))}", code=404)
        if handler.keyed and not key:
            raise TerminalError(f"{target} needs key=", code=400)
        if not handler.keyed and key:
            raise TerminalError(f"{target} takes no key", code=400)
        return "", local

    def write(self, command: Command, number: int, source: Shard) -> bool:
        """For a shard of this app. False: its topic does not take it, and something else was done."""
        machine = self._machine
        encoded = COMMAND.encode(command)
        over = machine.sizes.why_unsent(machine.commands_topic, encoded)
        if over:
            self._unsent(command, source, over)
            return False
        machine.epoch.outputs.append(Output(machine.commands_topic, number, None, encoded))
        machine.epoch.urgent = True
        return True

    def abroad(self, app: str, command: Command, source: Shard) -> None:
        """For another app, behind what waits for it already. One that is none cannot be told."""
        if not NAME.fullmatch(app):
            self.dead(command, f"{app[:100]!r} is no name of an app", 404)
            return
        if app in source.outboxes:
            self._later(app, command, source)
        else:
            self.tell(app, command, source)

    def tell(self, app: str, command: Command, source: Shard) -> None:
        """One that is gone since it called cannot be told, one that takes nothing now is told later: that stops nobody here."""
        machine, topic = self._machine, f"{app}.commands"
        try:
            partition = id_hash(command.id) % machine.targets.partitions(topic, machine.steady_ms)
        except AbsentTopic as error:
            barred = self.why_no_letter()
            if barred is None:
                self.dead(command, str(error), 404)
            else:
                self._later(app, command, source, barred)
        except (Unavailable, LogError) as error:
            self._later(app, command, source, error)
        else:
            encoded = COMMAND.encode(command)
            over = machine.sizes.why_unsent(topic, encoded)
            if over and command.kind == "complete":
                encoded = COMMAND.encode(completion("", command.id, command.ref, None, Failure(413, f"the result {over}")))
            machine.epoch.outputs.append(Output(topic, partition, None, encoded))

    def why_no_letter(self) -> Unavailable | LogError | None:
        """Why the app's dead letters take none now; None if they do."""
        try:
            return self._machine.targets.barred(self._machine.dead_letters, self._machine.steady_ms)
        except LogError as error:
            return error

    def _later(self, app: str, command: Command, source: Shard, error: Unavailable | LogError | None = None) -> None:
        over = self._machine.outbox.keep(app, command, source, error)
        if not over:
            return
        why = f"{over}, where it was to wait for {app}.commands"
        if command.kind == "complete":
            failed = completion("", command.id, command.ref, None, Failure(413, f"the result {why}"))
            self._machine.outbox.keep(app, failed, source, error)
        else:
            self.unstarted(command, f"the start of {command.target} {why}", source)

    def unstarted(self, command: Command, why: str, source: Shard) -> None:
        """An invocation that is too large to be: its caller hears of it; one that nobody waits for is a dead letter."""
        if command.caller_id:
            failed = completion(command.caller_app, command.caller_id, command.ref, None, Failure(413, why))
            self._machine.route(failed, source)
        else:
            self.dead(command, why, 413)

    def _unsent(self, command: Command, source: Shard, over: str) -> None:
        machine = self._machine
        subscription = machine.subscription_of(command) if command.kind == "forward" else None
        if subscription is not None:
            record = Forwarded(command)
            failure = Failure(413, f"to forward it to the shard of its key {over}")
            machine.ending.reject(subscription, origin_of(record), record.value(), failure)
        elif command.kind == "complete":
            machine.route(completion("", command.id, command.ref, None, Failure(413, f"the result {over}")), source)
        else:
            self.unstarted(command, f"the start of {command.target} {over}", source)

    def dead(self, command: Command, why: str, code: int) -> None:
        machine = self._machine
        machine.epoch.count("dead_letters", command.target if command.target in machine.handlers else NO_HANDLER)
        logger.error("%s for %s -> %s: %s", command.kind, command.id, machine.dead_letters, why)
        machine.epoch.outputs.append(machine.sizes.letter(undeliverable(machine.dead_letters, command, why, code)))
