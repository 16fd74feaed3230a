"""The kind *sleep*: a durable timer. Its due time stands in its entry; when it has come, the sleep ends with no value."""

from __future__ import annotations

from odradek._future import Future
from odradek._port import Sleep
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import Entry, Timer

from .kind import Asker, Effects, Fired, Kind, Open


class SleepKind(Kind):
    """ctx.sleep."""

    name = "sleep"
    word = "ctx.sleep"
    unawaited = "nothing waited; write `await`"

    def ask(self, asker: Asker, asked: Sleep) -> Future[None]:
        due_ms = 0.0
        if not asker.replaying:
            asker.scope.look_at_clock()  # it begins now, not when the turn began: what the handler did before may take long
            due_ms = asker.scope.now_ms + asked.delay_s * 1000 if asked.at_ms is None else asked.at_ms
        noted = asker.note(self.name, "", None, due_ms)
        future: Future[None] = Future(loop=asker.scope.loop, seq=noted.ref)
        if not asker.closed:
            asker.outlive()
            timer = keys.timer(int(noted.at_ms), asker.id, noted.ref)
            asker.open(Open(self, noted.ref, None, future, _nothing, timer), fresh=noted.fresh)
        return future

    def timer(self, id_: str, entry: Entry) -> bytes:
        return keys.timer(int(entry.at_ms), id_, entry.ref)

    def begin(self, op: Open, effects: Effects) -> None:
        if op.timer is not None:  # else it was withdrawn in the segment that asked for it
            effects.timer(op, Timer(self.name))

    def due(self, fired: Fired) -> None:
        fired.drop()
        fired.settle()


def _nothing(_: bytes) -> None:
    return None
