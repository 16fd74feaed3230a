"""Libraries that need asyncio alone work in handlers as they are: anyio is one."""

from typing import Any

import anyio

from odradek import Context, TerminalError
from tests.engine.asyncio.handlers import after, app_of, fails, nap, outcome
from tests.engine.harness import Rig


def test_a_sleep(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        await anyio.sleep(100)
        return "slept"

    assert outcome(rig, body, passing_s=10) == "slept"


def test_a_task_group(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        told: list[Any] = []

        async def one(n: int) -> None:
            told.append(await after(n, n))

        async with anyio.create_task_group() as group:
            for n in range(5):
                group.start_soon(one, n)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(nap, 1e6)
                group.start_soon(fails, 1, "no")
        except* TerminalError as errors:
            told += [str(error) for error in errors.exceptions]
        return [sorted(told[:5]), told[5:]]

    assert outcome(rig, body) == [[0, 1, 2, 3, 4], ["no"]]


def test_deadlines(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        with anyio.move_on_after(50) as scope:
            await ctx.sleep(1e6)
        try:
            with anyio.fail_after(50):
                await nap(1e6)
        except TimeoutError:
            return [scope.cancelled_caught, "failed after"]

    assert outcome(rig, body, passing_s=10) == [True, "failed after"]


def test_streams_limits_and_locks(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        send, receive = anyio.create_memory_object_stream[int](2)
        limit, taken = anyio.CapacityLimiter(2), list[int]()

        async def produce() -> None:
            async with send:
                for n in range(6):
                    async with limit:
                        await send.send(await after(1, n))

        async def consume() -> None:
            async with receive:
                async for n in receive:
                    taken.append(n)

        async with anyio.create_task_group() as group:
            group.start_soon(produce)
            group.start_soon(consume)
        return taken

    assert outcome(rig, body) == [0, 1, 2, 3, 4, 5]


def test_scopes_of_invocations_beside_each_other(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        mine = ctx.random.randrange(8)
        with anyio.move_on_after(1) as scope:
            await after(mine)
            async with anyio.create_task_group() as group:
                group.start_soon(after, 1)
                if mine % 2:
                    group.start_soon(nap, 1e6)
            await after(1)
        return scope.cancelled_caught is (mine % 2 == 1)

    rig.start(app_of(body))
    assert [one.value() for one in [rig.ask("aio/go") for _ in range(20)]].count(False) == 0
