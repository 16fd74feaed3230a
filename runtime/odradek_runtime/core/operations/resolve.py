"""The kind *resolve*: an awakeable, of this app or of another, is given a value or an error. Who gives it waits for nothing."""

from __future__ import annotations

from odradek import TerminalError
from odradek._port import ResolveOf
from odradek_runtime.core.records.awakeable_ids import parsed
from odradek_runtime.core.records.formats import Command
from odradek_runtime.core.records.request import Failure

from .kind import Asker, Effects, Kind, Open


class ResolveKind(Kind):
    """ctx.resolve and ctx.reject."""

    name = "resolve"
    parting = True

    def ask(self, asker: Asker, asked: ResolveOf) -> None:
        noted = asker.note(self.name, asked.awakeable_id[:200], None)
        if not noted.fresh or asker.closed:
            return
        try:
            id_ = parsed(asked.awakeable_id)
        except ValueError as error:
            asker.refuse_entry(TerminalError(str(error), code=400))
        failure = Failure(asked.code, asked.message) if asked.code else None
        payload = asked.value if failure is None else None
        app = "" if id_.app == asker.scope.app.name else id_.app
        command = Command("awakeable", id_.invocation_id, key=id_.seal, payload=payload, ref=id_.ref, failure=failure, name=app)
        try:
            if app:
                asker.reach(app)
            asker.scope.sizes.check_given(app, "the value", command.payload)
        except TerminalError as error:
            asker.refuse_entry(error)
        asker.open(Open(self, noted.ref, command), fresh=True)

    def begin(self, op: Open, effects: Effects) -> None:
        effects.route(op.what)
