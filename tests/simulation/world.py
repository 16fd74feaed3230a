"""A world: one program, its log, workers, clients and faults, run from one seed to its end, and judged.

For a while faults happen; then there is calm, and everything must come to its end. `run` raises for whatever is wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

import msgspec

from odradek import App
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.log.port import Output, Partition
from odradek_runtime.log.simulated import SimulatedLog
from odradek_runtime.log.simulated.brokers import Brokers
from odradek_runtime.log.simulated.disk import Disk
from odradek_runtime.log.simulated.partition import PartitionLog
from odradek_runtime.log.simulated.scheduler import Scheduler, Stuck
from odradek_runtime.routing import id_hash, shard_of
from odradek_runtime.worker.restore.startup import CHANGELOG_KEPT, prepare

from .app import Outside, build, build_other
from .audit import Audit
from .client import Client
from .deployment import Deployment
from .faults import SKEW_MS, START_MS, Faults
from .judgement import judge, lag, positions, settled
from .moved_sender import MovedSender
from .program import APP, BRIEF, LIMIT_BYTES, OTHER, Entry, Generator
from .replaying import Replays
from .resetting import Resets
from .worker import SimWorker

OUT = 3
INPUTS = ("in-a", "in-b", "in-svc", "in-keyed")
MORE_INPUTS = ("in-held", "in-pair", BRIEF)
SHORT_SKEW_MS = 200.0
END_MS = 1_200_000.0
"""After faults have stopped everything must have ended within so long."""
EVENTS = 400_000
HOUR_MS = 3_600_000.0
MINUTES_MS = 600_000.0
"""One clock is not further from the others than completions are kept for."""
TOMBSTONES = {False: "86400000", True: "5000"}
DISRUPTIONS = ("crash_later", "freeze", "evict", "rebalance", "stop", "join", "clock", "compact")


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
        self.shift_ms = 0.0
        """How far all wall clocks are from the world's time."""
        self.set_ms = 0.0
        """By how much wall clocks have been set, back and ahead, all together."""
        self._behind_ms = 0.0
        self.until = 0
        """Stop in the debugger before this event; 0 = never."""
        self.verbose = False
        """Whether the engine's log lines become part of the history."""
        self.scheduler = Scheduler(seed, START_MS)
        self.faults = Faults(seed, kinds)
        self.program = Generator(seed, steps, poison).program
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
        self._short_lived = rng.random() < 0.5
        self.brokers.classic = rng.random() < 0.4
        self.main = self._deploy(build(self.program, self.outside), audits[APP])
        self.deployments = [self.main]
        if self.program.far_shards:
            self.deployments.append(self._deploy(build_other(self.program, self.outside), audits[OTHER]))
        self._by_wall = self.program.by_wall
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
        self._disks: dict[tuple[int, int], Disk] = {}
        self.workers: list[SimWorker] = []
        self._absent: set[int] = set()
        self._nodes: list[tuple[Deployment, Settings]] = []
        for deployment in self.deployments:
            for _ in range(rng.choice((1, 1, 2, 2, 3))):
                self._node(deployment)
        self._calm_ms = rng.uniform(5_000.0, 60_000.0)
        self.start_ms = START_MS
        self.replays = Replays(self)
        self.resets = Resets(self)

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
            config = {"cleanup.policy": "compact", "delete.retention.ms": TOMBSTONES[self._short_lived], **CHANGELOG_KEPT}
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

    def _node(self, deployment: Deployment) -> None:
        rng = self.scheduler.rng
        settings = Settings(
            coroutine_cache=rng.choice((0, 1, 10_000)),
            epoch_linger_s=rng.choice((0.0, 0.005, 0.05)),
            epoch_events=rng.choice((1, 4, 20_000)),
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
        rng = self.scheduler.rng
        self.scheduler.later(rng.uniform(0, 500.0), "something happens", self._disrupt)
        self.scheduler.later(1_000.0, "housekeeping", self._housekeep)
        self.scheduler.later(self._calm_ms, "calm", self._calm)
        if "clock_set" in self.faults.kinds:
            self.scheduler.later(self.faults.clocks.uniform(0.0, 5_000.0), "a clock may be set", self._set_clocks)
        if "stranger" in self.faults.kinds:
            self.scheduler.later(self.faults.others.uniform(0.0, 5_000.0), "a stranger may write", self._strange)
        self.replays.begin(self._calm_ms)
        self.resets.begin(self._calm_ms)
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

    def _disrupt(self) -> None:
        if self.faults.calm:
            return
        rng = self.faults.rng
        self.scheduler.later(rng.expovariate(1 / 1_500.0), "something happens", self._disrupt)
        kind = rng.choice(DISRUPTIONS)
        if self.faults.may(kind) and (self.workers or kind == "compact"):
            self.faults.happen(kind)
            getattr(self, f"_{kind}")()

    def _any(self) -> SimWorker:
        worker = self.faults.rng.choice(self.workers)
        self.scheduler.note(f"... to {worker.name}")
        return worker

    def _some(self) -> Deployment:
        return self.main if len(self.deployments) == 1 else self.faults.rng.choice(self.deployments)

    def _crash_later(self) -> None:
        self.crash(self._any())

    def _freeze(self) -> None:
        """SIGSTOP for longer than the session lasts: it wakes up as a zombie."""
        worker = self._any()
        worker.frozen_ms = self.scheduler.now_ms + self.faults.rng.uniform(6_500.0, 15_000.0)
        worker.member.freeze(worker.frozen_ms)

    def sent(self, worker: SimWorker) -> None:
        """A worker has sent a commit. Asleep while it is answered, it must not take its store for as young as the answer."""
        others = [each for each in self.workers if each.deployment is worker.deployment and each is not worker]
        if not others or not self._short_lived or not self.faults.hit("oversleep"):
            return
        sleep_ms = self.faults.rare.uniform(25_000.0, 32_000.0)
        worker.frozen_ms = self.scheduler.now_ms + sleep_ms
        worker.member.freeze(worker.frozen_ms)
        for before_ms in (5_500.0, 100.0):  # tombstones that the first sees are gone after the second
            self.scheduler.later(sleep_ms - before_ms, "everything is cleaned", self._clean)
        for other in others:
            self.scheduler.later(sleep_ms + 50.0, f"{other.name} stops", lambda other=other: self._stop_other(other))

    def _stop_other(self, worker: SimWorker) -> None:
        if worker in self.workers:
            worker.stop()

    def _clean(self) -> None:
        for partition in self.brokers.partitions():
            if partition.compacted:
                partition.compact(partition.end, self.scheduler.now_ms)

    def _evict(self) -> None:
        worker = self._any()
        worker.member.news_ms = self.faults.rng.choice((0.0, 50.0, 5_000.0))
        worker.member.evict()

    def _rebalance(self) -> None:
        self._some().group.balance(shuffle=True)

    def _stop(self) -> None:
        self._any().stop()

    def _join(self) -> None:
        self._node(self._some())

    def _clock(self) -> None:
        most_ms = SHORT_SKEW_MS if self._short_lived else SKEW_MS  # a tenth of their life is the margin for tombstones
        self._any().skew_ms = self.faults.rng.uniform(-most_ms, most_ms)

    def _set_clocks(self) -> None:
        """Somebody sets a clock, or the time server all of them, by seconds, and once by more.

        Only a delayed start may wait for a clock that was set back.
        """
        rng = self.faults.clocks
        self.scheduler.later(rng.uniform(1_000.0, 20_000.0), "a clock may be set", self._set_clocks)
        if not self.workers or self._short_lived or not self.faults.may("clock_set"):
            return
        self.faults.happen("clock_set")
        hours = 0.0 if self._by_wall else 5 * HOUR_MS
        seconds_ms = rng.uniform(-20_000.0, 20_000.0)
        by_ms = rng.choice((seconds_ms, rng.uniform(-MINUTES_MS, MINUTES_MS), -rng.uniform(0.0, hours)))
        if self.set_ms > 60_000.0:
            by_ms = seconds_ms
        if self._by_wall:  # a leap may let a long wait end before a shorter one that keeps its length
            by_ms = -abs(by_ms)
        worker = rng.choice(self.workers) if abs(by_ms) <= MINUTES_MS and rng.random() < 0.7 else None
        if worker is not None:
            worker.skew_ms += by_ms
        else:
            self.shift_ms += by_ms
        self.scheduler.note(f"... {worker.name if worker else 'every clock'} by {by_ms / 1000:.0f} s")
        self.set_ms += abs(by_ms)
        self._behind_ms += max(-by_ms, 0.0)

    def _strange(self) -> None:
        """Somebody who has the right to writes records that are not the app's own into its journal, or its state.

        Not over what is: logs are cleaned early here, and it would be gone before the app has written it again.
        """
        rng = self.faults.others
        if not self.faults.may("stranger"):
            return
        self.faults.happen("stranger")
        self.scheduler.later(rng.uniform(100.0, 5_000.0), "a stranger may write", self._strange)
        deployment = rng.choice(self.deployments)
        where = Partition(f"{deployment.name}.{rng.choice(('journal', 'state'))}", rng.randrange(deployment.shards))
        theirs = [rng.choice((b"lx", b"", b"zz", b"m", b"t", b"o/k/n", rng.randbytes(5))) for _ in range(rng.randrange(1, 5))]
        written = [Output(*where, key, rng.choice((b"\xff", b"", rng.randbytes(12)))) for key in theirs]
        places = self.log.write("stranger", written, self.faults.happened["stranger"])
        self.strange.update(places)

    def _end_ms(self) -> float:
        """When everything must have ended: no wait goes by the wall clock but those of delayed starts."""
        return START_MS + self._calm_ms + END_MS + (self._behind_ms if self._by_wall else 0.0)

    def _compact(self) -> None:
        for partition in self.brokers.partitions():
            if partition.compacted:
                partition.compact(self.faults.rng.randint(0, partition.end), self.scheduler.now_ms)

    def _housekeep(self) -> None:
        self.scheduler.later(self.scheduler.rng.uniform(500.0, 5_000.0), "housekeeping", self._housekeep)
        for worker in self.workers:
            if worker.frozen_ms <= self.scheduler.now_ms:
                worker.housekeep()

        if self.program.brief and self.faults.hit("retention"):
            self._retain()
        if self.program.brief and self.faults.hit("anew"):
            for number in range(self.program.partitions):
                log = self.brokers.partition(Partition(BRIEF, number))
                self._may_be_lost(log, log.end)
            self.brokers.make_anew(BRIEF)

    def read_up_to(self) -> dict[Partition, int]:
        """Up to where the main app has read, as far as that is committed."""
        return positions(self.main)

    def _retain(self) -> None:
        """Retention deletes records, read or not."""
        for number in range(self.program.partitions):
            log = self.brokers.partition(Partition(BRIEF, number))
            before = self.faults.rare.randint(log.first, log.end)
            self._may_be_lost(log, before)
            log.trim(before)

    def _may_be_lost(self, log: PartitionLog, before: int) -> None:
        for message in log.read(positions(self.main).get(log.where, 0), before, before):
            self.doubtful.add(self.letters_of[BRIEF, log.where.partition, message.at])

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

