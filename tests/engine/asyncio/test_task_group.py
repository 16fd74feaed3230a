"""asyncio.TaskGroup: all of it, or none."""

import asyncio
import gc
from typing import Any

from odradek import Context, TerminalError
from tests.engine.asyncio.handlers import after, app_of, fails, failure, nap, outcome
from tests.engine.harness import Rig


def test_results_of_steps_and_helpers(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        limit = asyncio.Semaphore(3)

        async def one(n: int) -> int:
            async with limit:
                return int(await after(1, n))

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(n)) for n in range(10)]
            single = group.create_task(after(2, "x"))
        return [*(task.result() for task in tasks), single.result()]

    assert outcome(rig, body) == [*range(10), "x"]


def test_one_that_fails_cancels_the_others(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        seen: list[str] = []

        async def other(n: int) -> None:
            try:
                await asyncio.sleep(1e6)
            except asyncio.CancelledError:
                seen.append(await after(1, f"cancelled {n}"))
                raise

        try:
            async with asyncio.TaskGroup() as group:
                for n in range(4):
                    group.create_task(other(n))
                group.create_task(fails(5, "no"))
        except* TerminalError as errors:
            seen += [str(error) for error in errors.exceptions]
        return seen

    found = outcome(rig, body)
    assert sorted(found[:4]) == [f"cancelled {n}" for n in range(4)]
    assert found[4:] == ["no"]


def test_terminal_errors_that_escape_together_are_the_end(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails(1, "no"))
            group.create_task(asyncio.sleep(100))

    found = failure(rig, body)
    assert (found.code, found.message) == (409, "no")


def test_others_that_escape_are_tried_again(rig: Rig) -> None:
    runs: list[int] = []

    async def body(ctx: Context) -> Any:
        async def shaky() -> int:
            await after(1)
            runs.append(1)
            if len(runs) < 3:
                raise OSError("shaky")
            return len(runs)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(shaky())
            group.create_task(nap(0.001))
        return task.result() >= 3

    assert outcome(rig, body) is True


def test_a_group_that_waits_before_it_has_tasks(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        async with asyncio.TaskGroup() as group:
            await after(1)
            await ctx.sleep(0.002)
            group.create_task(nap(1e5))
            group.create_task(fails(1, "no"))
            try:
                await ctx.sleep(1e6)
            except asyncio.CancelledError:
                await after(1)
                raise

    assert failure(rig, body).code == 409


def test_groups_of_invocations_beside_each_other(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        task: asyncio.Task[Any] | None = None
        try:
            async with asyncio.TaskGroup() as group:
                await after(ctx.random.randrange(4))
                task = group.create_task(after(ctx.random.randrange(4), ctx.invocation_id))
                if ctx.random.random() < 0.5:
                    group.create_task(fails(30, "no"))
                await asyncio.sleep(0.01)
        except* TerminalError:
            pass
        return task and task.result()

    rig.start(app_of(body))
    asked = [rig.ask("aio/go") for _ in range(30)]
    assert [one.value() for one in asked] == [one.id for one in asked]


def test_groups_within_groups_that_are_evicted_are_thrown_away_without_a_word(rig: Rig) -> None:
    """Pytest fails the test for an exception that is ignored where a coroutine is collected."""

    async def body(ctx: Context) -> Any:
        async def inner() -> int:
            async with asyncio.TaskGroup() as outside:
                outside.create_task(nap(0.05))
                async with asyncio.TaskGroup() as inside:
                    inside.create_task(nap(0.04))
                    await after(10)
                    await nap(0.03)
            return 1

        async with asyncio.TaskGroup() as group:
            task = group.create_task(inner())
            group.create_task(inner())
            await nap(0.02)
        return task.result()

    assert outcome(rig, body) == 1
    gc.collect()
