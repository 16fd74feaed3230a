"""Advance: an invocation begins, or goes on with what has come back, and what becomes of it is carried out.

Stands between what happens (a record, a call, a timer, a step that has ended) and the parts of an invocation's life: the runner
says how a coroutine's turn ended, and this hands it to who writes that: kept while it waits, ended, tried again, paused.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import Any

from odradek import TerminalError
from odradek._bad_input import BadInput
from odradek._context import Context
from odradek._current import CURRENT
from odradek._errors import Refused as HandlerRefused
from odradek_runtime.core.disclosure import log_cause
from odradek_runtime.core.records.formats import ENDED, UNBEGUN, Entry, Stored
from odradek_runtime.core.records.journal import CANCELLATION, Diverged
from odradek_runtime.core.records.request import Failure, failure_of, plain_text
from odradek_runtime.core.refusal import called_amiss, of_another_loop
from odradek_runtime.core.running.ends import lets_through
from odradek_runtime.core.running.invocation import Live
from odradek_runtime.core.running.outcome import BARE_YIELD, Outcome, Raised, Refused, Returned, Unwritten, Waits
from odradek_runtime.core.running.runner import Runner
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import Shard, StoreLost

from .ending import Ending
from .failing import Failing
from .keeping import Keeping
from .living import Living
from .revival import Revival

logger = logging.getLogger("odradek")


class Advance:
    """Of one machine's invocations."""

    def __init__(
        self,
        scope: Scope,
        living: Living,
        keeping: Keeping,
        runner: Runner,
        ending: Ending,
        failing: Failing,
        revival: Revival,
    ) -> None:
        self._scope = scope
        self._living = living
        self._keeping = keeping
        self._runner = runner
        self._ending = ending
        self._failing = failing
        self._revival = revival
        self._told: set[tuple[str, str]] = set()
        """Handlers, and what it was said of them that they do not await."""

    # --- begins ---

    def start_record(self, live: Live, value: Any) -> None:
        """Run an invocation that a record started, from its decoded value: the fast path. Ends here unless it has to wait."""
        subscription = live.subscription
        assert subscription is not None, "a record comes through a subscription"
        context, coroutine = subscription.start_decoded(live, value)
        CURRENT.set(context)
        try:
            waits_for = coroutine.send(None)
        except StopIteration as stop:
            value = stop.value
        except BaseException as error:  # noqa: BLE001  (whatever a handler raises decides its end, invariant 9)
            self.raised_at_once(live, context, coroutine, error)
            return
        else:
            self.waits_at_once(live, context, coroutine, waits_for)
            return
        self.returned_at_once(live, context, coroutine, value)  # outside: what it raises would show the value as its context

    def returned_at_once(self, live: Live, context: Context, coroutine: Coroutine[Any, Any, Any], value: Any) -> None:
        """It ended without a wait: most do."""
        if not live.lasting and not live.refused and live.unwritten is None:
            self._keeping.merge(live)  # without live.context: the two would hold each other, for the cycle collector to find
            if live.again:
                self._scope.epoch.count_again(live.again, "ended_well")
            return
        live.context, live.coroutine = context, coroutine
        self._apply(live, self._runner.ended(live, Returned(value)))

    def raised_at_once(
        self, live: Live, context: Context, coroutine: Coroutine[Any, Any, Any], error: BaseException
    ) -> None:
        """It raised before it waited for anything."""
        live.context, live.coroutine = context, coroutine
        self._apply(live, self._runner.ended(live, Raised(error)))

    def waits_at_once(self, live: Live, context: Context, coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> None:
        """Its first wait: it becomes an invocation that may outlive its epoch."""
        live.context, live.coroutine = context, coroutine
        live.last()
        if self._runner.comes_later(live, waits_for):
            live.waits_for = waits_for
            self._waits(live)
        else:
            self._apply(live, self._runner.run_on(live, waits_for or BARE_YIELD))

    def start(self, live: Live) -> None:
        """Run an invocation that has (or will have) an entry in the journal, from its bytes: a call, or a replay."""
        if self._scope.poison and self.poisoned(live):
            return
        live.last()  # its coroutine is its own, whatever becomes of it
        try:
            if live.subscription is not None:
                live.context, live.coroutine = live.subscription.start(live, live.payload)
            else:
                live.context, live.coroutine = live.handler.start(live, live.payload or b"")
        except BadInput as error:
            said = self._scope.disclosure.bad_input(error, live.id, live.handler.target)
            self._failing.failed(live, Failure(400, said, {"field": error.field}))
            return
        self._apply(live, self._runner.run_on(live, None))

    def poisoned(self, live: Live) -> bool:
        """Its records aborted an epoch of which it was the only invocation: its policy applies now (invariant 2)."""
        message = self._scope.condemn(live.id)
        if message is None:
            return False
        if live.id in self._scope.bare:
            live.strip()
        self._failing.failed(live, Failure(500, f"the log refused what it published: {message}"))
        return True

    def replay(self, shard: Shard, stored: Stored) -> Live | None:
        """Rebuild an invocation from its journal and run it as far as it goes. None: it has ended, or cannot run."""
        live = self._living.find(shard, stored.id) or self._revival.rebuild(shard, stored)
        if live is not None and live.coroutine is None:
            self.start(live)
        return self._living.find(shard, stored.id)

    # --- goes on ---

    def complete(self, shard: Shard, id_: str, completion: Entry) -> None:
        """Something an invocation waits for has happened: it goes on at once, in the epoch that journals it.

        What it does then shares the epoch's fate, so that nothing is acted on that is not recorded with it (invariant 4).
        """
        live = self._living.find(shard, id_)
        if live is None:
            stored = self._living.stored(shard, id_)
            if stored is None or stored.status in (*ENDED, *UNBEGUN):
                return  # what has ended, or not begun, waits for nothing
            live = None if stored.status in ("paused", "backing_off") else self._revival.rebuild(shard, stored)
            if live is None:
                self._revival.note(shard, id_, completion)
                return
        self.go_on(live, self._scope.sizes.completion("what it waits for", completion))

    def go_on(self, live: Live, completion: Entry) -> None:
        """As `complete`, for one whose coroutine, or whose journal, is here; the journal takes the completion."""
        if completion.ref in live.journal.completed:
            return
        live.journal.add_completion(completion)
        self._scope.epoch.bytes += len(completion.value or b"")
        self._keeping.journal(live)
        if live.coroutine is None:
            self.start(live)
        else:
            self._wake(live)

    def _wake(self, live: Live) -> None:
        """Go on with a suspended invocation if there is something to go on with."""
        waits_for = live.waits_for
        if live.closed or waits_for is None or (self._scope.poison and self.poisoned(live)):
            return
        if self._runner.next_completion(live):
            live.waits_for = None
            self._apply(live, self._runner.run_on(live, waits_for))

    # --- what has become of it ---

    def _apply(self, live: Live, outcome: Outcome) -> None:
        match outcome:
            case Waits(future):
                live.waits_for = future
                self._waits(live)
            case Returned(value):
                self._returned(live, value)
            case Raised(error):
                self._raised(live, error)
            case Refused():
                self._failing.refused(live)
            case Unwritten(error):
                self._failing.attempt_failed(live, error)

    def _waits(self, live: Live) -> None:
        if live.journal.replaying:
            entry = live.journal.commands[live.journal.cursor]
            done = f"entry {entry.ref}: the journal has {entry.kind} {entry.name}, the code waits without having done it"
            self._failing.paused(live, "divergence", done)
            return
        unjournaled = self._scope.sizes.why_unjournaled(live.commands)
        if unjournaled:
            self._failing.failed(live, Failure(413, f"{live.handler.target} cannot wait: {unjournaled}"))
            return
        if live.commands and self._outgrown(live):
            return
        self._keeping.suspend(live)

    def _outgrown(self, live: Live) -> bool:
        """Whether its journal is longer than it may be: it is paused then, with what it did since its last wait dropped."""
        limit, added = self._scope.journal_limit, len(live.commands)
        over = limit.why_over(live.journal, added)
        if over and CANCELLATION not in live.journal.completed:  # its clean-up may
            self._failing.paused(live, "journal", over)
            return True
        target = live.handler.target
        if limit.halfway(live.journal, added) and (target, "journal") not in self._told:
            self._told.add((target, "journal"))
            text = "%s %s has half of the journal that it may have (setting journal_entries): when that is full it is paused"
            logger.warning(text, target, live.id, extra={"handler": target})
        return False

    def _returned(self, live: Live, value: Any) -> None:
        if live.refused:
            self._failing.refused(live)
            return
        if live.unwritten is not None:
            self._failing.attempt_failed(live, live.unwritten)
            return
        if live.diverged:  # and the handler caught even that
            self._failing.paused(live, "divergence", live.diverged)
            return
        if live.journal.replaying:
            entry = live.journal.commands[live.journal.cursor]
            reason = f"entry {entry.ref}: the journal has {entry.kind} {entry.name}, the code returned without having done it"
            self._failing.paused(live, "divergence", reason)
            return
        result = self._encoded(live, value)
        if result is None:
            return
        if live.lasting and live.ops:
            self._unawaited(live)
        self._ending.returned(live, result)

    def _encoded(self, live: Live, value: Any) -> bytes | None:
        """The result's bytes; None: it could not be had, and has failed for it."""
        try:
            result = live.handler.encode_result(value)
        except TerminalError as error:  # it says which field is wrong, and the way out
            log_cause(error, live.id, live.handler.target)
            self._failing.failed(live, Failure(error.code, plain_text(error)))
            return None
        except BaseException as error:  # noqa: BLE001  (whatever the serde raises, no retry mends it)
            target = live.handler.target
            what = f"{target}: its result cannot be encoded"
            self._failing.failed(live, Failure(500, self._scope.disclosure.referred(what, error, live.id, target)))
            return None
        over = self._scope.sizes.why_no_result(live.stored, result) if live.stored is not None else ""
        if over:
            self._failing.failed(live, Failure(413, f"{live.handler.target}: its result {over}"))
            return None
        return result

    def _raised(self, live: Live, error: BaseException) -> None:
        if live.shard.store_error is not None:  # whatever the handler has made of it
            raise StoreLost(str(live.shard.store_error)) from error
        failing = self._failing
        live.refused = live.refused or (str(error) if isinstance(error, HandlerRefused) else of_another_loop(error))
        error = called_amiss(error) or error
        if live.refused:
            failing.refused(live)
        elif live.unwritten is not None:
            failing.attempt_failed(live, live.unwritten)
        elif live.diverged or isinstance(error, Diverged):
            failing.paused(live, "divergence", live.diverged or str(error))
        elif isinstance(error, TerminalError):
            log_cause(error, live.id, live.handler.target)
            failing.failed(live, failure_of(error))
        elif lets_through(live.journal, error):
            self._cancelled(live)
        else:
            failing.attempt_failed(live, error)

    def _cancelled(self, live: Live) -> None:
        """It has let its cancellation through: an end like a terminal failure, which pauses nothing."""
        barred = self._failing.barred(live.subscription)
        if barred is not None:
            self._failing.postponed(live, barred)
        else:
            self._ending.failed(live, Failure(409, f"{live.handler.target} was cancelled"))

    def _unawaited(self, live: Live) -> None:
        """Say once for each handler what it began and did not wait for: nearly always a forgotten `await`."""
        target = live.handler.target
        for op in live.ops.values():
            word = op.kind.word
            if (target, word) not in self._told:
                self._told.add((target, word))
                logger.warning(
                    "%s (%s): it has returned and did not await %s(...): %s", live.id, target, word, op.kind.unawaited,
                    extra={"handler": target},
                )  # fmt: skip
