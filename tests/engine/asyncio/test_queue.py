"""asyncio.Queue and its kin: between the tasks of one invocation."""

import asyncio
import contextvars
from typing import Any

import pytest

from odradek import Context, TerminalError
from tests.engine.asyncio.handlers import after, outcome
from tests.engine.harness import Rig


@pytest.mark.parametrize("kind", [asyncio.Queue, asyncio.LifoQueue, asyncio.PriorityQueue])
def test_producers_and_consumers(rig: Rig, kind: type[asyncio.Queue[int]]) -> None:
    async def body(ctx: Context) -> Any:
        queue, taken = kind(maxsize=3), list[int]()

        async def produce(first: int) -> None:
            for n in range(first, first + 5):
                await after(1)
                await queue.put(n)

        async def consume() -> None:
            while True:
                n = await queue.get()
                taken.append(n)
                await after(1)
                queue.task_done()

        consumers = [asyncio.create_task(consume()) for _ in range(2)]
        await asyncio.gather(produce(0), produce(10))
        await queue.join()
        for consumer in consumers:
            consumer.cancel()
        return sorted(taken)

    assert outcome(rig, body) == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]


def test_a_get_that_times_out_takes_nothing(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        queue = asyncio.Queue[int]()
        try:
            await asyncio.wait_for(queue.get(), 0.01)
        except TimeoutError:
            queue.put_nowait(1)
        return await queue.get()

    assert outcome(rig, body) == 1


def test_a_step_that_has_taken_the_loop_along_is_told_that_it_works_in_the_handler_alone(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        loop, variables = asyncio.get_running_loop(), contextvars.copy_context()

        def make() -> None:
            variables.run(loop.create_future)

        try:
            await ctx.run(make)
        except TerminalError as error:
            return [error.code, error.message.split(",")[0]]
        return "it was made"

    assert outcome(rig, body) == [501, "the handler's event loop works in the handler alone"]
