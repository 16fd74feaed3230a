"""asyncio.wait and as_completed: what is done first is done first at every replay."""

import asyncio
from typing import Any

import pytest

from odradek import Context, TerminalError
from tests.engine.asyncio.handlers import after, fails, nap, outcome
from tests.engine.harness import Rig


@pytest.mark.parametrize(
    ("mode", "done"), [(asyncio.FIRST_COMPLETED, 1), (asyncio.FIRST_EXCEPTION, 2), (asyncio.ALL_COMPLETED, 3)], ids=str
)
def test_every_mode(rig: Rig, mode: str, done: int) -> None:
    async def body(ctx: Context) -> Any:
        tasks = [asyncio.create_task(c) for c in (nap(0.01, "first"), nap(0.5, "last"))]
        tasks.insert(1, asyncio.create_task(_fails_after(0.1)))
        ended, pending = await asyncio.wait(tasks, return_when=mode)
        for task in pending:
            task.cancel()
        return [[len(ended), len(pending)], [task in ended for task in tasks]]

    assert outcome(rig, body, passing_s=0.01) == [[done, 3 - done], [True, done > 1, done > 2]]


async def _fails_after(s: float) -> None:
    await asyncio.sleep(s)
    raise TerminalError("no")


def test_with_a_timeout(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        futures: list[Any] = [ctx.sleep(100), ctx.sleep(1_000), ctx.run(abs, -1)]
        done, pending = await asyncio.wait(futures, timeout=500)
        return [[f in done for f in futures], len(pending)]

    assert outcome(rig, body, passing_s=20) == [[True, False, True], 1]


def test_what_is_done_is_in_one_order(rig: Rig) -> None:
    """Futures of steps, tasks, gathers and futures of nobody's: a handler that goes through them makes entries in that order."""

    async def body(ctx: Context) -> Any:
        loop = asyncio.get_running_loop()
        bare = [asyncio.Future[str](loop=loop) for _ in range(20)]
        waited: list[Any] = [asyncio.gather(after(1, f"g{n}")) for n in range(20)]
        waited += [asyncio.create_task(after(1, f"t{n}")) for n in range(20)] + [ctx.run(str, f"s{n}") for n in range(20)] + bare
        for n, future in enumerate(bare):
            future.set_result(f"b{n}")
        done, _ = await asyncio.wait(waited)
        names: list[str] = []
        for each in done:
            name = str(each.result())
            names.append(name)
            ctx.run(len, name, name=name)
        await after(1)
        return sorted(names) == sorted(f"{k}" for k in names) and len(names)

    assert outcome(rig, body) == 80


def test_as_completed_gives_them_as_they_end(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        futures: list[Any] = [ctx.sleep(300), ctx.run(abs, -1), ctx.sleep(100)]
        return [await each for each in asyncio.as_completed(futures)]

    assert outcome(rig, body, passing_s=3) == [1, None, None]


def test_as_completed_of_bare_coroutines_begins_them_in_their_order(rig: Rig) -> None:
    begun: list[list[int]] = []

    async def body(ctx: Context) -> Any:
        mine: list[int] = []
        begun.append(mine)

        async def one(n: int) -> int:
            mine.append(n)
            return int(await ctx.run(abs, -n, name=f"number {n}"))

        return sorted([await each for each in asyncio.as_completed([one(n) for n in range(30)])])

    assert outcome(rig, body) == list(range(30))
    assert all(each == list(range(30)) for each in begun)


def test_as_completed_with_a_timeout(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        given: list[Any] = []
        try:
            for each in asyncio.as_completed([nap(10, "soon"), nap(1_000, "late")], timeout=100):
                given += [await each]
        except TimeoutError:
            return given

    assert outcome(rig, body, passing_s=10) == ["soon"]


def test_first_success(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        for each in asyncio.as_completed([fails(1, "a"), after(30, "b"), fails(2, "c")]):
            try:
                return await each
            except TerminalError:
                continue
        return None

    assert outcome(rig, body) == "b"
