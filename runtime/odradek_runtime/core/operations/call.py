"""The kind *call*: another handler is started, of this app or of another, and its result comes back as a command."""

from __future__ import annotations

from typing import Any

from odradek import TerminalError
from odradek._future import Call
from odradek._port import CallOf
from odradek_runtime.core.addressing import Callee, callee_of, child_id, invoke_command, shared_id
from odradek_runtime.core.records.formats import Command, Entry

from .kind import Asker, Effects, Kind, Open


class CallKind(Kind):
    """ctx.call."""

    name = "call"
    word = "ctx.call"
    unawaited = "the call is made, and what comes of it is lost; write `await`, or ctx.send where that is meant"
    outside = "complete"
    parting = True

    def ask(self, asker: Asker, asked: CallOf) -> Call[Any]:
        app, local = asker.resolve(asked.target, asked.key)
        key = asked.key or b""
        if not app and key == asker.key and _own_exclusive(asker, local):
            raise TerminalError(
                f"{asked.target} with key {key.decode('utf-8', 'replace')!r} is this invocation's own key: a call to itself would "
                "wait for itself for ever; use ctx.send, or an ordinary function",
                code=409,
            )
        shared = shared_id(asker.scope, app, local, key, asked.idempotency_key)
        noted = asker.note(self.name, asked.target, key, value=shared.encode() if shared is not None else None)
        id_ = shared or child_id(asker.id, noted.ref, key)
        call: Call[Any] = Call(loop=asker.scope.loop, seq=noted.ref, invocation_id=id_)
        if asker.closed:
            return call
        command: Command | None = None
        if noted.fresh:
            asker.outlive()
            try:
                command = invoke_command(asker.scope, app, local, id_, key, asked)
            except TerminalError as error:
                asker.refuse_entry(error)
            command.caller_app, command.caller_id, command.ref = asker.scope.app.name, asker.id, noted.ref
        asker.open(Open(self, noted.ref, command, call, asked.decode), fresh=noted.fresh)
        return call

    def callee(self, app: str, id_: str, entry: Entry) -> Callee:
        return callee_of(app, id_, entry)

    def begin(self, op: Open, effects: Effects) -> None:
        effects.route(op.what)


def _own_exclusive(asker: Asker, target: str) -> bool:
    """Whether the target takes the lock that this invocation holds, or is the workflow that it is."""
    other, own = asker.scope.handlers.get(target), asker.handler
    return other is not None and own.mode == other.mode in ("exclusive", "run") and other.service == own.service
