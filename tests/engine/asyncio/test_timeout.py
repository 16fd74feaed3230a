"""asyncio.timeout, timeout_at and wait_for: durable deadlines."""

import asyncio
from typing import Any

import pytest

from odradek import Context
from tests.engine.asyncio.handlers import after, app_of, failure, nap, outcome
from tests.engine.harness import Rig


def test_what_takes_too_long_is_cancelled(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        cleaned: list[Any] = []

        async def long() -> None:
            try:
                await asyncio.sleep(10_000)
            finally:
                cleaned.append(await after(1, "cleaned"))

        scope = asyncio.timeout(60)
        try:
            async with scope:
                await long()
        except TimeoutError:
            return [scope.expired(), cleaned]

    assert outcome(rig, body, passing_s=10) == [True, ["cleaned"]]


def test_what_is_done_in_time_is_left_alone_and_the_timer_is_gone(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        async with asyncio.timeout(60):
            value = await after(2, 1)
        await asyncio.sleep(100)
        async with asyncio.timeout(60), asyncio.timeout(30):
            await after(1)
        return value

    assert outcome(rig, body, passing_s=10) == 1


def test_what_was_timed_out_goes_on_and_may_be_awaited_again(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        async def slowly() -> str:
            await asyncio.sleep(0.06)
            return "there"

        slow = ctx.run(slowly)
        tries = 0
        while True:
            try:
                async with asyncio.timeout(0.02):
                    return [await slow, tries > 0]
            except TimeoutError:
                tries += 1

    assert outcome(rig, body) == ["there", True]


def test_deadlines_within_deadlines(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        seen: list[str] = []
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(loop.time() + 50):
                for n in range(10):
                    try:
                        async with asyncio.timeout(20):
                            await ctx.sleep(1_000)
                    except TimeoutError:
                        seen.append(f"inner {n}")
        except TimeoutError:
            seen.append("outer")
        return seen

    assert outcome(rig, body, passing_s=2) == ["inner 0", "inner 1", "outer"]


@pytest.mark.parametrize("how", ["step", "future", "task", "coroutine"])
def test_wait_for(rig: Rig, how: str) -> None:
    async def body(ctx: Context) -> Any:
        def slow(ms: int) -> Any:
            match how:
                case "step":
                    return after(ms, "v")
                case "future":
                    return ctx.sleep(ms / 1000)
                case "task":
                    return asyncio.create_task(nap(ms / 1000, "v"))
                case _:
                    return nap(ms / 1000, "v")

        given = await asyncio.wait_for(slow(1), 60)
        try:
            await asyncio.wait_for(slow(1_000), 0.01)
        except TimeoutError:
            return given

    assert outcome(rig, body) == (None if how == "future" else "v")


def test_one_that_is_moved(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(10) as scope:
            scope.reschedule(loop.time() + 1_000)
            await asyncio.sleep(100)
        async with asyncio.timeout(None) as scope:
            scope.reschedule(loop.time() + 1_000)
            await asyncio.sleep(100)
            scope.reschedule(None)
        try:
            async with asyncio.timeout(0):
                await asyncio.sleep(1)
        except TimeoutError:
            return "at once"

    assert outcome(rig, body, passing_s=20) == "at once"


@pytest.mark.parametrize("word", ["timeout", "wait_for"])
def test_one_that_escapes_is_the_end(rig: Rig, word: str) -> None:
    async def body(ctx: Context) -> Any:
        if word == "wait_for":
            await asyncio.wait_for(asyncio.sleep(100), 0.01)
        async with asyncio.timeout(0.01):
            await asyncio.sleep(100)

    found = failure(rig, body)
    assert (found.code, found.message) == (504, "timed out")


def test_one_of_the_handlers_own_is_tried_again(rig: Rig) -> None:
    runs: list[int] = []

    async def body(ctx: Context) -> Any:
        async with asyncio.timeout(60):
            await after(1)
            runs.append(1)
            if len(runs) < 2:
                raise TimeoutError("of a socket, say")
        return "went on"

    assert outcome(rig, body) == "went on"


def test_one_outlives_the_worker(disk_rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        reminded = 0
        for _ in range(3):
            try:
                async with asyncio.timeout(86_400):
                    await ctx.sleep(1e7)
            except TimeoutError:
                reminded = await after(1, reminded + 1)
        return reminded

    rig, app = disk_rig, app_of(body)
    rig.start(app)
    asked = rig.ask("aio/go")
    for day in range(3):
        rig.until(lambda day=day: sum(key[:1] == b"t" and key[1:9] > b"\0" * 8 for key in rig.journal(app)) == 2 + day)
        rig.restart(app, crash=True)
        asked = rig.attach(asked.id)
        rig.later(86_401)
    assert asked.value() == 3
