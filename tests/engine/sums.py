"""An app that adds up: cells, and handlers that call and send to them in every way."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from odradek import App, Call, Context, ObjectContext, TerminalError

Add = Callable[[ObjectContext, int], Coroutine[Any, Any, int]]
Refuse = Callable[[ObjectContext], Coroutine[Any, Any, int]]


@dataclass
class Sum:
    of: int
    parts: list[int]


def arithmetic(shards: int = 4) -> App:
    app = App("sums", shards=shards)
    add, refuse = cells(app)
    call_many(app, add)
    call_amiss(app, refuse)
    call_with_more(app, add)
    return app


def cells(app: App) -> tuple[Add, Refuse]:
    """What is called: a sum under each key, and what refuses everything."""
    cell, out = app.object("cell"), app.topic("out", value=str)

    @cell.handler
    async def add(ctx: ObjectContext, n: int) -> int:
        total = (ctx.get("total", int) or 0) + n
        ctx.set("total", total)
        ctx.publish(out, f"{n}", key=ctx.key)
        return total

    @cell.handler
    async def refuse(ctx: ObjectContext) -> int:
        await ctx.sleep(0.001)
        raise TerminalError("no more", code=422, metadata={"cell": ctx.key})

    return add, refuse


def call_many(app: App, add: Add) -> None:
    """Many calls: at once, one within the other, one after the other, and one that nobody awaits."""

    @app.handler
    async def fan_out(ctx: Context, count: int) -> int:
        calls = [ctx.call(add, n, key=f"cell{n}") for n in range(count)]
        return sum([await call for call in calls])

    @app.handler
    async def chain(ctx: Context, depth: int) -> int:
        if depth == 0:
            return await ctx.call(add, 1, key="bottom")
        return 1 + await ctx.call(chain, depth - 1)

    @app.handler
    async def ordered(ctx: Context, count: int) -> int:
        calls = list[Call[int]]()
        for n in range(0, count, 2):
            ctx.send(add, n, key="one")
            calls.append(ctx.call(add, n + 1, key="one"))
        return await calls[-1]

    @app.handler
    async def leaves(ctx: Context) -> str:
        ctx.call(add, 5, key="left")
        return "gone"


def call_amiss(app: App, refuse: Refuse) -> None:
    """Calls that fail, and what their caller is told."""

    @app.handler
    async def errors(ctx: Context) -> list[str]:
        told = list[str]()
        for name in ("a", "b"):
            try:
                await ctx.call(refuse, key=name)
            except TerminalError as error:
                told.append(f"{error.code} {error.message} {dict(error.metadata)}")
        amiss: list[tuple[str, str | None]] = [
            ("cell/none", "k"), ("cell/add", None), ("sums/chain", "k"), ("nowhere/at/all", None),
        ]  # fmt: skip
        for target, key in amiss:
            try:
                await ctx.call(target, 1, key=key, returns=int)
            except TerminalError as error:
                told.append(f"{error.code} {error.message}")
            except Exception as error:  # noqa: BLE001  (which one it is, is what is asked)
                told.append(f"{type(error).__name__} {error}")
        return told

    @app.handler
    async def bad_argument(ctx: Context) -> str:
        try:
            await ctx.call("cell/add", "text", key="k", returns=int)
        except TerminalError as error:
            return f"{error.code} {error.message} {error.metadata.get('field')}"
        return "taken"

    @app.handler
    async def bad_result(ctx: Context) -> str:
        try:
            await ctx.call("cell/add", 1, key="k", returns=Sum)
        except TerminalError as error:
            return f"{error.code}"
        return "taken"


def call_with_more(app: App, add: Add) -> None:
    """Calls with an idempotency key, and with headers."""

    @app.handler
    async def once(ctx: Context, idempotency_key: str) -> list[int]:
        calls = [ctx.call(add, 1, key="idem", idempotency_key=idempotency_key)]
        calls += [  # the same handler, however it is named
            ctx.call(name, 1, key="idem", idempotency_key=idempotency_key, returns=int) for name in ("cell/add", "sums/cell/add")
        ]
        assert len({call.invocation_id for call in calls}) == 1
        ctx.send(add, 1, key="idem", idempotency_key=idempotency_key)
        return [await call for call in calls]

    @app.handler
    async def headers(ctx: Context) -> str:
        return await ctx.call(what_headers, headers={"X-One": "1"})

    @app.handler
    async def what_headers(ctx: Context) -> str:
        return ctx.headers["x-one"]
