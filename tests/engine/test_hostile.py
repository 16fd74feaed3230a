"""What an enemy of the engine would try: interleavings that lose, double, reorder or block something."""

import asyncio
import threading
from datetime import timedelta

import pytest

from odradek import App, Context, RetryPolicy
from tests.engine.harness import Rig


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
        if not fails or fails[-1] != "handler":
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

    async def long() -> None:
        while not gate.is_set():
            await asyncio.sleep(0.005)

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
