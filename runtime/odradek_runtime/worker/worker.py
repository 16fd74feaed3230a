"""A worker: one engine in a thread of its own, with the member, the executor and the restores it needs round it.

The public face for the node and the ingress. Everything reaches the engine through one queue; `ask` and `stop` may be called
from any thread.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from odradek import App
from odradek_runtime.clock import SYSTEM, Clock
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.core.handler_loop import handler_loop, inhabited
from odradek_runtime.core.machine import Machine
from odradek_runtime.core.metrics import Metrics, Restore, Snapshot, Standing
from odradek_runtime.core.records.dead_letter import letters
from odradek_runtime.core.records.request import Answer, Question, Reply, Request, unheard
from odradek_runtime.core.shard import Shard
from odradek_runtime.core.topics.targets import PRODUCER_BYTES, Targets
from odradek_runtime.log.port import Log, LogError, Losing, Partition, TopicInfo
from odradek_runtime.store.store import StoreError, StoreMemory
from odradek_runtime.store.store_folder import MemoryStores, StoreFolder, Stores, stores_of
from odradek_runtime.worker.engine.engine import Engine, Input
from odradek_runtime.worker.engine.rereader import ThreadedRereader
from odradek_runtime.worker.restore.internal import Internal
from odradek_runtime.worker.restore.ownership import Ownership, Restored
from odradek_runtime.worker.restore.startup import Making, prepare
from odradek_runtime.worker.restore.takeover import Takeover
from odradek_runtime.worker.steps.executor import StepExecutor
from odradek_runtime.worker.upkeep.census import Census
from odradek_runtime.worker.upkeep.housekeeping import Housekeeping
from odradek_runtime.worker.upkeep.roll import Roll
from odradek_runtime.worker.upkeep.upkeep import Upkeep

from .reachability import Reachability
from .watchdog import Watchdog
from .withdrawal import Withdrawal

logger = logging.getLogger("odradek")

EMBEDDED_EPOCH_BYTES = 4 * 1024 * 1024
"""Of the embedded log: the library holds the interpreter's lock while it takes a commit, and no probe is answered meanwhile."""


def _nothing() -> None:
    """Nobody wants to know."""


