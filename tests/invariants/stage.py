"""The engine on a stage: every event and every commit at the moment that the test chooses, on a real embedded log.

Stands where the worker's thread stands. Commits are held until `let_through` or `refuse`; events wait in a queue until the
test lets the engine hear them; the clock is the test's.
"""

from __future__ import annotations

import os
import queue
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from odradek import App
from odradek_runtime.clock import Clock
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.core.epoch import StepRun
from odradek_runtime.core.handler_loop import handler_loop, inhabited
from odradek_runtime.core.machine import Machine
from odradek_runtime.core.metrics import Metrics
from odradek_runtime.core.records.request import Attach, Invoke, Question, Reply, unheard
from odradek_runtime.core.topics.targets import Targets
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.embedded.member import EmbeddedMember
from odradek_runtime.log.port import Committed, Event, Message, Output, Partition, Records, Refused, Sink, TopicInfo, Transaction
from odradek_runtime.routing import fresh_id
from odradek_runtime.store.store_folder import MemoryStores, StoreFolder
from odradek_runtime.worker.engine.engine import Engine, Input
from odradek_runtime.worker.engine.rereader import RereaderAtOnce
from odradek_runtime.worker.restore.ownership import Ownership
from odradek_runtime.worker.restore.startup import prepare
from odradek_runtime.worker.restore.takeover import Takeover
from odradek_runtime.worker.steps.executor import StepEnded, StepsEnded
from tests.records import committed

PATIENCE_S = 15.0


class StageMember:
    """A member whose commits wait for the test."""

    def __init__(self, inner: EmbeddedMember) -> None:
        self._inner = inner
        self.lies: dict[int, Refused] = {}
        self.held: Transaction | None = None
        self.sent: list[Transaction] = []
        self.reads: list[Mapping[Partition, int]] = []
        self.paused: set[Partition] = set()
        self.posted_records = 0

    def join(self, sink: Sink) -> None:
        def hear(event: Event) -> None:
            if isinstance(event, Records):
                self.posted_records += len(event.messages)
                for part in by_topic(event):
                    sink(part)
                return
            lie = self.lies.get(event.epoch) if isinstance(event, Committed) else None
            sink(event if lie is None else lie)

        self._inner.join(hear)

    def read(self, positions: Mapping[Partition, int], generation: int) -> None:
        self.reads.append(dict(positions))
        self.paused.difference_update(positions)
        self._inner.read(positions, generation)

    def stop_reading(self, partitions: Sequence[Partition]) -> None:
        self._inner.stop_reading(partitions)

    def pause(self, partitions: Sequence[Partition]) -> None:
        self.paused.update(partitions)
        self._inner.pause(partitions)

    def resume(self, partitions: Sequence[Partition]) -> None:
        self.paused.difference_update(partitions)
        self._inner.resume(partitions)

    def commit(self, transaction: Transaction) -> None:
        assert self.held is None, "the engine sent an epoch before the last one had ended"
        self.held = transaction
        self.sent.append(transaction)

    def take(self) -> Transaction:
        """The commit that is held; from now on another one may come."""
        assert self.held is not None, "nothing is being committed"
        taken, self.held = self.held, None
        return taken

    def let_through(self) -> None:
        self._inner.commit(self.take())

    def settle(self, shard: int) -> int | None:
        return self._inner.settle(shard)

    def evict(self) -> None:
        self._inner.evict()

    def leave(self) -> None:
        self._inner.leave()


def by_topic(records: Records) -> list[Records]:
    """A batch as one batch per topic, so that a test can hold one of them back."""
    parts: dict[str, list[Message]] = {}
    for message in records.messages:
        parts.setdefault(message.topic(), []).append(message)
    waiting = set(parts)

    def taken(topic: str) -> None:
        waiting.discard(topic)
        if not waiting:
            records.taken()

    return [Records(part, records.generation, partial(taken, topic)) for topic, part in parts.items()]


def of_topic(topic: str) -> Callable[[Input], bool]:
    """For `deaf`: the batches of this topic."""
    return lambda event: isinstance(event, Records) and event.messages[0].topic() == topic


@dataclass
class IdleExecutor:
    """Runs nothing; shows what it was given."""

    submitted: list[StepRun] = field(default_factory=list[StepRun])
    load: int = 0
    load_bytes: int = 0

    def submit(self, runs: Sequence[StepRun]) -> None:
        self.submitted.extend(runs)

    def took(self, event: StepEnded) -> None:
        """Results have no bound here."""


