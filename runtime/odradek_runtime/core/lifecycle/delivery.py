"""Delivery: one record for one handler. It starts an invocation here or, forwarded, where its key lives; or it waits for its turn.

Stands between the records that a shard reads (or reads again) and `advance`. The lane does for ordinary records what is done here
step by step.
"""

from __future__ import annotations

import logging

from odradek._bad_input import BadInput
from odradek._definition import Subscription
from odradek_runtime.core.records.inward import again_of, forward, origin_of
from odradek_runtime.core.records.request import Failure
from odradek_runtime.core.running.invocation import Live
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import Shard
from odradek_runtime.log.parts import place_of
from odradek_runtime.log.port import Message
from odradek_runtime.routing import shard_of

from .advance import Advance
from .failing import Failing
from .limits import Limits
from .living import Living
from .outward import Outward
from .rejection import Rejection
from .workflows import Workflows

logger = logging.getLogger("odradek")


class Delivery:
    """Of the records of one machine's shards."""

    def __init__(
        self,
        scope: Scope,
        living: Living,
        limits: Limits,
        outward: Outward,
        rejection: Rejection,
        failing: Failing,
        advance: Advance,
        workflows: Workflows,
    ) -> None:
        self._scope = scope
        self._living = living
        self._limits = limits
        self._outward = outward
        self._rejection = rejection
        self._failing = failing
        self._advance = advance
        self._workflows = workflows

    def deliver(self, subscription: Subscription, shard: Shard, message: Message, *, may_forward: bool = True) -> None:
        """One record for one handler: it starts here or, forwarded, where its key lives."""
        scope, handler = self._scope, subscription.handler
        value = message.value()
        try:
            if subscription.key is None:
                key = message.key() or b""
                if not key and handler.keyed:
                    subscription.record_key(None, None)
                decoded = _UNDECODED
            else:
                decoded = subscription.decode(value)
                key = subscription.record_key(message.key(), decoded)
            if handler.keyed:
                if may_forward:
                    target = shard_of(key, scope.n)
                    if target != shard.number:
                        told = shard.topic_ids.get(message.topic(), "")
                        self._outward.route(forward(subscription, message, told, target), shard)
                        return
            else:
                key = b""
            live = self._live(subscription, shard, message, key)
            if handler.mode == "run" and not self._begins(live):
                return
            scope.epoch.count("started", handler.target)
            if handler.mode == "exclusive" and live.base in shard.locks.held:
                self._wait_for_key(live)
                return
            if decoded is _UNDECODED:
                decoded = subscription.decode(value)
        except BadInput as error:
            self._bad_record(shard, subscription, message, error)
            return
        if scope.poison and self._advance.poisoned(live):
            return
        if self._limits and self._limits.full(handler.target):
            self._failing.over_limit(live)
            return
        self._advance.start_record(live, decoded)

    def _live(self, subscription: Subscription, shard: Shard, message: Message, key: bytes) -> Live:
        """The invocation that a record starts, for the object key that was found for it."""
        handler = subscription.handler
        live = Live(self._scope, shard, handler, key, self._scope.base(handler.service, key), message.value())
        live.subscription, live.message, live.again = subscription, message, again_of(message)
        return live

    def _bad_record(self, shard: Shard, subscription: Subscription, message: Message, error: BadInput) -> None:
        said = self._scope.disclosure.bad_input(error, place_of(message), subscription.handler.target)
        failure = Failure(400, said, {"field": error.field})
        barred = self._rejection.barred(subscription)
        if subscription.on_error != "pause" and barred is None:
            self._rejection.record(subscription, origin_of(message), message.value(), failure)
            return
        live = self._live(subscription, shard, message, message.key() or b"")
        if subscription.handler.mode == "run" and not self._begins(live):
            return
        if subscription.handler.mode == "exclusive" and live.base in shard.locks.held:
            self._wait_for_key(live)
        elif barred is None:
            self._failing.paused(live, "bad_input", failure.message)
        else:
            self._failing.postponed(live, barred)

    def _wait_for_key(self, live: Live) -> None:
        """The key is held: the invocation waits in line for it."""
        if live.named and self._living.stored(live.shard, live.id) is not None:  # by a torn epoch, and by the one in its place
            self._left_out(live)
            return
        self._failing.queued(live)

    def _begins(self, live: Live) -> bool:
        """Whether it is the first for its workflow's key; if so it has its entry from now on."""
        if self._living.stored(live.shard, live.id) is not None:
            self._left_out(live)
            return False
        live.be(self._workflows.of_record(live))
        return True

    def _left_out(self, live: Live) -> None:
        """It has begun already: by its record, delivered once more, or it is a workflow that something else has started."""
        said = "its workflow was started before" if live.handler.mode == "run" else "the record came a second time"
        logger.warning("%s is here already: %s and is left out", live.id, said)
        self._scope.epoch.count_again(live.again, "left_out")


_UNDECODED = object()
