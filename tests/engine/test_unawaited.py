"""A forgotten `await`: the handler goes on as if nothing were to wait for. The log says so, once for each handler and word."""

from collections.abc import Callable
from typing import Any

import pytest

from odradek import App, Context, ObjectContext
from tests.engine.harness import Rig

FORGOTTEN: dict[str, Callable[[Any, Any], Any]] = {
    "ctx.sleep": lambda ctx, _: ctx.sleep(1),
    "ctx.run": lambda ctx, _: ctx.run(int),
    "ctx.call": lambda ctx, callee: ctx.call(callee),
}


@pytest.mark.parametrize("word", FORGOTTEN)
def test_what_a_handler_does_not_await_is_said_once(rig: Rig, caplog: pytest.LogCaptureFixture, word: str) -> None:
    app = App("forgets", shards=1)
    orders, thing = app.topic("orders", value=int), app.object("thing")

    @app.handler
    async def callee(ctx: Context) -> None: ...

    @app.handler
    async def asked(ctx: Context) -> None:
        await ctx.sleep(0)
        FORGOTTEN[word](ctx, callee)

    @thing.on(orders)
    async def take(ctx: ObjectContext, n: int) -> None:
        FORGOTTEN[word](ctx, callee)

    rig.start(app)
    for _ in range(2):
        rig.ask("forgets/asked").value()
    rig.publish("orders", ("k", 1), ("k", 2))
    rig.settled(app)
    said = [record.getMessage() for record in caplog.records if "did not await" in record.getMessage()]
    assert [(text.split(" ")[1], f"did not await {word}(...)" in text) for text in said] == [
        ("(forgets/asked):", True),
        ("(thing/take):", True),
    ]


def test_what_is_awaited_late_or_has_come_back_is_no_matter(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    app = App("remembers", shards=1)

    @app.handler
    async def asked(ctx: Context) -> int:
        first, second = ctx.run(int), ctx.sleep(0)
        await second
        return await first

    rig.start(app)
    assert rig.ask("remembers/asked").value() == 0
    assert "did not await" not in caplog.text