class Stage:
    """One engine of an app. `deaf`: events for which it holds stay in the queue."""

    def __init__(self, app: App, log: EmbeddedLog, directory: Path | None = None, **settings: Any) -> None:
        self.app, self.log, self.directory = app, log, directory
        self.now_ms = time.time() * 1000
        """The wall clock; `later` lets time pass by both."""
        self.steady_ms = 0.0
        self.shards = prepare(app, log, make="inputs")
        self.member = StageMember(log.member(app.name, self.shards, None))
        self.letters = Partition(f"{app.name}.dead-letters", 0)
        self.executor = IdleExecutor()
        self.deaf: Callable[[Input], bool] = lambda _: False
        self._queue: queue.SimpleQueue[Input] = queue.SimpleQueue()
        self._kept: deque[Input] = deque()
        self._failures: list[Exception] = []
        self.asked: list[str] = []
        """The ids of what `ask` has posted."""
        merged = replace(Settings(epoch_linger_s=0.0), **settings)
        targets = Targets(log, max_record_bytes=merged.max_record_bytes, absent=self._created)
        self.machine = Machine(app, self.shards, merged, targets, Metrics(), handler_loop())
        stores = MemoryStores() if directory is None else StoreFolder(directory / "store" / app.name)
        takeover = Takeover(app.name, self.shards, log, self.member, app.subscriptions(), stores)
        self.ownership = Ownership(
            takeover, self._queue.put, self._failures.append, lambda work: work(), lambda _: None, self._wall
        )
        clock = Clock(self._wall, lambda: self.steady_ms)
        rereader = RereaderAtOnce(log, self._queue.put)
        self.engine = Engine(self.machine, self.member, self.executor, self.ownership, merged, clock, rereader)
        self.member.join(self._queue.put)

    def _created(self, topic: str) -> TopicInfo | None:
        return None if topic.startswith("gone") else self.log.create_topic(topic, self.shards, {})

    def _wall(self) -> float:
        return self.now_ms

    def later(self, ms: float) -> None:
        """Let time pass."""
        self.now_ms += ms
        self.steady_ms += ms

    # --- time and events ---

    def turn(self) -> None:
        """Let the engine hear what it may, and do what it can, once."""
        waiting, self._kept = self._kept, deque()
        while True:
            try:
                waiting.append(self._queue.get_nowait())
            except queue.Empty:
                break
        with self.engine_loop():
            for event in waiting:
                if self.deaf(event):
                    self._kept.append(event)
                else:
                    self.engine.post(event)
            self.engine.turn()
        assert self._failures == []

    @contextmanager
    def engine_loop(self) -> Generator[None]:
        with inhabited(self.machine.loop):  # as the worker's thread has it
            yield

    def until(self, condition: Callable[[], object], *, commits: bool = True) -> None:
        """Go on until it holds; `commits`: let every commit through on the way."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"still not so after {PATIENCE_S} s"
            if commits and self.member.held is not None:
                self.member.let_through()
            self.turn()
            time.sleep(0.001)

    def open(self) -> Stage:
        """Own every shard, with all barriers read back, and nothing under way."""
        self.until(lambda: len(self.machine.shards) == self.shards and self.quiet)
        return self

    @property
    def quiet(self) -> bool:
        return all(shard.local for shard in self.machine.shards.values()) and self.engine.idle and self.member.held is None

    def held(self) -> Transaction:
        """Go on until a commit is sent; it is held."""
        self.until(lambda: self.member.held is not None, commits=False)
        assert self.member.held is not None
        return self.member.held

    def let_through(self) -> None:
        """The held commit happens; go on until the engine has heard of it."""
        epoch = self.held().epoch
        self.member.let_through()
        self.until(lambda: self.engine.inflight is None or self.engine.inflight.number > epoch, commits=False)

    def refuse(
        self, reason: Literal["fenced", "aborted", "unknown"] = "aborted", *, applied: bool = False, poison: bool = False
    ) -> None:
        """The held commit fails; `applied`: though in truth it has happened."""
        epoch = self.held().epoch
        refused = Refused(epoch, reason, "a test refuses it", poison)
        if applied:
            self.member.lies[epoch] = refused
            self.member.let_through()
        else:
            self.member.take()
            self._queue.put(refused)

    def evict(self) -> None:
        """The group has lost patience with this member."""
        self.member.evict()

    def waiting(self, topic: str) -> list[int]:
        """The offsets of this topic that the engine has not been let hear of, as they were delivered."""
        batches = [event for event in self._kept if isinstance(event, Records)]
        return [message.offset() for batch in batches for message in batch.messages if message.topic() == topic]

    # --- what goes in ---

    def publish(self, topic: str, *records: tuple[str, Any], partition: int | None = None) -> None:
        publisher = self.log.publisher(f"test-{os.urandom(4).hex()}")
        publisher.publish([Output(topic, partition, key.encode(), msgspec.json.encode(value)) for key, value in records], 1)
        publisher.close()

    def ask(
        self,
        target: str,
        argument: Any = None,
        *,
        key: str = "",
        replies: list[Reply] | None = None,
        accepted: Callable[[], None] = unheard,
        entropy: bytes | None = None,
    ) -> list[Reply]:
        """Post a request; the list (a new one unless given) fills with its replies."""
        replies = [] if replies is None else replies
        raw = key.encode()
        id_ = fresh_id(raw or None, entropy or os.urandom(12), hash_=0)
        payload = b"" if argument is None else msgspec.json.encode(argument)
        self.asked.append(id_)
        self._queue.put(Question(Invoke(id_, target, raw, payload, {}, True, False, 0), replies.append, accepted))
        return replies

    def attach(self, id_: str) -> list[Reply]:
        """Ask for the end of an invocation that is there; the list fills with the replies."""
        replies: list[Reply] = []
        self._queue.put(Question(Attach(id_, True), replies.append))
        return replies

    def step_ends(self, run: StepRun, value: Any) -> None:
        self._queue.put(StepsEnded([StepEnded(run, msgspec.json.encode(value), None)]))

    def step_fails(self, run: StepRun, error: BaseException) -> None:
        self._queue.put(StepsEnded([StepEnded(run, None, error)]))

    # --- what is there ---

    def values(self, topic: str) -> list[str]:
        """The committed records' values as text, partition by partition."""
        return [value.decode() for value in self.values_raw(topic)]

    def values_raw(self, topic: str) -> list[bytes]:
        return [message.value() or b"" for message in committed(self.log, topic)]

    def position(self, partition: Partition) -> int:
        """How far the engine has processed a partition, committed or not; -1 while its shard is not restored."""
        shard = self.machine.shards.get(partition.partition % self.shards)
        return -1 if shard is None else shard.positions[partition]

    def close(self) -> None:
        with self.engine_loop():
            self.engine.let_go()
        self.member.leave()
