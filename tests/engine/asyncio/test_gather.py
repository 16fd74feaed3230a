"""asyncio.gather: results in the order asked for, whatever the order in which they come."""

import asyncio
from dataclasses import replace
from typing import Any

from odradek import Context, TerminalError
from tests.engine.asyncio.handlers import after, app_of, fails, failure, nap, outcome
from tests.engine.harness import Rig


def test_steps_calls_and_sleeps_in_any_mix(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        return await asyncio.gather(
            after(9, "step"), ctx.sleep(0.02), ctx.call("aio/echo", 3, returns=int), nap(0.01, "nap"), ctx.run(abs, -4)
        )

    assert outcome(rig, body) == ["step", None, 3, "nap", 4]


def test_each_has_begun_before_any_has_ended(rig: Rig) -> None:
    begun: list[int] = []

    async def body(ctx: Context) -> Any:
        async def one(n: int) -> int:
            begun.append(n)
            return int(await after(1, n))

        return await asyncio.gather(*map(one, range(5)))

    assert outcome(rig, body) == [0, 1, 2, 3, 4]
    assert begun[:5] == [0, 1, 2, 3, 4]


def test_the_order_in_which_they_end_is_the_same_at_each_replay(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        order: list[int] = []

        async def one(n: int) -> None:
            await after((n * 7) % 5, n)
            order.append(n)
            ctx.logger.info("%s", n)
            await ctx.run(len, order, name=f"after {n} comes number {len(order)}")

        await asyncio.gather(*map(one, range(12)))
        return sorted(order)

    assert outcome(rig, body) == list(range(12))


def test_errors_are_raised_or_returned(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        told = await asyncio.gather(after(1, 1), fails(1, "no"), return_exceptions=True)
        try:
            await asyncio.gather(after(20, 1), fails(1, "never"))
        except TerminalError as error:
            return [told[0], str(told[1]), str(error), error.code]

    assert outcome(rig, body) == [1, "no", "never", 409]


def test_an_error_that_escapes_ends_the_invocation_as_it_would_alone(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        await asyncio.gather(after(1), fails(1, "no"))

    found = failure(rig, body)
    assert (found.code, found.message) == (409, "no")


def test_nothing_to_gather(rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        return [await asyncio.gather(), await after(1, 2)]

    assert outcome(rig, body) == [[], 2]


def test_a_thousand_steps(rig: Rig) -> None:
    rig.settings = replace(rig.settings, coroutine_cache=10_000)

    async def body(ctx: Context) -> Any:
        return sum(await asyncio.gather(*(after(0, n) for n in range(1_000))))

    assert outcome(rig, body) == 499_500


def test_one_begun_in_a_crash_goes_on(disk_rig: Rig) -> None:
    async def body(ctx: Context) -> Any:
        return await asyncio.gather(after(1, "a"), ctx.sleep(100), nap(200, "b"), after(2, "c"))

    rig, app = disk_rig, app_of(body)
    rig.start(app)
    asked = rig.ask("aio/go")
    for passing in (0, 150, 100):
        rig.until(lambda: [key for key in rig.journal(app) if key[:1] == b"j"])
        rig.settled(app)
        rig.restart(app, crash=True)
        asked = rig.attach(asked.id)
        rig.later(passing)
    assert asked.value() == ["a", None, "b", "c"]
