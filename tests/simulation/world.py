"""A world: one program, its log, workers, clients and faults, run from one seed to its end, and judged.

For a while faults happen; then there is calm, and everything must come to its end. `run` raises for whatever is wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from random import Random

import msgspec

from odradek import App
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.log.port import Output, Partition
from odradek_runtime.log.simulated import SimulatedLog
from odradek_runtime.log.simulated.brokers import Brokers
from odradek_runtime.log.simulated.disk import Disk
from odradek_runtime.log.simulated.scheduler import Scheduler, Stuck
from odradek_runtime.routing import id_hash, shard_of
from odradek_runtime.worker.restore.startup import CHANGELOG_KEPT, prepare

from .app import Outside, build, build_other
from .audit import Audit
from .client import Client
from .clocks import Clocks
from .controlling import OFTEN, Controls, doom
from .deployment import Deployment
from .disruptions import Disruptions
from .faults import START_MS, Faults
from .flows import STARTS, TELLS
from .judgement import judge, lag, positions, settled
from .moved_sender import MovedSender
from .program import APP, BRIEF, LIMIT_BYTES, OTHER, Entry, Generator
from .replaying import Replays
from .resetting import Resets
from .worker import SimWorker

OUT = 3
INPUTS = ("in-a", "in-b", "in-svc", "in-keyed")
MORE_INPUTS = ("in-held", "in-pair", BRIEF, STARTS, TELLS)
END_MS = 1_200_000.0
"""After faults have stopped everything must have ended within so long."""
EVENTS = 400_000
TOMBSTONES = {False: "86400000", True: "5000"}


class Noted(logging.Handler):
    """Takes what the engine logs into the history."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler

    def emit(self, record: logging.LogRecord) -> None:
        self._scheduler.note(f"    {record.getMessage()}")


