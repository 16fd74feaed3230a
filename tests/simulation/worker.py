"""A simulated worker: the real engine, driven by the scheduler where the real worker has a thread.

Its effects (a commit, a write to the store, a reply, a step) are points where its process may die.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from odradek_runtime.configuration.settings import Settings
from odradek_runtime.core.epoch import StepRun
from odradek_runtime.core.handler_loop import handler_loop, inhabited
from odradek_runtime.core.machine import Machine
from odradek_runtime.core.metrics import Metrics
from odradek_runtime.core.records.request import Answer, Question, Reply, Request
from odradek_runtime.core.topics.targets import Targets
from odradek_runtime.log.port import Partition, TopicInfo, Transaction, Trouble
from odradek_runtime.store.store import Store, StoreError
from odradek_runtime.store.store_folder import Bench, MemoryBench
from odradek_runtime.worker.engine.engine import Engine, Input
from odradek_runtime.worker.restore.internal import Internal
from odradek_runtime.worker.restore.ownership import Ownership, Restored
from odradek_runtime.worker.restore.takeover import Takeover
from odradek_runtime.worker.steps.executor import StepEnded, StepsEnded
from odradek_runtime.worker.upkeep.housekeeping import Housekeeping

from .executor import SimExecutor
from .replaying import SimRereader
from .strand import Strand

if TYPE_CHECKING:
    from odradek_runtime.log.simulated.disk import Disk

    from .deployment import Deployment
    from .world import World


IDLE_MS = 500.0
LAZY = 4.0
"""A worker that has nothing to do is looked at less often than the real one looks itself: a thread may be late."""


class Crashed(BaseException):
    """The process dies here. Not an Exception, so that nothing catches it."""


class SimStores:
    """The node's simulated disks."""

    def __init__(self, worker: SimWorker) -> None:
        self._worker = worker

    def open(self, number: int) -> Store:
        return self._disk(number).open(self._worker.effect, self._worker.name)

    def wipe(self, number: int) -> None:
        self._disk(number).wipe()

    def set_aside(self, number: int) -> str:
        self._disk(number).wipe()
        return "a place beside (simulated)"

    def check(self) -> None:
        """The disk takes stores."""

    def check_room(self, number: int, times: int) -> None:
        """There is room."""

    def bench(self, number: int) -> Bench:
        return MemoryBench()

    def sweep(self) -> None:
        """Nothing is left there."""

    def _disk(self, number: int) -> Disk:
        return self._worker.world.disk(self._worker.node, number)


