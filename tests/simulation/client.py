"""Simulated clients: they ask until they are answered, sometimes twice at once, and never get two different answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from odradek_runtime.core.records.request import Attach, Invoke, Reply
from odradek_runtime.routing import fresh_id, request_id

from .model import Wrong
from .program import Entry

if TYPE_CHECKING:
    from .worker import SimWorker
    from .world import World

AGAIN_MS = 8_000.0


class Client:
    """One request from outside and its answer."""

    def __init__(self, world: World, entry: Entry) -> None:
        self.world = world
        self.entry = entry
        self.accepted = False
        self.answer: Any = None
        self.done = False
        key = entry.key.encode()
        entropy = world.scheduler.rng.randbytes(12)
        if entry.idempotent:
            self.id = request_id(entry.target, key, entry.task["id"])
        else:
            self.id = fresh_id(key or None, entropy, hash_=entropy[0])
        self._at_ms = int(world.scheduler.now_ms + entry.delay_ms) if entry.delay_ms else 0
        self._tries = 0

    def ask(self) -> None:
        """Ask some worker; ask again later unless that was answered."""
        if self.done:
            return
        self._tries += 1
        tries, scheduler = self._tries, self.world.scheduler
        worker = self.world.worker_for(self.id)
        scheduler.later(AGAIN_MS, f"client of {self.entry.task['id']} has waited long", lambda: self._overdue(worker, tries))
        if worker is None:
            return
        if self.accepted:
            worker.ask(Attach(self.id, wait=True), self._hear)
            return
        where = self.entry.target.split("/")[0]
        payload = msgspec.json.encode({**self.entry.task, "at": where})
        entry, key = self.entry, self.entry.key.encode()
        worker.ask(Invoke(self.id, entry.target, key, payload, {}, entry.wait, entry.idempotent, self._at_ms), self._hear)
        if self.world.faults.hit("duplicate"):
            scheduler.later(scheduler.delay_ms(5.0), f"client of {self.entry.task['id']} asks twice", self.ask)

    def _overdue(self, worker: SimWorker | None, tries: int) -> None:
        """Its connection is broken: only then does it ask again of its own accord."""
        if tries != self._tries or self.done:
            return
        if worker is None or not worker.alive:
            self.ask()
        else:
            self.world.scheduler.later(AGAIN_MS, "a client waits", lambda: self._overdue(worker, tries))

    def _hear(self, reply: Reply) -> None:
        scheduler = self.world.scheduler
        if reply.status in ("accepted", "previously_accepted", "running"):
            self.accepted = True
            scheduler.later(scheduler.delay_ms(20.0), f"client of {self.entry.task['id']} attaches", self.ask)
        elif reply.status in ("completed", "failed"):
            answer = reply.failure.code if reply.failure is not None else msgspec.json.decode(reply.value)
            if self.done and answer != self.answer:
                raise Wrong(f"{self.entry.task['id']}: answered {self.answer}, then {answer}")
            self.answer, self.done = answer, True
        elif reply.status == "not_found":
            raise Wrong(f"{self.entry.task['id']}: accepted, and then not found")
        else:
            scheduler.later(scheduler.delay_ms(100.0), f"client of {self.entry.task['id']} asks elsewhere", self.ask)
