"""The kind *attach*: the result of what something else has started is awaited; it comes back as that of a call does."""

from __future__ import annotations

from typing import Any

from odradek import TerminalError
from odradek._future import Call
from odradek._port import AttachTo
from odradek_runtime.core.addressing import shared_id
from odradek_runtime.core.records.formats import Command
from odradek_runtime.routing import id_hash

from .kind import Asker, Effects, Kind, Open


class AttachKind(Kind):
    """ctx.attach."""

    name = "attach"
    word = "ctx.attach"
    unawaited = "what comes of it is lost; write `await`"
    outside = "complete"

    def ask(self, asker: Asker, asked: AttachTo) -> Call[Any]:
        id_ = _id(asker, asked)
        if id_ == asker.id:
            raise TerminalError("ctx.attach: this is the invocation itself, which would wait for itself for ever", code=409)
        noted = asker.note(self.name, id_, None)
        call: Call[Any] = Call(loop=asker.scope.loop, seq=noted.ref, invocation_id=id_)
        if not asker.closed:
            asker.outlive()
            command = Command("attach", id_, caller_app=asker.scope.app.name, caller_id=asker.id, ref=noted.ref)
            asker.open(Open(self, noted.ref, command, call, asked.decode), fresh=noted.fresh)
        return call

    def begin(self, op: Open, effects: Effects) -> None:
        effects.route(op.what)


def _id(asker: Asker, asked: AttachTo) -> str:
    """Of what it means. Raises TerminalError when it means nothing."""
    if asked.target:
        app, local = asker.resolve(asked.target, asked.key)
        id_ = shared_id(asker.scope, app, local, asked.key or b"", asked.idempotency_key)
        if app or id_ is None:
            said = f"ctx.attach: {asked.target!r} is of another app: call it again, with the same idempotency key"
            raise TerminalError(said, code=400)
        return id_
    try:
        id_hash(asked.invocation_id)
    except ValueError as error:
        raise TerminalError(f"ctx.attach: {error}", code=400) from error
    return asked.invocation_id
