"""What an enemy of the engine would try: interleavings that lose, double, reorder or block something."""

import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest

from odradek import App, Context, RetryPolicy
from odradek_runtime.core import timers
from odradek_runtime.core.records.formats import COMMAND
from odradek_runtime.core.records.request import Invoke
from odradek_runtime.core.topics.targets import Targets
from odradek_runtime.log.port import Gained, Log, Losing, Partition, TopicInfo, Transaction
from odradek_runtime.routing import fresh_id
from odradek_runtime.worker.engine.engine import STRIDES, Engine
from odradek_runtime.worker.restore.ownership import Restored
from tests.engine.faults import Verdict, innocent
from tests.engine.harness import PATIENCE_S, Rig


class Weather(Exception):
    """Something that passes."""


@pytest.mark.parametrize("crash", [False, True], ids=["alone", "crash"])
def test_a_step_whose_time_comes_while_its_invocation_backs_off_runs_later(rig: Rig, crash: bool) -> None:
    app = App("aside", shards=1)
    fails: list[str] = []
    gate = threading.Event()

    async def shaky() -> str:
        fails.append("step")
        if crash and not gate.is_set():
            raise Weather
        if len(fails) == 1:
            raise Weather
        return "there"

    @app.handler(retry=RetryPolicy(initial=1 if crash else 0.4, factor=1.0))
    async def one(ctx: Context) -> str:
        slow = ctx.run(shaky, retry=RetryPolicy(initial=0.05, factor=1.0, max_delay=0.05))
        await ctx.sleep(timedelta(milliseconds=20))
        if "handler" not in fails:
            fails.append("handler")
            raise Weather
        return await slow

    rig.start(app)
    asked = rig.ask("aside/one")
    if crash:
        rig.until(lambda: "handler" in fails)
        rig.until(lambda: [i.status for i in rig.invocations(app)] == ["backing_off"])
        rig.crash()
        gate.set()
        rig.start(app)
        asked = rig.attach(asked.id)
    assert asked.value() == "there"


def test_a_timeout_while_backing_off_is_the_end(rig: Rig) -> None:
    app = App("over", shards=1)
    runs: list[int] = []

    @app.handler(timeout=0.3, retry=RetryPolicy(initial=0.5, factor=1.0))
    async def one(ctx: Context) -> str:
        runs.append(1)
        if len(runs) == 1:
            raise Weather
        return "too late"

    rig.start(app)
    asked = rig.ask("over/one")
    reply = asked.reply()
    assert reply.failure is not None and reply.failure.code == 504
    rig.later(5)
    rig.call("over/one")  # the timers that were due before have fired
    assert len(runs) == 2
    again = rig.attach(asked.id).reply()
    assert again.failure is not None and again.failure.code == 504


def test_a_timeout_of_a_step_leaves_nothing_that_runs_it_again(rig: Rig) -> None:
    app = App("cut", shards=1)
    runs: list[int] = []
    gate = threading.Event()

    def long() -> None:
        gate.wait(PATIENCE_S)

    @app.handler(timeout=0.2)
    async def one(ctx: Context) -> str:
        runs.append(1)
        await ctx.run(long, name="long")
        return "done"

    rig.start(app)
    asked = rig.ask("cut/one")
    reply = asked.reply()
    assert reply.failure is not None and reply.failure.code == 504
    before = len(runs)
    rig.crash()
    gate.set()
    rig.start(app)
    again = rig.attach(asked.id).reply()
    assert again.failure is not None and again.failure.code == 504
    assert len(runs) == before


def test_what_waits_under_a_limit_begins_when_the_shard_of_what_runs_has_gone(rig: Rig) -> None:
    app = App("moved", shards=2)
    gate = threading.Event()
    begun: list[int] = []

    def held(number: int) -> int:
        begun.append(number)
        gate.wait(PATIENCE_S)
        return number

    @app.handler(concurrency=1)
    async def one(ctx: Context, number: int) -> int:
        return await ctx.run(held, number)

    rig.start(app)
    runs, waits = (_on_shard(shard, "moved/one", str(shard).encode()) for shard in (1, 0))  # the higher one will move
    rig.post(runs)
    rig.until(lambda: begun == [1])
    asked = rig.post(waits)
    rig.until(lambda: [i.status for i in rig.invocations(app) if i.id == waits.invocation_id] == ["scheduled"])
    rig.start(app)
    rig.until(lambda: 0 in begun)
    gate.set()
    assert asked.value() == 0


