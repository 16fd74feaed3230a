"""create_task, shield, cancel; what becomes of tasks that nobody awaits."""

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest

from odradek import Context, TerminalError
from tests.engine.asyncio.handlers import after, fails, failure, nap, outcome
from tests.engine.harness import Rig


def test_they_run_beside_the_handler(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        task = asyncio.create_task(after(1, "theirs"), name="beside")
        mine = await after(2, "mine")
        return [mine, await task, task.get_name()]

    assert outcome(rig, body) == ["mine", "theirs", "beside"]


def test_their_names_and_hashes_are_numbers_of_their_invocation(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        tasks = [asyncio.create_task(after(1)) for _ in range(3)]
        await asyncio.wait(tasks)
        return [[task.get_name() for task in tasks], [hash(task) for task in tasks]]

    names, hashes = outcome(rig, body)
    assert names == [f"Task-{n}" for n in hashes]
    assert hashes == [1, 2, 3]


def test_one_that_is_cancelled_cleans_up(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        noted: list[str] = []

        async def one() -> None:
            try:
                await ctx.sleep(1e6)
            except asyncio.CancelledError:
                noted.append(await after(1, "cleaned"))
                raise

        task = asyncio.create_task(one())
        await after(1)
        assert task.cancel("why")
        try:
            await task
        except asyncio.CancelledError:
            noted.append("told")
        return [noted, task.cancelled()]

    assert outcome(rig, body) == [["cleaned", "told"], True]


def test_one_may_refuse_to_be_cancelled(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        async def one() -> str:
            try:
                await asyncio.sleep(1e6)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                assert task is not None
                task.uncancel()
            return str(await after(1, "stayed"))

        task = asyncio.create_task(one())
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert outcome(rig, body) == "stayed"


def test_shield(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        inner = asyncio.create_task(after(20, "done all the same"))
        try:
            async with asyncio.timeout(0.005):
                await asyncio.shield(inner)
        except TimeoutError:
            return await inner

    assert outcome(rig, body) == "done all the same"


def test_the_handler_itself_may_be_cancelled(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        main = asyncio.current_task()
        assert main is not None

        async def other() -> None:
            await after(1)
            main.cancel("by my own task")

        task = asyncio.create_task(other())
        try:
            await ctx.sleep(1e6)
        except asyncio.CancelledError as error:
            await task
            return [str(error), main.cancelling(), main.uncancel()]

    assert outcome(rig, body) == ["by my own task", 1, 0]


def test_those_left_at_the_end_are_cancelled_and_may_clean_up(rig: Rig) -> None:
    cleaned: list[str] = []

    async def body(ctx: Context) -> Any:
        async def one(n: int) -> None:
            try:
                await asyncio.sleep(1e6)
            finally:
                await after(1)
                cleaned.append(str(n))

        tasks = [asyncio.create_task(one(n)) for n in range(3)]
        await after(1)
        return len(tasks)

    assert outcome(rig, body) == 3
    assert sorted(cleaned[-3:]) == ["0", "1", "2"]


def test_one_that_was_never_begun_is_left(rig: Rig, recwarn: pytest.WarningsRecorder) -> None:
    async def body(ctx: Context) -> Any:
        asyncio.create_task(after(1))  # noqa: RUF006
        return "at once"

    assert outcome(rig, body) == "at once"
    assert [str(each.message) for each in recwarn if "never awaited" in str(each.message)] == []


def test_calls_that_a_task_has_made_still_run(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        task = asyncio.create_task(_calls(ctx))
        await asyncio.sleep(0)
        return task.done()

    assert outcome(rig, body) is False


async def _calls(ctx: Context) -> None:
    await ctx.call("aio/echo", 1, returns=int)


def test_an_error_that_nobody_asks_for_is_logged_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    async def body(ctx: Context) -> Any:
        task = asyncio.create_task(fails(1, "nobody hears of this"), name="lonely")
        for n in range(5):
            await after(2, n)
        return task.done()

    with caplog.at_level(logging.ERROR):
        assert outcome(rig, body) is True
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "nobody awaits its task lonely, which has failed"
    ]


def test_an_error_of_the_handler_leaves_its_tasks_to_the_next_attempt(rig: Rig) -> None:
    runs: list[int] = []

    async def body(ctx: Context) -> Any:
        task = asyncio.create_task(nap(0.05, "theirs"))
        await after(1)
        runs.append(1)
        if len(runs) < 3:
            raise OSError("again")
        return await task

    assert outcome(rig, body) == "theirs"


def test_a_terminal_error_ends_the_tasks(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        asyncio.create_task(asyncio.sleep(1e6))  # noqa: RUF006
        await after(1)
        raise TerminalError("the end", code=418)

    assert failure(rig, body).code == 418


def test_a_done_callback(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        called: list[Any] = []
        future = ctx.run(abs, -3)
        future.add_done_callback(lambda f: called.append(f.result()))
        task = asyncio.create_task(nap(0.001, 4))
        task.add_done_callback(lambda t: called.append(t.result()))
        await asyncio.gather(future, task)
        await asyncio.sleep(0)
        return sorted(called)

    assert outcome(rig, body) == [3, 4]


def test_many_leave_nothing_behind(rig: Rig) -> None:
    rig.settings = replace(rig.settings, coroutine_cache=10_000)

    async def body(ctx: Context) -> Any:
        for _ in range(50):
            await asyncio.gather(*(asyncio.sleep(0) for _ in range(100)))
        return len(asyncio.all_tasks())

    assert outcome(rig, body) == 0
