"""Rejection: where a record goes that cannot be processed, and a command that nobody can be told of (invariant 9).

Stands before the epoch's outputs: a dead letter is a record of the epoch that moves past what it is about, so that nothing is lost.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from odradek._definition import Subscription
from odradek._port import Origin
from odradek_runtime.core.metrics import NO_HANDLER
from odradek_runtime.core.records.dead_letter import dead_letter
from odradek_runtime.core.records.formats import Command
from odradek_runtime.core.records.inward import refused_command, undeliverable
from odradek_runtime.core.records.request import Failure
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.topics.unavailable import Unavailable
from odradek_runtime.log.port import LogError, Message

logger = logging.getLogger("odradek")


class Rejection:
    """Writes dead letters into the open epoch."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def barred(self, subscription: Subscription) -> Unavailable | None:
        """Why the topic for its dead letters takes none now; None if it does, or there is none."""
        if subscription.on_error != "dead_letter":
            return None
        scope = self._scope
        return scope.targets.barred(subscription.dead_letter or scope.dead_letters, scope.steady_ms)

    def why_no_letter(self) -> Unavailable | LogError | None:
        """Why the app's own dead letters take none now; None if they do."""
        try:
            return self._scope.targets.barred(self._scope.dead_letters, self._scope.steady_ms)
        except LogError as error:
            return error

    def record(
        self,
        subscription: Subscription,
        origin: Origin,
        value: bytes | None,
        failure: Failure,
        attempts: int = 0,
        *,
        bare: bool = False,
        without: int | None = None,
    ) -> None:
        """The record goes where its subscription says: a dead-letter topic with the error in the headers, or nowhere.

        `bare`: with nothing of what it held but its key; `without`: the size of a value that it has lost already.
        """
        scope = self._scope
        where, target = f"{origin.topic}[{origin.partition}]@{origin.offset}", subscription.handler.target
        if subscription.on_error == "skip":
            scope.epoch.count("skipped", target)
            scope.epoch.count_again(origin.replay, "left_out")
            logger.warning("%s skipped (%s): %s", where, target, failure.message, extra={"handler": target})
            return
        topic = subscription.dead_letter or scope.dead_letters
        scope.epoch.count("dead_letters", target)
        scope.epoch.count_again(origin.replay, "dead_letters")
        if bare:
            origin, value, without = replace(origin, headers=()), None, len(value) if value is not None else None
        letter = dead_letter(topic, scope.app.name, target, origin, value, failure, attempts, without)
        scope.epoch.outputs.append(scope.sizes.letter(letter))
        logger.warning("%s -> %s (%s): %s", where, topic, target, failure.message, extra={"handler": target})

    def command(self, message: Message, why: str, *, field: str = "", with_value: bool = True) -> None:
        """A record of the commands topic that cannot be read, or says what cannot be; `field`: in which of its fields."""
        scope = self._scope
        scope.epoch.count("dead_letters", NO_HANDLER)
        logger.error("%s[%d]@%d -> %s: %s", message.topic(), message.partition(), message.offset(), scope.dead_letters, why)
        letter = refused_command(scope.dead_letters, message, why, field, with_value=with_value)
        scope.epoch.outputs.append(scope.sizes.letter(letter))

    def undelivered(self, command: Command, why: str, code: int) -> None:
        """A command for somebody who cannot be told of it."""
        scope = self._scope
        scope.epoch.count("dead_letters", command.target if command.target in scope.handlers else NO_HANDLER)
        logger.error("%s for %s -> %s: %s", command.kind, command.id, scope.dead_letters, why)
        scope.epoch.outputs.append(scope.sizes.letter(undeliverable(scope.dead_letters, command, why, code)))