def test_a_shard_that_comes_back_before_it_was_let_go_of_is_taken_again(rig: Rig) -> None:
    app = App("back", shards=1)
    released = threading.Event()

    @app.handler
    async def one(ctx: Context) -> str:
        return "here"

    worker = rig.start(app)
    rig.settled(app)

    def interrupt(transaction: Transaction) -> Verdict:
        """The group did not wait for the release: its next word is in the queue before the epoch has ended."""
        rig.log.judge = innocent
        worker._queue.put(Losing((0,), False, released.set))
        worker._queue.put(Gained(dict(transaction.stamps)))
        return "pass"

    rig.log.judge = interrupt
    rig.ask("back/one")
    assert released.wait(PATIENCE_S)
    rig.until(lambda: worker.owns(0))
    assert rig.call("back/one") == "here"


def test_a_shard_that_leaves_while_it_opens_is_not_opened(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    app = App("late", shards=1)
    released = threading.Event()

    @app.handler
    async def one(ctx: Context) -> str:
        return "here"

    accept = Engine._restored
    opened: list[int] = []

    def overtaken(engine: Engine, event: Restored) -> None:
        engine.post(Losing((0,), False, released.set))
        accept(engine, event)
        opened.extend(engine.machine.shards)

    monkeypatch.setattr(Engine, "_restored", overtaken)
    worker = rig.begin(app)
    assert released.wait(PATIENCE_S)
    rig.until(lambda: not worker.owns(0))
    assert opened == []


def test_every_shard_waits_for_a_barrier_when_one_is_gained(rig: Rig) -> None:
    """What the former owner sent to the shards that are here already may still be unread: nothing may overtake it."""
    app = App("order", shards=2)

    @app.handler
    async def one(ctx: Context) -> None:
        """Only its shards matter."""

    rig.start(app)
    rig.start(app)
    rig.settled(app)

    def barriers() -> int:
        commands = [COMMAND.decode(m.value() or b"") for m in rig.partition("order.commands", 0)]
        return len([command for command in commands if command.kind == "barrier"])

    before = barriers()
    rig.stop()  # its shard, 1, comes back to the worker that kept 0
    rig.until(lambda: rig.worker.owns(1))
    rig.until(lambda: rig.worker.ready)
    rig.settled(app)
    assert barriers() > before


def test_attached_callers_outlive_a_crash(rig: Rig) -> None:
    app = App("attach", shards=2)
    gate = threading.Event()

    def held() -> str:
        gate.wait(PATIENCE_S)
        return "told"

    @app.handler
    async def work(ctx: Context) -> str:
        return await ctx.run(held)

    @app.handler
    async def ask(ctx: Context) -> str:
        return await ctx.call(work, idempotency_key="the same")

    rig.start(app)
    asked = [rig.ask("attach/ask", wait=False) for _ in range(3)]
    rig.until(lambda: len([key for key in rig.journal(app) if key[:1] == b"a"]) == 2)
    rig.crash()
    gate.set()
    rig.start(app)
    assert [rig.attach(each.id).value() for each in asked] == ["told"] * 3
    assert [key for key in rig.journal(app) if key[:1] == b"a"] == []


def test_the_result_of_a_step_nobody_waited_for_is_not_another_invocations(rig: Rig) -> None:
    app = App("again", shards=1)
    gates = [threading.Event(), threading.Event()]
    runs: list[int] = []

    def slow() -> int:
        number = len(runs)
        runs.append(number)
        gates[number].wait(PATIENCE_S)
        return number

    @app.handler(idempotency_retention=timedelta(seconds=1))
    async def one(ctx: Context, leaves: bool) -> int:
        result = ctx.run(slow)
        await ctx.sleep(timedelta(milliseconds=5))
        return -1 if leaves else await result

    rig.start(app)
    assert rig.ask("again/one", True, idempotency_key="x").value() == -1
    rig.until(lambda: runs == [0])
    rig.later(3)
    rig.until(lambda: rig.invocations(app) == [])
    asked = rig.ask("again/one", False, idempotency_key="x")
    rig.until(lambda: runs == [0, 1])
    gates[0].set()
    rig.until(lambda: rig.worker.snapshot().get("queues", {}).get("steps") == 1)
    rig.later(1)
    gates[1].set()
    assert asked.value() == 1


def _on_shard(shard: int, target: str, payload: bytes) -> Invoke:
    """A request for an unkeyed handler that runs at this shard."""
    return Invoke(fresh_id(None, os.urandom(12), hash_=shard), target, b"", payload, {}, True)


def test_an_epoch_is_bounded_by_what_its_records_make_too(rig: Rig) -> None:
    app = App("wide", shards=1)
    small, large = app.topic("small", value=bytes), app.topic("large", value=bytes)

    @app.on(small)
    async def widen(ctx: Context, value: bytes) -> None:
        ctx.publish(large, b"x" * 10_000)

    rig.start(app, epoch_bytes=100_000, epoch_linger_s=2.0)
    rig.publish("small", *[(None, b"1")] * 1_000)
    rig.until(lambda: len(rig.records("large")) == 1_000)
    assert max(len(t.outputs) for t in rig.log.transactions) <= 10 + STRIDES[0]


def test_what_waits_under_a_limit_begins_once_though_its_timer_is_loaded_late(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App("once", shards=1)
    runs: list[int] = []
    gate = threading.Event()

    def work(number: int) -> None:
        runs.append(number)
        gate.wait(PATIENCE_S)

    @app.handler(concurrency=1)
    async def one(ctx: Context, number: int) -> None:
        await ctx.run(work, number)

    def ask(numbers: range) -> None:
        for number in numbers:
            rig.ask("once/one", number, wait=False).reply()

    rig.start(app)
    ask(range(30))
    rig.crash()
    runs.clear()
    monkeypatch.setattr(timers, "REFILL", 2)
    rig.start(app, epoch_events=2)
    ask(range(30, 60))
    gate.set()
    rig.until(lambda: len(set(runs)) == 60)
    rig.settled(app)
    rig.until(lambda: {i.status for i in rig.invocations(app)} == {"completed"})
    assert sorted(runs) == list(range(60))


def test_a_target_that_has_gone_is_looked_up_again_and_dead_letters_are_made_again(rig: Rig) -> None:
    rig.log.create_topic("there", 1, {})
    gone: set[str] = set()

    class Shrinking:
        """The log, without the topics that are gone."""

        def topic(self, name: str) -> TopicInfo | None:
            return None if name in gone else rig.log.topic(name)

        def create_topic(self, name: str, partitions: int, config: Mapping[str, str]) -> TopicInfo:
            gone.discard(name)
            return rig.log.create_topic(name, partitions, config)

    targets = Targets(cast("Log", Shrinking()), max_record_bytes=1000, letters=["app.dead-letters"])
    targets.check("there", None, b"1", None, None, None, 0.0, 0.0)
    gone.update({"there", "app.dead-letters"})
    targets.renew(2)
    with pytest.raises(LookupError):
        targets.check("there", None, b"1", None, None, None, 0.0, 0.0)
    assert rig.partitions("app.dead-letters") == 2
    gone.clear()
    targets.check("there", None, b"1", None, None, None, 2000.0, 2000.0)


def test_partitions_that_are_added_are_noticed_and_read_from_their_first_record(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App("grow", shards=1)
    few = app.topic("few", value=int)
    seen: list[int] = []

    @app.on(few, start="latest")
    async def see(ctx: Context, value: int) -> None:
        seen.append(value)

    rig.log.create_topic("few", 2, {})
    whole = rig.log.topic
    two = rig.log.topic("few")
    assert two is not None
    one = replace(two, partitions=1)
    monkeypatch.setattr(rig.log, "topic", lambda name: one if name == "few" else whole(name))
    worker = rig.start(app)
    rig.publish("few", (None, 0), partition=0)
    rig.until(lambda: 0 in seen)
    assert worker._housekeeping.changed() == ([], [])
    rig.publish("few", (None, 1), partition=1)
    monkeypatch.setattr(rig.log, "topic", whole)
    assert worker._housekeeping.changed() == ([Partition("few", 1)], [])
    worker._housekeeping.look_at_inputs()
    rig.until(lambda: set(seen) == {0, 1})  # an epoch that was open is run again
