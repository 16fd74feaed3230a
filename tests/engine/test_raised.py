"""Whatever a handler, a step, a decoder or a key function raises, SystemExit too, fails its own record and nothing else."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from odradek import App, Context, ObjectContext, State, TerminalError
from tests.engine.harness import Rig

count = State("count", int, default=0)


class Own(BaseException):
    """A user's own."""


RAISED = [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, Own]


@pytest.mark.parametrize("error", RAISED, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("waits", [False, True])
def test_whatever_a_handler_raises_is_a_failure_that_is_retried(rig: Rig, error: type[BaseException], waits: bool) -> None:
    app, runs = App("raises", shards=1), list[int]()
    orders, thing = app.topic("orders", value=int), app.object("thing")

    @thing.on(orders)
    async def take(ctx: ObjectContext, n: int) -> None:
        runs.append(n)
        if waits:
            await ctx.sleep(timedelta(milliseconds=1))
        ctx.set(count, ctx.get(count) + 1)
        if len(runs) < 4:
            raise error

    rig.start(app)
    rig.publish("orders", ("k", 1))
    rig.until(lambda: rig.state(app, "thing", "k", "count") == 1)
    rig.settled(app)
    rig.until(lambda: rig.journal(app) == {})
    assert rig.dead_letters(app) == []


@pytest.mark.parametrize("waits", [False, True])
def test_a_result_that_cannot_be_written_is_not_in_the_log(rig: Rig, waits: bool, caplog: pytest.LogCaptureFixture) -> None:
    app = App("returns", shards=1)

    @app.handler
    async def give(ctx: Context) -> list[str]:
        if waits:
            await ctx.sleep(timedelta(milliseconds=1))
        return ["the patient's name", "\ud800"]

    rig.start(app)
    failure = rig.ask("returns/give").reply().failure
    assert failure is not None
    assert "returns/give: result: $[1]: this str holds lone surrogates" in failure.message
    assert "returns/give" in caplog.text
    assert "the patient's name" not in caplog.text


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, Own, TerminalError("no"), ZeroDivisionError], ids=str)
def test_a_decoder_or_a_key_function_that_raises_makes_a_dead_letter(rig: Rig, error: Any) -> None:
    import msgspec

    app, taken = App("decodes", shards=1), list[int]()

    class Picky(msgspec.Struct):
        n: int

        def __post_init__(self) -> None:
            if self.n == 2:
                raise error

    def key_of(n: int) -> str:
        if n == 2:
            raise error
        return "k"

    values, numbers, thing = app.topic("values", value=Picky), app.topic("numbers", value=int), app.object("thing")

    @thing.on(values)
    async def take(ctx: ObjectContext, value: Picky) -> None:
        taken.append(value.n)

    @thing.on(numbers, key=key_of)
    async def keyed(ctx: ObjectContext, n: int) -> None:
        taken.append(n)

    @app.handler
    async def called(ctx: Context, value: Picky) -> int:
        return value.n

    @app.handler
    async def stepped(ctx: Context) -> str:
        try:
            await ctx.run(lambda: {"n": 2}, name="raw", returns=Picky)
        except TerminalError as failure:
            return f"{failure.code}"
        return "decoded"

    rig.start(app)
    rig.publish("values", *[("k", {"n": n}) for n in (1, 2, 3)])
    rig.publish("numbers", *[("k", n) for n in (1, 2, 3)])
    rig.until(lambda: len(rig.dead_letters(app)) == 2)
    rig.settled(app)
    assert sorted(taken) == [1, 1, 3, 3]
    failure = rig.ask("decodes/called", {"n": 2}).reply().failure
    assert failure is not None and failure.code == 400
    assert rig.call("decodes/stepped") == "500"
