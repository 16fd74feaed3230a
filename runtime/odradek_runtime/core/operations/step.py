"""The kind *step*: a function that runs outside, beside the handler, and whose result is recorded.

Until that is recorded it is a timer: one that is due already while the step runs, so that a crash runs it again; one that is due
later while it waits for its next attempt.
"""

from __future__ import annotations

import logging
from typing import Any

from odradek import RetryPolicy, TerminalError
from odradek._future import Future
from odradek._port import StepBody
from odradek_runtime.clock import begun
from odradek_runtime.core.disclosure import log_cause, whole
from odradek_runtime.core.epoch import StepRun
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import BEGUN, Entry
from odradek_runtime.core.records.request import Failure, failure_of
from odradek_runtime.core.scope import Scope

from .kind import Asker, Effects, Fired, Kind, Open

logger = logging.getLogger("odradek")

POLICY = RetryPolicy()
"""How a step without one of its own is repeated: for ever."""


class StepKind(Kind):
    """ctx.run, and a @step function that is called in a handler."""

    name = "step"
    word = "ctx.run"
    unawaited = "the step need not have run, and what came of it is lost; write `await`"

    def ask(self, asker: Asker, asked: StepBody) -> Future[Any]:
        noted = asker.note(self.name, asked.name, None)
        future: Future[Any] = Future(loop=asker.scope.loop, seq=noted.ref)
        if not asker.closed:
            asker.outlive()
            timer = None if noted.fresh else keys.timer(0, asker.id, noted.ref)
            asker.open(Open(self, noted.ref, asked, future, asked.decode, timer), fresh=noted.fresh)
        return future

    def timer(self, id_: str, entry: Entry) -> bytes:
        return keys.timer(0, id_, entry.ref)

    def begin(self, op: Open, effects: Effects) -> None:
        effects.step(op)

    def due(self, fired: Fired) -> None:
        status = fired.status
        if status not in BEGUN:  # it has come too late, or is nobody's
            fired.drop()
            return
        if not fired.at_once:
            fired.drop()
        fired.keep()  # due until its result is there, also if its invocation is set aside now
        if status == "running":
            fired.again()


def judged(run: StepRun, value: bytes | None, error: BaseException | None, scope: Scope, target: str) -> Entry | float:
    """What is recorded of a step that has run; or, when it has failed and is to run again, in how many seconds."""
    if error is None:
        return _recorded(run, value or b"", scope)
    policy = run.body.retry or POLICY
    attempt = run.attempt + 1
    run.first_ms = begun(run.first_ms, scope.now_ms)
    if isinstance(error, TerminalError):
        log_cause(error, run.id, target)
        failure = failure_of(error)
    elif not policy.retries(error) or policy.gives_up(attempt, (scope.now_ms - run.first_ms) / 1000):
        what = f"step {run.body.name} failed after {attempt} attempt(s)"
        failure = Failure(500, scope.disclosure.referred(what, error, run.id, target, trace=attempt == 1))
    else:
        delay_s = policy.delay_after_s(error, attempt)
        logger.warning(
            "step %s of %s (%s): attempt %d failed, again in %.2f s: %s", run.body.name, run.id, target, attempt, delay_s,
            whole(error), exc_info=error if attempt == 1 else None, extra={"handler": target},
        )  # fmt: skip
        return delay_s
    return Entry("completion", run.ref, failure=failure)


def _recorded(run: StepRun, value: bytes, scope: Scope) -> Entry:
    limit, what = scope.max_record_bytes, f"the result of step {run.body.name}"
    if len(value) <= limit:
        return scope.sizes.completion(what, Entry("completion", run.ref, value=value))
    why = f"{what} takes {len(value)} bytes, over the limit of max_record_bytes, {limit} bytes"
    return Entry("completion", run.ref, failure=Failure(413, why))
