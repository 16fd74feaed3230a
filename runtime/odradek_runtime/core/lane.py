"""The lane of one subscription: the fast path, from a run of fetched records to invocations that have ended.

Stands between the intake and the runner, and does at once what `Machine.record` does step by step: a call in Python costs 0.1 µs,
so nothing here is called that can be looked up. It takes what is ordinary, a key of this shard that nobody holds and a value that
decodes; everything else goes the machine's way, record by record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from sys import getrefcount
from typing import Any

from odradek._bad_input import DECODE_ERRORS
from odradek._context import Context
from odradek._current import CURRENT
from odradek._definition import Subscription
from odradek_runtime.core.lifecycle.advance import Advance
from odradek_runtime.core.running.invocation import Live
from odradek_runtime.log.port import Message
from odradek_runtime.routing import shard_of

from .scope import Scope
from .shard import Bases, Shard

KNOWN_KEYS = 65_536
"""Of one shard and service: their state keys' beginnings are remembered."""


class Lane:
    """One subscription's fast path.

    `otherwise` takes the records that are not ordinary; `settle` goes on with what a record has set going.
    """

    def __init__(
        self,
        scope: Scope,
        advance: Advance,
        subscription: Subscription,
        otherwise: Callable[[Shard, Message], None],
        settle: Callable[[], None],
    ) -> None:
        self._scope = scope
        self._advance = advance
        self._settle = settle
        self._subscription = subscription
        self._otherwise = otherwise
        self._live: Live | None = None
        """Of the record that the lane is at, with its context; None once its handler waits, and between runs."""
        self._context: Context | None = None
        self._bytes = 0
        self._set_aside = 0
        """Records of this run that the machine has taken, and counts."""

    @staticmethod
    def fits(subscription: Subscription) -> bool:
        """Whether its records may take the fast path at all: no key to make of the value, no limit to ask, no journal to keep."""
        handler = subscription.handler
        plain = handler.concurrency is None and not handler.journal_retention_s and handler.mode != "run"
        return subscription.key is None and plain

    def run(self, shard: Shard, messages: Sequence[Message]) -> int:
        """Process records of one partition in order; gives the bytes they brought and made."""
        rest = iter(messages)
        self._bytes = self._set_aside = 0
        while True:
            course = self._course(shard, rest)
            try:
                waits_for = course.send(None)
            except StopIteration:
                self._live = self._context = None
                self._scope.epoch.count("started", self._subscription.handler.target, len(messages) - self._set_aside)
                return self._bytes
            live, context = self._live, self._context
            assert live is not None, "only a handler waits"
            assert context is not None, "the pair is made together"
            self._live = self._context = None  # the course is that invocation's from now on
            self._count(live)
            self._advance.waits_at_once(live, context, course, waits_for)
            self._settle()

    async def _course(self, shard: Shard, rest: Iterator[Message]) -> Any:
        """Process records until a handler waits; from then on this is the coroutine of that one invocation, and ends as it does.

        It is a coroutine because `await` brings it what a handler returns. Whoever drives a handler by `send` is brought it by
        an exception, which takes 0.3 µs.

        The invocation and its context serve the next record too, if the handler has left nothing in them and nobody else holds
        them: to make both anew for each record took a fifth of the time.
        """
        advance, handler = self._advance, self._subscription.handler
        decode, body, keyed, exclusive = self._subscription.decoder, handler.body, handler.keyed, handler.mode == "exclusive"
        bases, held = shard.bases.setdefault(handler.service, {}), shard.locks.held
        changes, outputs = shard.changes, self._scope.epoch.outputs
        live, context = self._pair(shard)
        unshared = getrefcount(live) + getrefcount(context)
        for message in rest:
            value, key = message.value(), (message.key() or b"") if keyed else b""
            base = bases.get(key) or self._base(shard, bases, key)
            if value is None or base is None or (held and exclusive and base in held):
                self._aside(shard, message, context)
                continue
            try:
                argument = decode(value)
            except DECODE_ERRORS:
                self._aside(shard, message, context)
                continue
            live.size += len(value)
            live.key = key
            live.base = base
            live.payload = value
            live.message = message
            coroutine = body(context, argument)
            try:
                result = await coroutine
            except BaseException as error:
                if live is not self._live:  # it has waited
                    raise
                self._count(live)
                advance.raised_at_once(live, context, coroutine, error)
            else:
                if live.fleeting:
                    if live.writes:
                        changes.update(live.writes)
                        live.writes.clear()
                    if live.outputs:
                        outputs += live.outputs
                        live.outputs.clear()
                    live.commands.clear()
                    if getrefcount(live) + getrefcount(context) == unshared:
                        continue
                    self._count(live)
                elif live is self._live:
                    self._count(live)
                    advance.returned_at_once(live, context, coroutine, result)
                else:  # it has waited
                    return result
            live, context = self._next_pair(shard)
            unshared = getrefcount(live) + getrefcount(context)
        self._count(live)
        return None

    def _next_pair(self, shard: Shard) -> tuple[Live, Context]:
        """After a record whose invocation is not to be used again."""
        self._settle()
        return self._pair(shard)

    def _pair(self, shard: Shard) -> tuple[Live, Context]:
        """An invocation that has no record yet, and its context, which is the current one from now on."""
        handler = self._subscription.handler
        live = Live(self._scope, shard, handler, b"", b"", None)
        live.subscription = self._subscription
        context = handler.context(live)
        CURRENT.set(context)
        self._live, self._context = live, context
        return live, context

    def _count(self, live: Live) -> None:
        """The bytes of the records that it has served, before what is in it is dropped or merged."""
        self._bytes += live.size
        live.size = 0

    def _base(self, shard: Shard, bases: Bases, key: bytes) -> bytes | None:
        """What the state keys of this key begin with, remembered; None when it is not this shard's (or no key)."""
        handler = self._subscription.handler
        if handler.keyed and (not key or shard_of(key, self._scope.n) != shard.number):
            return None
        if len(bases) >= KNOWN_KEYS:
            bases.clear()
        base = bases[key] = self._scope.base(handler.service, key)
        return base

    def _aside(self, shard: Shard, message: Message, context: Context) -> None:
        """Let the machine take this record."""
        self._set_aside += 1
        self._otherwise(shard, message)
        self._settle()
        CURRENT.set(context)
        self._bytes += len(message.value() or b"")
