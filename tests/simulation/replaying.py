"""Replays of a world: somebody orders some, cancels some, repeats orders; and what must come of them is worked out.

What a replay delivers again is told apart by its name before the task's: `Performance` puts it there, going by `ctx.record.replay`.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import COMMAND, REPLAY, REPLAY_TALLY, Command, Replay, ReplayTally
from odradek_runtime.log.port import LogError, Output, Partition
from odradek_runtime.worker.engine.replaying import Reading, Reread
from odradek_runtime.worker.engine.rereader import bounds

from .model import Wrong
from .program import Entry, Task

if TYPE_CHECKING:
    from .worker import SimWorker
    from .world import World

OFTEN = 0.4
"""In so many worlds somebody replays."""
TOPICS = ("in-a", "in-b", "in-svc", "in-keyed")
MOST = 3
TALLIED = ("ended_well", "dead_letters", "left_out")


class SimRereader:
    """Reads for replays in a strand of the worker, as the real one does in a thread."""

    def __init__(self, worker: SimWorker) -> None:
        self._worker = worker

    def begin(self, reading: Reading) -> None:
        self._worker.in_background(lambda: self._read(reading))

    def _read(self, reading: Reading) -> None:
        log, start = self._worker.world.log, reading.start
        while self._wanted(reading):
            try:
                start, stop, gone = bounds(log, reading, start)
                for batch in log.scan(reading.partition, start, stop):
                    if not self._wanted(reading):
                        return
                    self._worker.post(Reread(reading, batch, batch[-1].offset() + 1, gone))
                    start, gone = batch[-1].offset() + 1, 0
                self._worker.post(Reread(reading, (), reading.stop, gone))
            except LogError:
                self._worker.pause(0.5)
            else:
                return


    def _wanted(self, reading: Reading) -> bool:
        return not reading.ended


class Replays:
    """What is ordered in one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = Random(f"{world.seed}/replays")
        self.at_ms: dict[str, float] = {}
        """When each was ordered."""
        self.cancelled: set[str] = set()
        self._written = 0
        self.happen = self._rng.random() < OFTEN and not world.program.large

    def begin(self, within_ms: float) -> None:
        """Plan the first."""
        if self.happen:
            self._world.scheduler.later(self._rng.uniform(0.1, 0.7) * within_ms, "somebody replays", self._order)

    def _order(self) -> None:
        world, rng = self._world, self._rng
        if world.faults.calm or len(self.at_ms) >= MOST:
            return
        world.scheduler.later(rng.uniform(100.0, 10_000.0), "somebody replays", self._order)
        full = max(TOPICS, key=lambda name: sum(topic == name for topic, _, _ in world.entry_at))
        topic = world.log.topic(rng.choice((full, full, *TOPICS)))
        assert topic is not None
        id_ = f"r{len(self.at_ms)}"
        orders: list[Output] = []
        rate = rng.choice((0.0, 0.3, 1.0, 50.0))
        for number in range(topic.partitions):
            end = world.brokers.partition(Partition(topic.name, number)).end
            first = rng.choice((0, rng.randint(0, end)))
            part = Replay(id_, topic.name, number, first, first, end, topic_id=topic.id, rate=rate)
            orders.append(self._command(number, Command(kind="replay", id=id_, payload=REPLAY.encode(part))))
        self.at_ms[id_] = world.scheduler.now_ms
        self._give(orders)
        if rng.random() < 0.3:
            world.scheduler.later(rng.uniform(0.0, 5_000.0), f"{id_} is ordered again", lambda: self._give(orders))
        if rng.random() < 0.25:
            world.scheduler.later(rng.uniform(0.0, 8_000.0), f"{id_} is cancelled", lambda: self._cancel(id_))

    def _cancel(self, id_: str) -> None:
        self.cancelled.add(id_)
        shards = range(self._world.main.shards)
        self._give([self._command(number, Command(kind="cancel_replay", id=id_)) for number in shards])

    def _command(self, number: int, command: Command) -> Output:
        shards = self._world.main.shards
        return Output(f"{self._world.main.name}.commands", number % shards, None, COMMAND.encode(command))

    def _give(self, orders: list[Output]) -> None:
        self._written += 1
        self._world.log.write("orders", orders, self._written)

    # --- the end ---

    @property
    def parts(self) -> list[Replay]:
        """As they are committed."""
        views = self._world.main.audit.views.values()
        return [REPLAY.decode(value) for view in views for key, value in view.items() if key[:1] == b"r"]

    @property
    def over(self) -> bool:
        return all(part.status != "running" for part in self.parts)

    def delivered(self) -> list[Entry]:
        """What has come in once more, with the names that it has then. Raises Wrong when the rows do not add up."""
        found: list[Entry] = []
        for part in self.parts:
            whole = part.status == "done" and part.next == part.stop
            if not whole and not (part.status == "cancelled" and part.id in self.cancelled):
                raise Wrong(f"replay {part.id} of {part.topic}[{part.partition}] is {part.status} at {part.next} of {part.stop}")
            places = [(part.topic, part.partition, offset) for offset in range(part.first, part.next)]
            entries = [entry for place in places if (entry := self._world.entry_at.get(place)) is not None]
            if len(entries) != part.records:
                raise Wrong(f"replay {part.id} of {part.topic}[{part.partition}]: {part.records} records of {len(entries)}")
            at_ms = self.at_ms[part.id] - self._world.start_ms
            found += [replace(each, task=renamed(each.task, part.id), replay=part.id, at_ms=at_ms) for each in entries]
        self._tallied(found)
        return found

    def _tallied(self, entries: list[Entry]) -> None:
        for id_ in self.at_ms:
            whole = ReplayTally(id_)
            for view in self._world.main.audit.views.values():
                raw = view.get(keys.replay_tally(id_))
                for name in ("started", *TALLIED) if raw is not None else ():
                    setattr(whole, name, getattr(whole, name) + getattr(REPLAY_TALLY.decode(raw or b""), name))
            due, ended = sum(entry.replay == id_ for entry in entries), sum(getattr(whole, name) for name in TALLIED)
            if not due == whole.started == ended:
                raise Wrong(f"replay {id_}: {due} were delivered, {whole}")


def renamed(task: Task, before: str) -> Task:
    """The same task, and those that it sends away, under other names. Those of the pool are the same whoever calls them."""
    ops = [dict(op) for op in task["ops"]]
    for op in ops:
        if "task" in op:
            op["task"] = renamed(op["task"], before)
        if "tasks" in op:
            op["tasks"] = [renamed(each, before) for each in op["tasks"]]
    return {**task, "id": f"{before}/{task['id']}", "ops": ops}
