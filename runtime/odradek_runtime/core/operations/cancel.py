"""The kind *cancel*: another invocation of this app is told to end. Who tells it waits for nothing."""

from __future__ import annotations

from odradek import TerminalError
from odradek._port import CancelOf
from odradek_runtime.core.records.order import order
from odradek_runtime.routing import id_hash

from .kind import Asker, Effects, Kind, Open


class CancelKind(Kind):
    """ctx.cancel."""

    name = "cancel"
    parting = True

    def ask(self, asker: Asker, asked: CancelOf) -> None:
        noted = asker.note(self.name, asked.invocation_id[:200], None)
        if not noted.fresh or asker.closed:
            return
        try:
            id_hash(asked.invocation_id)
        except ValueError as error:
            asker.refuse_entry(TerminalError(str(error), code=400))
        asker.open(Open(self, noted.ref, order("cancel", asked.invocation_id, asker.id)), fresh=True)

    def begin(self, op: Open, effects: Effects) -> None:
        effects.route(op.what)
