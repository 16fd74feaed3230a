"""Event, Lock, Condition, Semaphore, Barrier: between the tasks of one invocation."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from odradek import Context
from tests.engine.asyncio.handlers import after, app_of, failure, nap, outcome
from tests.engine.harness import Rig


def test_a_lock_is_one_tasks_at_a_time_in_the_order_asked_for(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        lock, noted = asyncio.Lock(), list[str]()

        async def one(n: int) -> None:
            async with lock:
                noted.append(f"{n} in")
                await after(3 - n)
                noted.append(f"{n} out")

        await asyncio.gather(*map(one, range(4)))
        return noted

    assert outcome(rig, body) == [f"{n} {way}" for n in range(4) for way in ("in", "out")]


def test_a_semaphore_bounds_steps(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        limit, inside, most = asyncio.BoundedSemaphore(4), 0, 0

        async def one(n: int) -> int:
            nonlocal inside, most
            async with limit:
                inside += 1
                most = max(most, inside)
                await after(n % 3)
                inside -= 1
                return n

        return [await asyncio.gather(*map(one, range(15))), most]

    assert outcome(rig, body) == [list(range(15)), 4]


def test_an_event(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        event, woken = asyncio.Event(), list[int]()

        async def one(n: int) -> None:
            await event.wait()
            woken.append(n)
            await after(1)

        tasks = [asyncio.create_task(one(n)) for n in range(5)]
        await after(2)
        assert not woken
        event.set()
        await asyncio.gather(*tasks)
        return [woken, await event.wait()]

    assert outcome(rig, body) == [[0, 1, 2, 3, 4], True]


def test_a_condition(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        condition, stock, sold = asyncio.Condition(), 0, list[int]()

        async def buyer(n: int) -> None:
            nonlocal stock
            async with condition:
                await condition.wait_for(lambda: stock > 0)
                stock -= 1
                sold.append(n)

        buyers = [asyncio.create_task(buyer(n)) for n in range(3)]
        for _ in range(3):
            await after(1)
            async with condition:
                stock += 1
                condition.notify()
        await asyncio.gather(*buyers)
        return sold

    assert sorted(outcome(rig, body)) == [0, 1, 2]


def test_a_barrier(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        barrier = asyncio.Barrier(3)

        async def one(n: int) -> int:
            await after(n)
            return await barrier.wait()

        return sorted(await asyncio.gather(*map(one, range(3))))

    assert outcome(rig, body) == [0, 1, 2]


def test_one_that_times_out_has_not_the_lock(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        lock = asyncio.Lock()
        holder = asyncio.create_task(_hold(lock))
        await asyncio.sleep(0)
        try:
            await asyncio.wait_for(lock.acquire(), 0.01)
        except TimeoutError:
            await holder
            return lock.locked()

    assert outcome(rig, body) is False


async def _hold(lock: asyncio.Lock) -> None:
    async with lock:
        await nap(0.1)


@pytest.mark.parametrize("what", ["event", "lock", "condition", "queue", "future"])
def test_what_nothing_can_end_ends_the_invocation(rig: Rig, what: str) -> None:
    async def body(ctx: Context) -> Any:
        await after(1)
        match what:
            case "event":
                await asyncio.Event().wait()
            case "lock":
                lock = asyncio.Lock()
                await lock.acquire()
                await lock.acquire()
            case "condition":
                async with (condition := asyncio.Condition()):
                    await condition.wait()
            case "queue":
                await asyncio.create_task(asyncio.Queue[int]().get())
            case _:
                await asyncio.Future()

    found = failure(rig, body)
    assert found.code == 501
    assert " waits for ever (" in found.message
    assert "put it into a step" in found.message


def test_one_that_invocations_share_is_refused(rig: Rig) -> None:
    lock = asyncio.Lock()

    async def body(ctx: Context) -> Any:
        async with lock:
            await after(20)
        return "had it"

    rig.start(app_of(body))
    replies = [one.reply() for one in [rig.ask("aio/go") for _ in range(4)]]
    failed = [reply.failure for reply in replies if reply.failure is not None]
    assert failed
    for each in failed:
        assert each.code == 501
        assert "another invocation" in each.message or " waits for ever " in each.message


def test_a_future_of_another_invocation_is_refused(rig: Rig) -> None:
    """Whoever would end it is ended: the other one could not see it at a replay."""
    rig.settings = replace(rig.settings, coroutine_cache=10_000)  # an eviction would end it, too
    left: list[asyncio.Future[int]] = []

    async def body(ctx: Context) -> Any:
        if not left:
            left.append(asyncio.get_running_loop().create_future())
            async with asyncio.timeout(5):
                return await left[0]
        await after(1)
        left[0].set_result(1)
        return "gave it"

    rig.start(app_of(body))
    rig.ask("aio/go")
    rig.until(lambda: left)
    found = rig.ask("aio/go").reply().failure
    assert found is not None
    assert found.code == 501
    assert "a future of another invocation" in found.message
