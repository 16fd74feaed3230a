"""Where mechanisms meet: what waits for a topic and goes away, a culprit behind other work, an error that a handler catches."""

import os
from contextlib import suppress

import pytest

from odradek import App, Context, ObjectContext
from odradek_runtime.core.records.request import Invoke, Reply
from odradek_runtime.core.topics import refusals
from odradek_runtime.routing import fresh_id
from odradek_runtime.worker.worker import Worker
from tests.engine.harness import Rig
from tests.engine.test_unavailable import Brokers


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "FIRST_MS", 20.0)
    monkeypatch.setattr(refusals, "LONGEST_MS", 60.0)


def waiting(worker: Worker) -> int:
    assert worker._engine is not None
    return len(worker._engine.machine.targets.unavailable.waiting)


def relay(timeout_s: float | None = None) -> App:
    app = App("relay", shards=4)
    numbers, odd = app.topic("numbers", value=int), app.topic("odd", value=int)
    thing = app.object("thing")

    @thing.on(numbers)
    async def pass_on(ctx: ObjectContext, number: int) -> None:
        ctx.publish(odd, number, key=ctx.key)

    @app.handler(timeout=timeout_s)
    async def put(ctx: Context, number: int) -> str:
        ctx.publish(odd, number)
        return "put"

    return app


def test_what_ends_while_it_waits_for_a_topic_waits_no_longer(rig: Rig) -> None:
    rig.log.create_topic("odd", 1, {})
    Brokers(rig, "odd", told=True)
    rig.start(relay(timeout_s=0.2))
    asked = rig.ask("relay/put", 1)
    rig.until(lambda: waiting(rig.worker) == 1)
    rig.later(1)
    assert asked.reply().status == "failed"
    rig.until(lambda: waiting(rig.worker) == 0)


def test_what_waits_for_a_topic_at_a_shard_that_has_gone_waits_here_no_longer(rig: Rig) -> None:
    rig.log.create_topic("odd", 1, {})
    brokers = Brokers(rig, "odd", told=True)
    first = rig.start(relay(), steps_queued=20)
    rig.publish("numbers", *[(f"k{number}", number) for number in range(40)])
    rig.until(lambda: waiting(first) == 40 and first._engine is not None and first._engine.flags.paused)
    second = rig.start(relay())
    rig.until(lambda: len(first.snapshot().get("shards_owned", [])) == 2)
    brokers.shut = False
    rig.until(lambda: sorted(rig.values("odd")) == list(range(40)))
    rig.until(lambda: waiting(first) == waiting(second) == 0)
    rig.publish("numbers", *[(f"k{number}", 100 + number) for number in range(40)])
    rig.until(lambda: len(rig.values("odd")) == 80)


@pytest.mark.parametrize("then", ["returns", "waits", "raises"])
def test_a_handler_that_catches_whatever_publish_raises_loses_nothing(rig: Rig, then: str) -> None:
    app = App("relay", shards=1)
    odd = app.topic("odd", value=int)

    @app.handler
    async def put(ctx: Context, number: int) -> str:
        with suppress(Exception):
            ctx.publish(odd, number)
        if then == "waits":
            await ctx.sleep(0.01)
        if then == "raises":
            with suppress(Exception):
                ctx.publish(odd, number)
        return "put"

    rig.log.create_topic("odd", 1, {})
    brokers = Brokers(rig, "odd", told=True)
    rig.start(app)
    asked = rig.ask("relay/put", 1)
    rig.until(lambda: waiting(rig.worker) == 1 or asked.replies)
    assert not asked.replies
    brokers.shut = False
    assert asked.value() == "put"
    assert rig.values("odd") == ([1, 1] if then == "raises" else [1])


def test_an_app_that_is_called_before_its_first_start_can_start_and_is_told(rig: Rig) -> None:
    app, other = App("relay", shards=1), App("other", shards=1)
    told: list[int] = []

    @app.handler
    async def tell(ctx: Context, number: int) -> str:
        ctx.send("other/other/hear", number)
        await ctx.sleep(0.01)
        return "told"

    @other.handler
    async def hear(ctx: Context, number: int) -> None:
        told.append(number)

    rig.start(app)
    asked = rig.ask("relay/tell", 1)
    rig.until(lambda: rig.worker.metrics.retries or asked.replies)
    rig.start(other)
    assert asked.value() == "told"
    rig.until(lambda: told == [1])


@pytest.mark.parametrize("where", ["a record", "a timer"])
def test_a_culprit_is_found_though_other_work_is_always_due(rig: Rig, where: str) -> None:
    app = App("relay", shards=2)
    numbers, odd = app.topic("numbers", value=int), app.topic("odd", value=int)
    thing = app.object("thing")

    @thing.on(numbers)
    async def pass_on(ctx: ObjectContext, number: int) -> None:
        if where == "a timer":
            await ctx.sleep(0.01)
        ctx.publish(odd, number, key=ctx.key)

    @app.handler
    async def idle(ctx: Context) -> None:
        return

    rig.log.create_topic("odd", 1, {})
    rig.log.judge = lambda t: "poison" if any(o[0] == "odd" and o[3] == b"666" for o in t.outputs) else "pass"
    rig.start(app)
    rig.publish("numbers", *[(f"k{number % 7}", number) for number in range(50)], ("k1", 666), ("k1", 50))
    over: list[bool] = []

    def again(_: Reply) -> None:
        if not over:
            rig.worker.ask(Invoke(fresh_id(None, os.urandom(12)), "relay/idle", b"", b"", {}, wait=True), again)

    for _ in range(200):
        again(Reply("completed", ""))
    try:
        rig.until(lambda: len(rig.dead_letters(app)) == 1 and len(rig.values("odd")) == 51)
    finally:
        over.append(True)
