"""An app that counts: each record adds to the state of its key and tells the total in an output."""

from odradek import App, Context, ObjectContext, SharedContext, State, step

count = State("count", int, default=0)


def counting(shards: int = 1, name: str = "counting") -> App:
    """Reads `<name>-in`, writes `<name>-out`; `counter/add` and `counter/total` over HTTP; `counter/step` runs a step first."""
    app = App(name, shards=shards)
    numbers, totals = app.topic(f"{name}-in", value=int), app.topic(f"{name}-out", value=str)
    counter = app.object("counter")

    @step
    async def double(n: int) -> int:
        return 2 * n

    @counter.on(numbers)
    async def counted(ctx: ObjectContext, n: int) -> None:
        ctx.set(count, ctx.get(count) + n)
        ctx.publish(totals, f"{ctx.key}={ctx.get(count)}", key=ctx.key)

    @counter.handler
    async def add(ctx: ObjectContext, n: int) -> int:
        ctx.set(count, ctx.get(count) + n)
        return ctx.get(count)

    @counter.handler(name="step")
    async def doubled(ctx: ObjectContext, n: int) -> int:
        ctx.set(count, ctx.get(count) + await double(n))
        return ctx.get(count)

    @counter.shared
    async def total(ctx: SharedContext) -> int:
        return ctx.get(count)

    @app.handler
    async def ping(_: Context) -> str:
        return "pong"

    return app
