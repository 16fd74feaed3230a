"""Controls of a world: tasks that never end of themselves, each of which somebody kills or cancels, and what comes after them.

Doomed tasks wait for everything that one can wait for, and note nothing before their waits. So whenever a kill comes, what must be
seen of one is the same: nothing but that whoever waits for it is told so, and that its key is free. And whatever is under way is
paused, and resumed a while later: nothing of that must be seen at all. Steady tasks note something at their end alone, and are
restarted, from an entry on or as new ones: whatever becomes of that, they have ended once.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import COMMAND, INVOCATION, Stored
from odradek_runtime.core.records.order import order
from odradek_runtime.log.port import Output
from odradek_runtime.routing import derived_id, id_hash

from .program import DOOMED, HELD, KEYS, Entry, Op, Program, Task

if TYPE_CHECKING:
    from .world import World

OFTEN = 0.25
PAUSES = 0.2
NEVER_MS = 10**10
DEPTH = 2
AGAIN_MS = 6_000.0
"""An order that has come too early, for the invocation was not there yet, is given again."""


def doom(program: Program, rng: Random, span_ms: float) -> None:
    """Add tasks that never end, and behind them some that do."""
    for number in range(rng.randint(1, 5)):
        key, at_ms = rng.choice(KEYS), rng.uniform(0, span_ms)
        delay_ms = NEVER_MS if rng.random() < 0.15 else 0
        task: Task = {"id": f"d{number}", "ops": _waits(rng, f"d{number}", key, DEPTH), "doomed": True}
        program.entries.append(Entry(at_ms, f"{DOOMED}/do", key, task, delay_ms=delay_ms, wait=rng.random() < 0.5))
        steady: Task = {"id": f"s{number}", "ops": _steps(rng), "steady": True}
        program.entries.append(Entry(rng.uniform(0, span_ms), f"{DOOMED}/do", rng.choice(KEYS), steady, wait=rng.random() < 0.5))
        heir: Task = {"id": f"h{number}", "ops": [{"op": "note"}]}
        program.entries.append(Entry(at_ms + rng.uniform(0, 50), f"{DOOMED}/do", key, heir))


def _steps(rng: Random) -> list[Op]:
    """A few, with waits between them."""
    ops: list[Op] = []
    for _ in range(rng.randint(1, 4)):
        ops.append({"op": "step", "fails": rng.choice((0, 0, 1)), "later": rng.random() < 0.4, "sync": False})
        ops.append({"op": "nap", "ms": rng.choice((0, 30, 2_000))})
    return ops


def _fails(task: Task) -> bool:
    return any(op["op"] == "fail" or ("task" in op and _fails(op["task"])) for op in task["ops"])


def _waits(rng: Random, name: str, key: str, depth: int) -> list[Op]:
    """Something, perhaps, and then something that never ends."""
    ops: list[Op] = [{"op": "nap", "ms": rng.choice((0, 30))}] if rng.random() < 0.3 else []
    if rng.random() < 0.2:
        ops.append({"op": "step", "fails": 0, "later": False, "sync": False})
    kinds = ("sleep", "step", "fail", "call", "call", "limited") if depth else ("sleep", "step", "fail")
    for index in range(rng.choice((1, 1, 2))):
        sub: Task = {"id": f"{name}.{index}", "ops": [], "doomed": True}
        match rng.choice(kinds):
            case "sleep":
                ops.append({"op": "sleep", "ms": NEVER_MS, "later": True})
            case "step":
                ops.append({"op": "step", "fails": 10**9, "later": True, "sync": False})
            case "fail":
                ops.append({"op": "fail", "times": 10**9})
            case "call":
                other = rng.choice([each for each in KEYS if each != key])  # its own key would be refused
                sub["ops"] = _waits(rng, sub["id"], other, depth - 1)
                ops.append({"op": "call", "to": f"{DOOMED}/do", "key": other, "task": sub, "later": True})
            case _:
                sub["ops"] = [{"op": "sleep", "ms": NEVER_MS, "later": False}]
                ops.append({"op": "limited", "to": "lim/do", "key": "", "task": sub, "later": True})
    return ops


class Controls:
    """What is ordered in one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = Random(f"{world.seed}/controls")
        self._written = 0
        self._pauses = self._rng.random() < PAUSES
        self.renewed: set[str] = set()
        """Steady tasks that were restarted as new ones: whoever waited for the old one is told so, if it had not ended."""

    def begin(self) -> None:
        """Each doomed task is killed a while after it was asked for."""
        if self._pauses:
            self._world.scheduler.later(self._rng.uniform(0.0, 2_000.0), "somebody pauses", self._pause)
            self._world.scheduler.later(self._rng.uniform(0.0, 4_000.0), "somebody resumes", self._resume)
        for entry in self._world.program.entries:
            if entry.task.get("doomed"):
                at_ms = entry.at_ms + self._rng.choice((1.0, 100.0, 3_000.0)) * self._rng.random()
                self._world.scheduler.later(at_ms, f"somebody kills {entry.task['id']}", lambda entry=entry: self._kill(entry))

            if entry.task.get("steady"):
                for _ in range(self._rng.randint(0, 3)):
                    at_ms = entry.at_ms + self._rng.uniform(0.0, 5_000.0)
                    what = f"somebody restarts {entry.task['id']}"
                    self._world.scheduler.later(at_ms, what, lambda entry=entry: self._restart(entry))

    def _restart(self, entry: Entry) -> None:
        """From an entry on, or as a new one; perhaps it has ended."""
        client = next((each for each in self._world.clients if each.entry is entry), None)
        if client is None:
            return
        if self._rng.random() < 0.7:
            self._order("restart", client.id, ref=self._rng.randint(0, 4))
        else:
            self.renewed.add(entry.task["id"])
            self._order("restart", client.id, becomes=derived_id(id_hash(client.id), client.id, self._written))

    def _kill(self, entry: Entry) -> None:
        client = next((each for each in self._world.clients if each.entry is entry), None)
        if client is not None and client.done:
            return
        again_ms = self._rng.uniform(0.5, 1.0) * AGAIN_MS
        self._world.scheduler.later(again_ms, f"somebody kills {entry.task['id']} again", lambda: self._kill(entry))
        if client is not None:
            gently = entry.at_ms % 1 < 0.5 and not _fails(entry.task)  # what fails for ever comes to no await
            self._order("cancel" if gently else "kill", client.id)

    def _pause(self) -> None:
        """Some of what is under way, but where others pause keys of their own."""
        world, rng = self._world, self._rng
        if world.faults.calm:
            return
        world.scheduler.later(rng.uniform(10.0, 3_000.0), "somebody pauses", self._pause)
        under_way = [stored.id for stored in self._stored() if not stored.target.startswith(f"{HELD}/")]
        for id_ in rng.sample(under_way, min(len(under_way), rng.randint(1, 3))):
            self._order("pause", id_)

    def _resume(self) -> None:
        """All that somebody has paused, or some of it; also what waits for its next attempt. In the end all of it."""
        world, rng = self._world, self._rng
        world.scheduler.later(rng.uniform(10.0, 4_000.0), "somebody resumes", self._resume)
        for stored in self._stored():
            if stored.pause == "operator" or (stored.status == "backing_off" and rng.random() < 0.1):
                self._order("resume", stored.id)

    def _stored(self) -> list[Stored]:
        """What has not ended, as it is committed."""
        audit = self._world.main.audit
        found = [view.get(keys.invocation(id_)) for id_ in sorted(audit.unfinished) for view in audit.views.values()]
        return [INVOCATION.decode(raw) for raw in found if raw is not None]

    def _order(self, kind: str, id_: str, *, ref: int = -1, becomes: str = "") -> None:
        main = self._world.main
        value = COMMAND.encode(order(kind, id_, "somebody", ref=ref, becomes=becomes))
        self._written += 1
        output = Output(f"{main.name}.commands", id_hash(id_) % main.shards, None, value)
        self._world.log.write("controls", [output], self._written)
