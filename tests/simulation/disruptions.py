"""What goes wrong in a world with its workers, its logs and those who write there, until it is calm.

A fault happens at a time of its own, or where somebody asks (`sent`, `records_lost`); the world crashes workers and lets them join.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from odradek_runtime.log.port import Output, Partition
from odradek_runtime.log.simulated.partition import PartitionLog

from .deployment import Deployment
from .faults import SKEW_MS
from .judgement import positions
from .program import BRIEF
from .worker import SimWorker

if TYPE_CHECKING:
    from .world import World

SHORT_SKEW_MS = 200.0
DISRUPTIONS = ("crash_later", "freeze", "evict", "rebalance", "stop", "join", "clock", "compact")


class Disruptions:
    """What happens to one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def begin(self) -> None:
        """Plan the first."""
        world = self._world
        world.scheduler.later(world.scheduler.rng.uniform(0, 500.0), "something happens", self._disrupt)
        if "stranger" in world.faults.kinds:
            world.scheduler.later(world.faults.others.uniform(0.0, 5_000.0), "a stranger may write", self._strange)

    def _disrupt(self) -> None:
        if self._world.faults.calm:
            return
        rng = self._world.faults.rng
        self._world.scheduler.later(rng.expovariate(1 / 1_500.0), "something happens", self._disrupt)
        kind = rng.choice(DISRUPTIONS)
        if self._world.faults.may(kind) and (self._world.workers or kind == "compact"):
            self._world.faults.happen(kind)
            getattr(self, f"_{kind}")()

    def _any(self) -> SimWorker:
        worker = self._world.faults.rng.choice(self._world.workers)
        self._world.scheduler.note(f"... to {worker.name}")
        return worker

    def _some(self) -> Deployment:
        return self._world.main if len(self._world.deployments) == 1 else self._world.faults.rng.choice(self._world.deployments)

    def _crash_later(self) -> None:
        self._world.crash(self._any())

    def _freeze(self) -> None:
        """SIGSTOP for longer than the session lasts: it wakes up as a zombie."""
        worker = self._any()
        worker.frozen_ms = self._world.scheduler.now_ms + self._world.faults.rng.uniform(6_500.0, 15_000.0)
        worker.member.freeze(worker.frozen_ms)

    def sent(self, worker: SimWorker) -> None:
        """A worker has sent a commit. Asleep while it is answered, it must not take its store for as young as the answer."""
        others = [each for each in self._world.workers if each.deployment is worker.deployment and each is not worker]
        if not others or not self._world.short_lived or not self._world.faults.hit("oversleep"):
            return
        sleep_ms = self._world.faults.rare.uniform(25_000.0, 32_000.0)
        worker.frozen_ms = self._world.scheduler.now_ms + sleep_ms
        worker.member.freeze(worker.frozen_ms)
        for before_ms in (5_500.0, 100.0):  # tombstones that the first sees are gone after the second
            self._world.scheduler.later(sleep_ms - before_ms, "everything is cleaned", self._clean)
        for other in others:
            self._world.scheduler.later(sleep_ms + 50.0, f"{other.name} stops", lambda other=other: self._stop_other(other))

    def _stop_other(self, worker: SimWorker) -> None:
        if worker in self._world.workers:
            worker.stop()

    def _clean(self) -> None:
        for partition in self._world.brokers.partitions():
            if partition.compacted:
                partition.compact(partition.end, self._world.scheduler.now_ms)

    def _evict(self) -> None:
        worker = self._any()
        worker.member.news_ms = self._world.faults.rng.choice((0.0, 50.0, 5_000.0))
        worker.member.evict()

    def _rebalance(self) -> None:
        self._some().group.balance(shuffle=True)

    def _stop(self) -> None:
        self._any().stop()

    def _join(self) -> None:
        self._world.join(self._some())

    def _clock(self) -> None:
        most_ms = SHORT_SKEW_MS if self._world.short_lived else SKEW_MS  # a tenth of their life is the margin for tombstones
        self._any().skew_ms = self._world.faults.rng.uniform(-most_ms, most_ms)

    def _compact(self) -> None:
        for partition in self._world.brokers.partitions():
            if partition.compacted:
                partition.compact(self._world.faults.rng.randint(0, partition.end), self._world.scheduler.now_ms)

    def _strange(self) -> None:
        """Somebody who has the right to writes records that are not the app's own into its journal, or its state.

        Not over what is: logs are cleaned early here, and it would be gone before the app has written it again.
        """
        rng = self._world.faults.others
        if not self._world.faults.may("stranger"):
            return
        self._world.faults.happen("stranger")
        self._world.scheduler.later(rng.uniform(100.0, 5_000.0), "a stranger may write", self._strange)
        deployment = rng.choice(self._world.deployments)
        where = Partition(f"{deployment.name}.{rng.choice(('journal', 'state'))}", rng.randrange(deployment.shards))
        theirs = [rng.choice((b"lx", b"", b"zz", b"m", b"t", b"o/k/n", rng.randbytes(5))) for _ in range(rng.randrange(1, 5))]
        written = [Output(*where, key, rng.choice((b"\xff", b"", rng.randbytes(12)))) for key in theirs]
        places = self._world.log.write("stranger", written, self._world.faults.happened["stranger"])
        self._world.strange.update(places)

    def records_lost(self) -> None:
        """At times records are gone, read or not: by retention, or with a topic that is made anew."""
        world = self._world
        if world.program.brief and world.faults.hit("retention"):
            self._retain()
        if world.program.brief and world.faults.hit("anew"):
            for number in range(world.program.partitions):
                log = world.brokers.partition(Partition(BRIEF, number))
                self._may_be_lost(log, log.end)
            world.brokers.make_anew(BRIEF)

    def _retain(self) -> None:
        """Retention deletes records, read or not."""
        for number in range(self._world.program.partitions):
            log = self._world.brokers.partition(Partition(BRIEF, number))
            before = self._world.faults.rare.randint(log.first, log.end)
            self._may_be_lost(log, before)
            log.trim(before)

    def _may_be_lost(self, log: PartitionLog, before: int) -> None:
        for message in log.read(positions(self._world.main).get(log.where, 0), before, before):
            self._world.doubtful.add(self._world.letters_of[BRIEF, log.where.partition, message.at])
