"""ctx.cancel: a callee, or any invocation of the app by its id, is told to end; the journal says so once."""

import asyncio

from odradek import App, Context, TerminalError
from tests.engine.control.ordering import left
from tests.engine.harness import Rig


def test_a_call_is_cancelled_by_its_caller(rig: Rig) -> None:
    app = App("rival", shards=4)
    cleaned: list[int] = []

    @app.handler
    async def slow(ctx: Context, number: int) -> int:
        try:
            await ctx.sleep(3600)
        except asyncio.CancelledError:
            cleaned.append(number)
            raise
        return number

    @app.handler
    async def race(ctx: Context) -> list[str]:
        first, second = ctx.call(slow, 1), ctx.call(slow, 2)
        sent = ctx.send(slow, 3)
        await ctx.sleep(1)
        ctx.cancel(first)
        ctx.cancel(second.invocation_id)
        ctx.cancel(sent)
        told: list[str] = []
        for call in (first, second):
            try:
                await call
            except TerminalError as error:
                told.append(f"{error.code} {error.message}")
        try:
            ctx.cancel("bob")
        except TerminalError as error:
            told.append(f"{error.code}")
        return told

    rig.start(app)
    asked = rig.ask("rival/race")
    rig.until(lambda: sum(each.target == "rival/slow" and each.status == "running" for each in rig.invocations(app)) == 3)
    rig.later(2)
    assert asked.value() == ["409 rival/slow was cancelled", "409 rival/slow was cancelled", "400"]
    rig.until(lambda: left(rig, app) == [])
    assert set(cleaned) == {1, 2, 3}
