"""An app that sleeps and sends with delays."""

from datetime import timedelta

from odradek import App, Context, ObjectContext
from tests.engine.harness import Rig


def sleepy() -> App:
    app = App("sleepy", shards=2)
    out, thing = app.topic("out", value=str), app.object("thing")

    @app.handler
    async def nap(ctx: Context, seconds: float) -> float:
        begun = ctx.now()
        await ctx.sleep(seconds)
        return (ctx.now() - begun).total_seconds()

    @thing.handler
    async def note(ctx: ObjectContext, text: str) -> None:
        ctx.publish(out, text, key=ctx.key)

    @thing.handler
    async def hold(ctx: ObjectContext, seconds: float) -> None:
        ctx.publish(out, "hold", key=ctx.key)
        await ctx.sleep(seconds)
        ctx.publish(out, "held", key=ctx.key)

    @app.handler
    async def remind(ctx: Context, seconds: float) -> list[str]:
        later = ctx.send(note, "later", key="k", delay=timedelta(seconds=seconds))
        at = ctx.send(note, "at", key="k", delay=ctx.now() + timedelta(seconds=2 * seconds))
        now = ctx.send(note, "now", key="k")
        past = ctx.send(note, "past", key="k", delay=ctx.now() - timedelta(seconds=5))
        return [later, at, now, past]

    return app


def texts(rig: Rig) -> list[str]:
    return [(m.value() or b"").decode() for m in rig.records("out")]
