"""asyncio.sleep, loop.time, call_later: durable timers, by the clock of the journal."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from odradek import Context
from tests.engine.asyncio.handlers import after, app_of, nap, outcome
from tests.engine.harness import Rig


def test_it_takes_its_time_and_gives_its_result(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        before = ctx.now()
        given = await asyncio.sleep(3600, "slept")
        return [given, (ctx.now() - before).total_seconds()]

    given, took = outcome(rig, body, passing_s=600)
    assert given == "slept"
    assert 3600 <= took < 4900


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "crashed"])
def test_it_outlives_the_worker(disk_rig: Rig, crash: bool) -> None:
    async def body(ctx: Context) -> Any:
        await after(1)
        await asyncio.sleep(3600)
        return "woken"

    rig, app = disk_rig, app_of(body)
    rig.start(app)
    asked = rig.ask("aio/go")
    rig.until(lambda: any(key[:1] == b"t" and key[1:9] > b"\0" * 8 for key in rig.journal(app)))
    rig.restart(app, crash=crash)
    rig.later(3599 if rig.settings.coroutine_cache else 3590)
    asked = rig.attach(asked.id)
    assert rig.call("aio/echo", 1) == 1
    assert asked.replies == []
    rig.later(20)
    assert asked.value() == "woken"


def test_a_sleep_of_nothing_lets_the_others_run(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        noted: list[str] = []

        async def other() -> None:
            noted.append("other")
            await asyncio.sleep(0)
            noted.append("other again")

        task = asyncio.create_task(other())
        noted.append("main")
        await asyncio.sleep(0)
        noted.append("main again")
        await task
        return noted

    assert outcome(rig, body) == ["main", "other", "main again", "other again"]


def test_sleeps_end_in_the_order_of_their_times(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        ended: list[int] = []

        async def one(s: int) -> None:
            await asyncio.sleep(s)
            ended.append(s)
            await after(1)

        await asyncio.gather(*(one(s) for s in (30, 10, 20, 40)))
        return ended

    assert outcome(rig, body, passing_s=4) == [10, 20, 30, 40]


def test_the_loop_has_the_time_of_the_journal(rig: Rig) -> None:
    seen: list[list[float]] = []

    async def body(ctx: Context) -> Any:
        loop = asyncio.get_running_loop()
        times = [loop.time()]
        for _ in range(3):
            await nap(10)
            times.append(loop.time())
        seen.append(times)
        return times

    times = outcome(rig, body, passing_s=2)
    assert all(10 <= b - a < 16 for a, b in pairwise(times)), times
    assert all(again == times for again in seen)


def test_a_callback_that_was_called_off_is_not_called(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        loop, called = asyncio.get_running_loop(), list[str]()
        at_once = loop.call_later(1_000, called.append, "at once")
        at_once.cancel()
        later = loop.call_later(15, called.append, "later")
        kept = loop.call_at(loop.time() + 20, called.append, "kept")
        await asyncio.sleep(10)
        later.cancel()
        await after(1)
        await asyncio.sleep(15)
        return [called, at_once.cancelled(), later.cancelled(), kept.cancelled()]

    assert outcome(rig, body, passing_s=2) == [["kept"], True, True, False]


def test_a_sleep_without_end_ends_when_it_is_cancelled(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        task = asyncio.create_task(asyncio.sleep(float("inf")))
        await asyncio.sleep(0.01)
        task.cancel("enough")
        try:
            await task
        except asyncio.CancelledError as error:
            return str(error)

    assert outcome(rig, body) == "enough"
