"""The kind *awakeable*: a value from outside is awaited. Who has its id gives it; the first who does is heard."""

from __future__ import annotations

from typing import Any

from odradek._future import Awakeable
from odradek._port import AwakeableOf

from .kind import Asker, Effects, Kind, Open


class AwakeableKind(Kind):
    """ctx.awakeable."""

    name = "awakeable"
    word = "ctx.awakeable"
    unawaited = "whoever resolves it finds nobody who waits; write `await`"
    outside = "awakeable"

    def ask(self, asker: Asker, asked: AwakeableOf) -> Awakeable[Any]:
        noted = asker.note(self.name, "", None)
        id_ = asker.scope.awakeable_ids.of(asker.id, noted.ref)
        future: Awakeable[Any] = Awakeable(loop=asker.scope.loop, seq=noted.ref, id=id_)
        if not asker.closed:
            asker.outlive()
            asker.open(Open(self, noted.ref, None, future, asked.decode), fresh=noted.fresh)
        return future

    def begin(self, op: Open, effects: Effects) -> None:
        """There is nothing to do: its entry is what it is found by."""