class SimWorker:
    """One process. `node`: where its disks are; the next process there finds them again."""

    def __init__(self, world: World, deployment: Deployment, node: int, settings: Settings) -> None:
        self.world = world
        self.deployment = deployment
        self.node = node
        self.alive = True
        self.stopping = False
        self.frozen_ms = 0.0
        self.skew_ms = 0.0
        self._queue: deque[Input] = deque()
        self._plan = 0
        self._planned_ms = float("inf")
        self._strands: list[Strand] = []
        app, shards, log = deployment.app, deployment.shards, world.log
        self.member = log.member(app.name, shards, None)
        self.name = self.member.name
        targets = Targets(log, max_record_bytes=settings.max_record_bytes)
        self.machine = Machine(app, shards, settings, targets, Metrics(), handler_loop())
        internal = Internal.look(log, app.name)
        takeover = Takeover(app.name, shards, log, self.member, app.subscriptions(), SimStores(self), internal)
        clock = world.scheduler.clock(lambda now_ms: now_ms + world.clocks.shift_ms + self.skew_ms)
        self.ownership = Ownership(takeover, self._restored, self._failed, self.in_background, self.pause, clock.wall_ms)
        self.executor = SimExecutor(self)
        rereader = SimRereader(self)
        self.engine = Engine(self.machine, Tapped(self), self.executor, self.ownership, settings, clock, rereader)
        self._housekeeping = Housekeeping(log, self.engine, threading.Event(), internal)
        self.member.join(self.post)
        self._awake(0.0)

    # --- events ---

    def post(self, event: Input) -> None:
        """Enqueue an event, as any thread may."""
        if self.alive:
            self._queue.append(event)
            self._awake(self.world.scheduler.delay_ms(0.3))

    def ask(self, request: Request, answer: Answer) -> None:
        def reply(reply: Reply) -> None:
            self.effect("reply is given")
            self.deployment.audit.replied(reply)
            answer(reply)

        if self.stopping:
            answer(Reply("moved", request.invocation_id))
        else:
            self.post(Question(request, reply, lambda: self.deployment.audit.accepted(request.invocation_id)))

    def _awake(self, delay_ms: float) -> None:
        due_ms = self.world.scheduler.now_ms + delay_ms
        if due_ms < self._planned_ms:
            self._plan += 1
            self._planned_ms = due_ms
            plan = self._plan
            self.world.scheduler.at(due_ms, f"{self.name} turns", lambda: self._turn(plan))

    def _turn(self, plan: int) -> None:
        if not self.alive or plan != self._plan:
            return
        self._planned_ms = float("inf")
        if self.frozen_ms > self.world.scheduler.now_ms:
            self._awake(self.frozen_ms - self.world.scheduler.now_ms)
            return
        try:
            self._run()
        except Crashed:
            self.world.crash(self)

    def _run(self) -> None:
        engine = self.engine
        with inhabited(self.machine.loop):  # as the worker's thread has it
            for _ in range(self.world.scheduler.rng.randint(1, len(self._queue)) if self._queue else 0):
                engine.post(self._queue.popleft())
            engine.turn()
            assert not engine.flags.fatal, engine.flags.fatal
            if self.stopping:
                engine.flags.stopping = True
                if engine.idle and not engine.flags.start_over:
                    engine.let_go()
                    self.world.left(self)
                    return
        patience_ms = engine.patience_s() * 1000 if not self._queue else 0.0
        if patience_ms >= IDLE_MS:
            patience_ms *= LAZY
        self._awake(patience_ms + self.world.scheduler.delay_ms(0.3))

    def stop(self) -> None:
        """Begin the clean way out."""
        self.stopping = True
        self._awake(0.0)

    @property
    def quiet(self) -> bool:
        """It has nothing to do."""
        failed = any(shard.store_error is not None for shard in self.machine.shards.values())
        restoring = failed or self.ownership.restoring or self.engine.flags.start_over
        return not self._queue and self.engine.idle and not restoring and not self.executor.load and not self.stopping

    def knows(self, topic: TopicInfo) -> bool:
        """Whether all its shards have positions of this very topic, not of one of that name before it."""
        shards = self.machine.shards.values()
        return not self.ownership.restoring and all(shard.topic_ids.get(topic.name) == topic.id for shard in shards)

    def owner_of(self, number: int) -> bool:
        """Whether the group, too, takes it for the owner."""
        return self.deployment.group.owners.get(number) is self.member

    def housekeep(self) -> None:
        """What the real housekeeping does: delete commands that are done with, flush stores."""
        self._housekeeping.look_at_inputs()
        for partition, position in self.engine.committed_commands().items():
            self.world.brokers.partition(partition).trim(position)
        for shard in list(self.machine.shards.values()):
            try:
                shard.store.flush()
            except StoreError as error:
                shard.store_error = error
                return

    # --- death ---

    def effect(self, what: str) -> None:
        """Something is about to be seen outside, or has been: here the process may die."""
        if self.alive and self.world.faults.hit("crash"):
            self.world.scheduler.note(f"{self.name} crashes as {what}")
            raise Crashed(what)

    def die(self) -> None:
        """Nothing of it is left but what is on its disks and on the wire."""
        self.exit()
        self.member.die()
        self._close_coroutines()

    def exit(self) -> None:
        """The process is no more."""
        self.alive = False
        for strand in self._strands:
            strand.kill()

    def _close_coroutines(self) -> None:
        """Now: collected as garbage they would close amid a turn of another worker, or of another world, and ask in its context."""
        keeping = self.machine.keeping
        with inhabited(self.machine.loop):
            keeping.discard()
            for number in self.machine.shards:
                keeping.drop(number)

    # --- what runs beside it ---

    def in_background(self, work: Callable[[], None]) -> None:
        self._strands = [strand for strand in self._strands if not strand.ended]
        self._strands.append(Strand(self.world.scheduler, f"{self.name} restores", work, self._strand_failed))

    def _strand_failed(self, error: BaseException) -> None:
        if isinstance(error, Crashed):
            self.alive = False
            self.world.scheduler.later(0.0, f"{self.name} is gone", lambda: self.world.crash(self))
        else:
            self.world.failed.append(error)

    def pause(self, seconds: float) -> None:
        strand = self.world.scheduler.strand
        assert strand is not None, "only what runs beside the engine pauses"
        strand.give_way(seconds * 1000, "pause")

    def _failed(self, error: Exception) -> None:
        self.world.failed.append(error)

    def _restored(self, event: Restored | Trouble) -> None:
        if isinstance(event, Trouble):
            self.post(event)
            return
        self.deployment.audit.restored(self, event.shard)
        self.post(event)

    def step_ended(self, run: StepRun, value: bytes | None, error: BaseException | None) -> None:
        self.post(StepsEnded([StepEnded(run, value, error)]))


class Tapped:
    """The member as the engine sees it: sending a commit is an effect."""

    def __init__(self, worker: SimWorker) -> None:
        self._worker = worker
        inner = worker.member
        self.join, self.stop_reading = inner.join, inner.stop_reading
        self.pause, self.resume, self.settle, self.leave = inner.pause, inner.resume, inner.settle, inner.leave

    def read(self, positions: Mapping[Partition, int], generation: int) -> None:
        self._worker.deployment.audit.reads(self._worker, positions)
        self._worker.member.read(positions, generation)

    def commit(self, transaction: Transaction) -> None:
        self._worker.effect("a commit is sent")
        self._worker.member.commit(transaction)
        self._worker.world.disruptions.sent(self._worker)
        self._worker.effect("a commit was sent")


