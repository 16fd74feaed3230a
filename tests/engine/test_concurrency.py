"""`concurrency=`: so many invocations of a handler at once, the rest in their order, none forgotten over a restart."""

import asyncio

from odradek import App, Context, ObjectContext, State
from tests.engine.harness import Rig


class Gauge:
    """How many are inside now, and the most there have been."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    def enter(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def leave(self) -> None:
        self.now -= 1


def test_no_more_than_the_limit_run_at_once(rig: Rig) -> None:
    app, gauge = App("narrow", shards=2), Gauge()

    async def work(number: int) -> int:
        gauge.enter()
        await asyncio.sleep(0.01)
        gauge.leave()
        return number

    @app.handler(concurrency=3)
    async def one(ctx: Context, number: int) -> int:
        return await ctx.run(work, number)

    rig.start(app)
    asked = [rig.ask("narrow/one", number) for number in range(20)]
    assert [each.value() for each in asked] == list(range(20))
    assert gauge.most == 3


def test_what_waits_outlives_a_crash(rig: Rig) -> None:
    app = App("patient", shards=1)
    thing, count = app.object("thing"), State("count", int, default=0)
    gate: list[bool] = []

    async def held() -> None:
        if not gate:
            raise OSError("not yet")

    @thing.handler(concurrency=1)
    async def one(ctx: ObjectContext) -> int:
        await ctx.run(held, name="held")
        ctx.set(count, ctx.get(count) + 1)
        return ctx.get(count)

    rig.start(app)
    for number in range(6):
        rig.ask("thing/one", key=f"k{number % 3}", wait=False).reply()
    rig.until(lambda: rig.worker.metrics.retries >= 1)
    rig.crash()
    gate.append(True)
    rig.start(app)
    rig.until(lambda: [rig.state(app, "thing", key, "count") for key in ("k0", "k1", "k2")] == [2, 2, 2])
    rig.until(lambda: rig.invocations(app) == [] or {i.status for i in rig.invocations(app)} == {"completed"})


def test_a_long_queue_under_a_limit_pauses_the_inputs(rig: Rig) -> None:
    app = App("queue", shards=1)
    orders = app.topic("queue-in", value=int)
    gate: list[bool] = []

    @app.handler(concurrency=1)
    async def slow(ctx: Context, number: int) -> None:
        await ctx.run(held, name="held")

    async def held() -> None:
        if not gate:
            raise OSError("not yet")

    @app.on(orders)
    async def each(ctx: Context, number: int) -> None:
        ctx.send(slow, number)

    rig.log.create_topic("queue-in", 1, {})
    rig.start(app, steps_queued=8)
    rig.publish("queue-in", *[(None, number) for number in range(30)])
    rig.until(lambda: rig.worker.snapshot().get("inputs_paused"))
    gate.append(True)
    rig.until(lambda: rig.invocations(app) == [] and not rig.worker.snapshot().get("inputs_paused"))
