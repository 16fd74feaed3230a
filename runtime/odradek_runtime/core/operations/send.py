"""The kind *send*: another handler is started one-way, now or later. Who sends is given its id and waits for nothing."""

from __future__ import annotations

from odradek import TerminalError
from odradek._port import SendOf
from odradek_runtime.core.addressing import Callee, callee_of, child_id, invoke_command, shared_id
from odradek_runtime.core.records.formats import Entry

from .kind import Asker, Effects, Kind, Open


class SendKind(Kind):
    """ctx.send."""

    name = "send"
    parting = True

    def ask(self, asker: Asker, asked: SendOf) -> str:
        app, local = asker.resolve(asked.target, asked.key)
        key = asked.key or b""
        shared = shared_id(asker.scope, app, local, key, asked.idempotency_key)
        noted = asker.note(self.name, asked.target, key, value=shared.encode() if shared is not None else None)
        id_ = shared or child_id(asker.id, noted.ref, key)
        if noted.fresh and not asker.closed:
            try:
                command = invoke_command(asker.scope, app, local, id_, key, asked)
            except TerminalError as error:
                asker.refuse_entry(error)
            delay_ms = int(asker.scope.now_ms + asked.delay_s * 1000) if asked.delay_s else 0
            command.at_ms = asked.at_ms or delay_ms
            asker.open(Open(self, noted.ref, command), fresh=True)
        return id_

    def callee(self, app: str, id_: str, entry: Entry) -> Callee:
        return callee_of(app, id_, entry)

    def begin(self, op: Open, effects: Effects) -> None:
        effects.route(op.what)
