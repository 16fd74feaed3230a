"""The kind *promise*: a named result of a workflow's key, kept as a row of its shard, and awaited by whoever runs for that key.

It is there from the first word about it, and read and written as state is: what a segment gives it is part of the segment. All that
name it run in the shard of the key. Who waits has a row under it, by which the first who gives something finds all of them.
"""

from __future__ import annotations

from typing import Any

from odradek import TerminalError
from odradek._future import Future
from odradek._port import PromiseAwaited, PromiseGiven, PromisePeeked
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.answers import completion
from odradek_runtime.core.records.formats import PROMISE, SLOT, Entry, Promise, Slot
from odradek_runtime.core.records.request import Failure

from .kind import Asker, Effects, Kind, Noted, Open

AWAIT, PEEK, GIVE = b"await", b"peek", b"give"


class PromiseKind(Kind):
    """ctx.promise: `await`, `peek`, `resolve` and `reject`."""

    name = "promise"
    word = "ctx.promise"
    unawaited = "what it is given is lost on it; write `await`"
    outside = "complete"
    parting = True

    def ask(self, asker: Asker, asked: PromiseAwaited | PromisePeeked | PromiseGiven) -> Any:
        if not _of_workflow(asker):
            raise TerminalError(f"ctx.promise: {asker.handler.service!r} is no workflow, and has no promises", code=501)
        row = keys.promise(asker.base, asked.name)
        if isinstance(asked, PromiseAwaited):
            return self._wait(asker, asked, row)
        if isinstance(asked, PromisePeeked):
            return self._look(asker, asked.name, PEEK, row).value
        return self._give(asker, asked, row)

    def _wait(self, asker: Asker, asked: PromiseAwaited, row: bytes) -> Future[Any]:
        noted = self._look(asker, asked.name, AWAIT, row)
        future: Future[Any] = Future(loop=asker.scope.loop, seq=noted.ref)
        if noted.value is not None:
            _complete(future, asked, noted.value)
        elif not asker.closed:
            asker.outlive()
            waiter = keys.promise_waiter(row, asker.id, noted.ref)
            asker.open(Open(self, noted.ref, None, future, asked.decode, row=waiter), fresh=noted.fresh)
        return future

    def _look(self, asker: Asker, name: str, does: bytes, row: bytes) -> Noted:
        """What it holds as this is asked for; recorded, so that a replay sees the same. Raises what it was rejected with."""
        found = None if asker.replaying else _read(asker, row)
        noted = asker.note(self.name, name, does, value=found.value if found is not None else None)
        if noted.fresh and found is not None and found.failure is not None:
            failure = found.failure
            asker.refuse_entry(TerminalError(failure.message, code=failure.code, metadata=failure.metadata))
        return noted

    def _give(self, asker: Asker, asked: PromiseGiven, row: bytes) -> bool:
        first = not asker.replaying and _read(asker, row) is None
        noted = asker.note(self.name, asked.name, GIVE, value=b"first" if first else b"")
        if noted.fresh and first and not asker.closed:
            failure = Failure(asked.code, asked.message) if asked.code else None
            value = asked.value if failure is None else None
            try:
                asker.scope.sizes.check_given("", f"promise {asked.name!r}", value)
            except TerminalError as error:
                asker.refuse_entry(error)
            given = Promise(value, failure)
            asker.lay(row, PROMISE.encode(given))
            asker.open(Open(self, noted.ref, (row, given)), fresh=True)
        return noted.value == b"first"

    def row(self, base: bytes, id_: str, entry: Entry) -> bytes | None:
        waits = entry.key == AWAIT and entry.value is None and entry.failure is None
        return keys.promise_waiter(keys.promise(base, entry.name), id_, entry.ref) if waits else None

    def begin(self, op: Open, effects: Effects) -> None:
        if op.row is not None:
            _, id_, _ = keys.split_waiter(op.row)
            effects.row(op.row, SLOT.encode(Slot(id_)))
            return
        row, given = op.what
        for waiter in effects.rows(keys.promise_waiters(row)):
            _, id_, ref = keys.split_waiter(waiter)
            effects.row(waiter, None)
            effects.route(completion("", id_, ref, given.value, given.failure))


def _of_workflow(asker: Asker) -> bool:
    run = asker.scope.handlers.get(f"{asker.handler.service}/run")
    return run is not None and run.mode == "run"


def _read(asker: Asker, row: bytes) -> Promise | None:
    raw = asker.look(row)
    return None if raw is None else PROMISE.decode(raw)


def _complete(future: Future[Any], asked: PromiseAwaited, value: bytes) -> None:
    try:
        future.set_result(asked.decode(value))
    except TerminalError as error:  # it holds something else than its type
        future.set_exception(error)