class World:
    """Everything of one seed. `kinds` and `entries` leave faults or inputs out, to find a shorter history of a failure."""

    def __init__(
        self,
        seed: int,
        steps: int = 30,
        kinds: Collection[str] | None = None,
        entries: Collection[int] | None = None,
        *,
        poison: float | None = None,
    ) -> None:
        self.seed = seed
        self.poison = poison
        self.until = 0
        """Stop in the debugger before this event; 0 = never."""
        self.verbose = False
        """Whether the engine's log lines become part of the history."""
        self.scheduler = Scheduler(seed, START_MS)
        self.faults = Faults(seed, kinds)
        self.program = Generator(seed, steps, poison).program
        fate = Random(f"{seed}/doom")
        self.program.doomed = fate.random() < OFTEN and not self.program.large
        if self.program.doomed:
            doom(self.program, fate, 5_000.0)
        if entries is not None:
            self.program.entries = [entry for n, entry in enumerate(self.program.entries) if n in entries]
        self.outside = Outside()
        self.failed = self.outside.wrong
        names = (APP, OTHER) if self.program.far_shards else (APP,)
        audits = {name: Audit(name, self._note) for name in names}
        rng = self.scheduler.rng
        pace_ms = rng.choice((1.0, 1.0, 10.0))
        watched = {name: MovedSender(audit, self.faults) for name, audit in audits.items()}
        batch_records = rng.choice((1, 5, 50))
        self.brokers = Brokers(self.scheduler, self.faults, watched, batch_records=batch_records, mean_ms=pace_ms)
        for each in watched.values():
            each.brokers = self.brokers
        self.log = SimulatedLog(self.brokers)
        self.short_lived = rng.random() < 0.5
        """Whether tombstones are."""
        self.brokers.classic = rng.random() < 0.4
        self.main = self._deploy(build(self.program, self.outside), audits[APP])
        self.deployments = [self.main]
        if self.program.far_shards:
            self.deployments.append(self._deploy(build_other(self.program, self.outside), audits[OTHER]))
        self.by_wall = self.program.by_wall
        self.brokers.changelogs_alone = self.program.given_up  # a handler that waits for a right may be given up before it begins
        self.clients: list[Client] = []
        self.letters_of: dict[tuple[str, int, int], str] = {}
        self.entry_at: dict[tuple[str, int, int], Entry] = {}
        """What came in as which record."""
        self.entered: list[Entry] = []
        """What has come from outside, in this order."""
        self.doubtful: set[str] = set()
        """Tasks whose records were deleted before it was committed that they had been read."""
        self.strange: set[tuple[Partition, int]] = set()
        """Where records of strangers lie."""
        self._unpublished = sum(bool(entry.topic) for entry in self.program.entries)
        self._unasked = len(self.program.entries) - self._unpublished
        self._publisher = self.log.publisher("outside")
        self._published = 0
        self.clocks = Clocks(self)
        self.disruptions = Disruptions(self)
        self._disks: dict[tuple[int, int], Disk] = {}
        self.workers: list[SimWorker] = []
        self._absent: set[int] = set()
        self._nodes: list[tuple[Deployment, Settings]] = []
        for deployment in self.deployments:
            for _ in range(rng.choice((1, 1, 2, 2, 3))):
                self.join(deployment)
        self._calm_ms = rng.uniform(5_000.0, 60_000.0)
        self.start_ms = START_MS
        self.replays = Replays(self)
        self.resets = Resets(self)
        self.controls = Controls(self)

    # --- making it ---

    def _note(self, text: str) -> None:
        if self.verbose:
            self.scheduler.note(text)

    def _deploy(self, app: App, audit: Audit) -> Deployment:
        small = {"max.message.bytes": str(LIMIT_BYTES)} if self.program.large else {}
        for name in (*INPUTS, *MORE_INPUTS):
            self.log.create_topic(name, self.program.partitions, {"max.message.bytes": "100000000"})
        self.log.create_topic("out", OUT, {})
        self.log.create_topic("letters", 1, small)
        self.log.create_topic("picky", 1, {})
        self.brokers.refused = {"picky"}
        shards = self.program.shards if app.name == APP else self.program.far_shards
        for name in ("journal", "state"):
            config = {"cleanup.policy": "compact", "delete.retention.ms": TOMBSTONES[self.short_lived], **CHANGELOG_KEPT}
            self.log.create_topic(f"{app.name}.{name}", shards, {**config, **small})
        if self.program.large:  # nobody else's ids change for it
            self.log.create_topic("bulk", 1, small)
            self.log.create_topic(f"{app.name}.commands", shards, {"retention.ms": "-1", "retention.bytes": "-1", **small})
            self.log.create_topic(f"{app.name}.dead-letters", shards, small)
        logging.getLogger("odradek").disabled = True  # it would say that the topics are small
        try:
            return Deployment(app, prepare(app, self.log, make="nothing"), audit, self.brokers)
        finally:
            logging.getLogger("odradek").disabled = False

    def join(self, deployment: Deployment) -> None:
        """A node of its own, with a worker, for one of the apps."""
        rng = self.scheduler.rng
        settings = Settings(
            coroutine_cache=rng.choice((0, 1, 10_000)),
            epoch_linger_s=rng.choice((0.0, 0.005, 0.05)),
            epoch_events=rng.choice((1, 4, 20_000)),
            steps_running=self.faults.source("steps_running").choice((1, 3, 1_000)),
        )
        self._nodes.append((deployment, settings))
        self._start(len(self._nodes) - 1)

    def _start(self, node: int) -> None:
        self._absent.discard(node)
        deployment, settings = self._nodes[node]
        self.workers.append(SimWorker(self, deployment, node, settings))

    def disk(self, node: int, shard: int) -> Disk:
        return self._disks.setdefault((node, shard), Disk(self.faults))

    def _inputs(self) -> None:
        for entry in self.program.entries:
            what = f"record {entry.task['id']}" if entry.topic else f"request {entry.task['id']}"
            self.scheduler.later(entry.at_ms, what, lambda entry=entry: self._enter(entry))

    def _enter(self, entry: Entry) -> None:
        if not entry.topic:
            self.entered.append(entry)
            self._unasked -= 1
            self.clients.append(Client(self, entry))
            self.clients[-1].ask()
            return
        info = self.log.topic(BRIEF)
        if entry.topic == BRIEF and not all(w.knows(info) for w in self.workers if w.deployment is self.main and info):
            self.scheduler.later(500.0, "nobody writes to a topic made anew before all have noticed", lambda: self._enter(entry))
            return
        self.entered.append(entry)
        self._unpublished -= 1
        self._published += 1
        key = entry.key.encode() or None
        task = {**entry.task, "at": entry.target.split("/")[0], "key": entry.key}
        value = entry.raw if entry.raw is not None else msgspec.json.encode(task)
        number = self._partition(key)
        places = self.log.write("outside", [Output(entry.topic, number, key, value)], self._published)
        (where, offset) = places[0]
        self.entry_at[where.topic, where.partition, offset] = entry
        self.letters_of[where.topic, where.partition, offset] = entry.task["id"] or f"{entry.topic} raw"

    def _partition(self, key: bytes | None) -> int:
        """Where a record lies: not always where we would have put it, but always in the same place for a key."""
        if key is None:
            return self.scheduler.rng.randrange(self.program.partitions)
        hash_ = shard_of(key, self.program.partitions)
        return hash_ if self.program.aligned else (hash_ + key[-1]) % self.program.partitions

    # --- running it ---

    def run(self) -> None:
        """Raises Wrong, Stuck, or whatever the engine raised."""
        engine = logging.getLogger("odradek")
        level, propagate = engine.level, engine.propagate
        noted = Noted(self.scheduler)
        engine.addHandler(noted)
        engine.propagate = False
        engine.setLevel(logging.INFO if self.verbose else logging.CRITICAL + 1)
        try:
            self._run()
        finally:
            engine.removeHandler(noted)
            engine.setLevel(level)
            engine.propagate = propagate

    def _run(self) -> None:
        self._inputs()
        self.disruptions.begin()
        self.scheduler.later(1_000.0, "housekeeping", self._housekeep)
        self.scheduler.later(self._calm_ms, "calm", self._calm)
        self.clocks.begin()
        self.replays.begin(self._calm_ms)
        self.resets.begin(self._calm_ms)
        self.controls.begin()
        while not (self.faults.calm and self.scheduler.count % 20 == 0 and self._done()):
            if self.scheduler.count + 1 == self.until:
                breakpoint()
            if not self.scheduler.step() or self.scheduler.now_ms > self._end_ms() or self.scheduler.count > EVENTS:
                raise Stuck(self._unfinished())
            if self.failed:
                raise self.failed[0]
        judge(self)

    def close(self) -> None:
        """Let go of the strands of a world that has failed."""
        for worker in self.workers:
            worker.die()

    def _end_ms(self) -> float:
        """When everything must have ended: no wait goes by the wall clock but those of delayed starts."""
        return START_MS + self._calm_ms + END_MS + (self.clocks.behind_ms if self.by_wall else 0.0)

    def _housekeep(self) -> None:
        self.scheduler.later(self.scheduler.rng.uniform(500.0, 5_000.0), "housekeeping", self._housekeep)
        for worker in self.workers:
            if worker.frozen_ms <= self.scheduler.now_ms:
                worker.housekeep()
        self.disruptions.records_lost()

    def read_up_to(self) -> dict[Partition, int]:
        """Up to where the main app has read, as far as that is committed."""
        return positions(self.main)

    def crash(self, worker: SimWorker) -> None:
        """Its process dies; a new one starts on its node after a while."""
        if worker in self.workers:
            self.workers.remove(worker)
            worker.die()
            for (node, _), disk in self._disks.items():
                if node == worker.node:
                    disk.crash()
            self._again(worker.node)

    def left(self, worker: SimWorker) -> None:
        """It has stopped cleanly."""
        self.workers.remove(worker)
        worker.member.leave()
        worker.exit()
        for (node, _), disk in self._disks.items():
            if node == worker.node and disk.holder is not None:  # a restore that nobody waited for
                disk.crash()
        self._again(worker.node)

    def _again(self, node: int) -> None:
        self._absent.add(node)
        self.scheduler.later(self.scheduler.delay_ms(2_000.0), f"node {node} starts a worker", lambda: self._restart(node))

    def _restart(self, node: int) -> None:
        if node in self._absent:
            self._start(node)

    def _calm(self) -> None:
        """From now on nothing goes wrong."""
        self.faults.calm = True

    def worker_for(self, id_: str) -> SimWorker | None:
        """Whom a client asks: mostly the owner, as far as anybody knows."""
        workers = [worker for worker in self.workers if worker.deployment is self.main]
        if not workers:
            return None
        owners = [worker for worker in workers if worker.ownership.owns(id_hash(id_) % self.main.shards)]
        if owners and self.scheduler.rng.random() < 0.9:
            return self.scheduler.rng.choice(owners)
        return self.scheduler.rng.choice(workers)

    # --- its end ---

    def _done(self) -> bool:
        if self._unpublished or self._unasked or self._absent or any(each.audit.under_way() for each in self.deployments):
            return False
        if not all(client.done for client in self.clients) or not all(worker.quiet for worker in self.workers):
            return False
        if not all(settled(self, each) and not each.audit.timers_to_fire() for each in self.deployments):
            return False
        return self.replays.over and all(log.stable == log.end for log in self.brokers.partitions())

    def _unfinished(self) -> str:
        waiting = [client.entry.task["id"] for client in self.clients if not client.done]
        workers = [f"{w.name} {'quiet' if w.quiet else 'busy'} shards {w.ownership.numbers}" for w in self.workers]
        return (
            f"not everything ends: invocations {[each.audit.tell_unfinished() for each in self.deployments]}, "
            f"clients {waiting}, lag {[lag(each) for each in self.deployments]}, "
            f"workers {workers}, still to come {self._unpublished + self._unasked}"
        )