class Worker:
    """Runs an app on a log.

    Args:
        app: what to run.
        log: an open log; the caller closes it after `stop`.
        settings: bounds and directories.
        url: where peers reach this worker over HTTP (its private URL).
        in_memory: keep the stores in memory (tests).
        clock: what time it is, and how it passes.

    `start` raises StartupError when the app does not fit the log, LogError when the log cannot be reached.
    """

    def __init__(
        self,
        app: App,
        log: Log,
        settings: Settings,
        *,
        url: str | None = None,
        in_memory: bool = False,
        clock: Clock = SYSTEM,
    ) -> None:
        self.app = app
        self.metrics = Metrics()
        self.shards = 0
        self.failed: Exception | None = None
        self.upkeep: Upkeep | None = None
        self._log = log
        self._settings = settings if settings.bootstrap_servers else _in_small_epochs(settings)
        self._url = url
        self._in_memory = in_memory
        self._clock = clock
        self._shares = shares = settings.shares
        self._store_memory = StoreMemory(shares.tables_bytes, shares.blocks_bytes)
        self._queue: queue.SimpleQueue[Input | None] = queue.SimpleQueue()
        self._engine: Engine | None = None
        self._ownership: Ownership | None = None
        self._thread = threading.Thread(target=self._run, name="odradek-engine", daemon=True)
        self._stopping = threading.Event()
        self._let_go = threading.Event()
        self._left = threading.Event()
        self._way_out = threading.Lock()
        self._stopped = False
        self._withdrawal = Withdrawal(self._leave, self._fail)
        self._turns = 0
        """Of the engine's loop: odd while it works, even while it waits."""
        self._watchdog = Watchdog(self._thread, lambda: self._turns, self.metrics, settings.handler_stall_s)

    def start(self, prepared: Callable[[], None] = _nothing) -> None:
        """Check and create topics, join the group, begin to work. Returns before the shards are restored (see `ready`).

        `prepared` is called when the topics are as they must be, before others learn of this worker.
        """
        create = not self._settings.bootstrap_servers
        stores = None if self._in_memory else stores_of(self._settings.data_dir, self.app.name)
        largest = self._settings.max_record_bytes
        making: Making = "inputs" if create else "all" if self._settings.create_topics else "nothing"
        self.shards = prepare(self.app, self._log, make=making, stores=stores, max_record_bytes=largest)
        internal = self._internal = Internal.look(self._log, self.app.name)
        prepared()
        self._member = self._log.member(self.app.name, self.shards, self._url)
        self._executor = StepExecutor(
            self._queue.put,
            running=self._settings.steps_running,
            threads=self._settings.step_threads,
            results_bytes=self._shares.results_bytes,
        )
        self._executor.start(partial(self.app.lifespan, self.app) if self.app.lifespan is not None else None)
        absent = self._create if create else None
        producer_bytes = int(self._settings.kafka.get("message.max.bytes", PRODUCER_BYTES))
        targets = Targets(
            self._log, max_record_bytes=largest, absent=absent, letters=letters(self.app), producer_bytes=producer_bytes
        )
        machine = Machine(self.app, self.shards, self._settings, targets, self.metrics, handler_loop())
        machine.sizes.learn(letters(self.app), self._clock.steady_ms())
        self._stores: Stores = MemoryStores() if stores is None else StoreFolder(stores, self._store_memory)
        self._stores.sweep()
        takeover = Takeover(
            self.app.name,
            self.shards,
            self._log,
            self._member,
            self.app.subscriptions(),
            self._stores,
            internal,
            restored_topics=self._settings.restored_topics,
        )
        self._ownership = Ownership(takeover, self._queue.put, self._fail, self._background, self._pause, self._clock.wall_ms)
        rereader = ThreadedRereader(self._log, self._queue.put, self._stopping)
        engine = Engine(machine, self._member, self._executor, self._ownership, self._settings, self._clock, rereader)
        self._reachability = Reachability(self._log.ping, engine, self._ownership, self._stopping)
        self._engine = engine
        roll = Roll(self.app.name, lambda: here(engine), self._clock, self._stopping)
        self.upkeep = Upkeep(engine, self._ownership, self._stores, self._log, takeover, self._queue.put, self._stopping, roll)
        self._census = Census(lambda: here(engine), self._clock, self._stopping)
        self._housekeeping = Housekeeping(self._log, self._engine, self._stopping, internal, self._settings.topics_watch_s)
        self._thread.start()
        self._watchdog.start()
        self._housekeeping.start()
        self._census.start()
        self._reachability.start()
        self._member.join(self._queue.put)

    def stop(self) -> None:
        """Finish the epoch, hand the shards over, leave the group. Blocks; safe to call twice, or before `start`."""
        ownership = self._ownership
        self._withdrawal.stop()
        if self._engine is None or ownership is None or self._stopped:
            return
        self._stopped = True
        self._leave()
        if self._thread.is_alive():
            self._thread.join(30.0)
        self._watchdog.stop()
        self._housekeeping.join()
        self._census.join()
        self._reachability.join()
        if self.upkeep is not None:
            self.upkeep.join()
        self._executor.stop()
        for number in ownership.numbers:
            ownership.give_up(number)  # an engine that died has not closed its stores
        self._close_unaccepted()

    def _close_unaccepted(self) -> None:
        """Shards whose restore was over when the engine died: nobody else closes their stores."""
        while not self._queue.empty():
            event = self._queue.get()
            if isinstance(event, Restored):
                event.shard.store.close()

    def _leave(self) -> None:
        """Finish the epoch, hand the shards over, leave the group. Blocks; whoever comes second waits for the first."""
        with self._way_out:
            if self._left.is_set():
                return
            self._stopping.set()
            self._queue.put(None)
            self._let_go.wait(30.0)
            self._member.leave()
            self._left.set()
            self._queue.put(None)

    def ask(self, request: Request, answer: Answer, accepted: Callable[[], None] = unheard) -> None:
        """Post a request; `answer` is called once, in the engine's thread. "moved" when its shard is not here.

        `accepted` is called before that if the invocation is durable and has not ended yet.
        """
        if self._stopping.is_set() or self.failed is not None:
            answer(Reply("moved", request.invocation_id))
            return
        self._queue.put(Question(request, answer, accepted))

    def owns(self, shard: int) -> bool:
        """Whether the shard is this worker's now (restored or not)."""
        return self._ownership is not None and self._ownership.owns(shard)

    @property
    def ready(self) -> bool:
        """True when it has joined and every owned shard (there may be none) is restored."""
        engine, ownership = self._engine, self._ownership
        if engine is None or ownership is None or self.failed is not None or self._withdrawal.reason:
            return False
        return engine.flags.joined and not ownership.restoring and not self.log_trouble and not self.metrics.stalled_by

    @property
    def log_trouble(self) -> str:
        """Why the log cannot be used now; empty while it answers."""
        return self._reachability.trouble if self._engine is not None else ""

    def trouble_of(self, shard: int) -> str:
        """Why this shard, which is this worker's, cannot be used now; empty while it can, or soon will."""
        return self.log_trouble or (self._reachability.stuck.get(shard, "") if self._engine is not None else "")

    def snapshot(self) -> Snapshot:
        """What it holds at this moment; safe from any thread, each figure read by itself."""
        engine, ownership = self._engine, self._ownership
        if engine is None or ownership is None:
            return {}
        machine = engine.machine
        restoring: dict[int, Restore] = {
            number: {"done_records": p.done_records, "total_records": p.total_records, "trouble": p.trouble}
            for number, p in ownership.restoring.items()
        }
        return {
            "shards_owned": ownership.numbers,
            "restoring": restoring,
            "withdrawn": self._withdrawal.reason,
            "log_trouble": self.log_trouble,
            "stalled": _stalled(self.metrics),
            "lag_records": self._housekeeping.lag.records,
            "lag_seconds": self._housekeeping.lag.seconds,
            "standing": self._standing(engine, ownership),
            "in_flight": len(machine.living),
            "coroutines_cached": len(machine.cache),
            "inputs_paused": engine.flags.paused,
            "refused": [found[:2] for found in machine.targets.unavailable.refusals.current(machine.steady_ms)],
            "held_bytes": {
                "suspended": machine.cache.held_bytes,
                "steps": self._executor.load_bytes,
                "results": self._executor.results_bytes,
                "tables": self._store_memory.tables.get_usage(),
                "blocks": self._store_memory.blocks.get_usage(),
            },
            "queues": {"steps": self._executor.load, "limited": machine.limits.backlog, "events": self._queue.qsize()},
        }

    def _standing(self, engine: Engine, ownership: Ownership) -> Standing:
        """Of the shards that are ours, those that are being restored anew included: what they held is what they will hold."""
        leaving = {number for number, shard in list(engine.machine.shards.items()) if shard.phase == "leaving"}
        stamps = {number: stamp for number, stamp in ownership.stamps.items() if number not in leaving}
        return self._census.standing(stamps, engine.machine.handlers)

    def replay_rows(self) -> dict[int, dict[bytes, bytes]]:
        """Shard -> what its journal says of replays, as it is committed; safe from any thread."""
        shards = here(self._engine) if self._engine is not None else []
        return {shard.number: dict(list(shard.replay_rows.items())) for shard in shards if shard.phase == "open"}

    def positions(self) -> dict[Partition, int]:
        """Next offset to read of every partition that is read here."""
        return {} if self._engine is None else self._engine.positions()

    def _create(self, topic: str) -> TopicInfo:
        """The embedded log makes the topics that handlers write to."""
        return self._log.create_topic(topic, self.shards, {})

    # --- the engine's thread ---

    def _run(self) -> None:
        engine = self._engine
        assert engine is not None, "start() makes the engine"
        try:
            with inhabited(engine.machine.loop):
                self._loop(engine)
        except BaseException as error:  # the engine cannot go on: the node ends, and its supervisor starts it anew
            if not isinstance(error, LogError):  # that is told as the node ends, and its place in the code says nothing
                logger.exception("the engine has failed")
            failed = error if isinstance(error, Exception) else RuntimeError(f"the engine was ended by {error!r}")
            self.failed = self._internal.cause_of(failed, self._log)
            self._let_go.set()
            self._release_all(engine)
        finally:
            self._let_go.set()

    def _release_all(self, engine: Engine) -> None:
        """The engine is dead: nobody may wait for it, neither the group nor a caller."""
        engine.turn_away()
        while not self._left.is_set():
            event = self._queue.get()
            if isinstance(event, Restored):
                event.shard.store.close()
            elif isinstance(event, Losing):
                event.release()
            elif isinstance(event, Question):
                event.answer(Reply("moved", event.request.invocation_id))

    def _loop(self, engine: Engine) -> None:
        while not self._left.is_set():
            self._take(engine, engine.patience_s())
            engine.turn()
            if engine.flags.fatal:
                raise LogError(engine.flags.fatal, retriable=False)
            if self._stopping.is_set() and not self._let_go.is_set():
                engine.flags.stopping = True
                if engine.idle:
                    engine.let_go()
                    self._let_go.set()
            self._turns += 1

    def _take(self, engine: Engine, patience_s: float) -> None:
        try:
            event = self._queue.get(timeout=patience_s) if patience_s > 0 else self._queue.get_nowait()
        except queue.Empty:
            return
        finally:
            self._turns += 1
        try:
            for _ in range(1_000):
                if event is not None:
                    engine.post(event)
                event = self._queue.get_nowait()
            if event is not None:
                engine.post(event)
        except queue.Empty:
            return

    # --- what runs beside it ---

    def _background(self, work: Callable[[], None]) -> None:
        threading.Thread(target=work, name="odradek-restore", daemon=True).start()

    def _pause(self, seconds: float) -> None:
        self._stopping.wait(seconds)

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, StoreError):
            self.failed = self._internal.cause_of(error, self._log)
            logger.error("%s", self.failed)
        elif self._settings.bootstrap_servers:
            self._withdrawal.begin(error, self._stores)
        else:  # there is no other worker
            logger.error("%s; nothing of this shard is processed until it can be kept, which is tried every few seconds", error)


def here(engine: Engine) -> list[Shard]:
    """The shards that can be read, and are not about to go; safe from any thread."""
    return [shard for shard in list(engine.machine.shards.values()) if shard.phase != "leaving"]


def _stalled(metrics: Metrics) -> str:
    return f"{metrics.stalled_by} has kept the worker's loop for {metrics.stalled_s:.0f} s" if metrics.stalled_by else ""


def _in_small_epochs(settings: Settings) -> Settings:
    return replace(settings, epoch_bytes=min(settings.epoch_bytes, EMBEDDED_EPOCH_BYTES))
