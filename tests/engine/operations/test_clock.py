"""The clock, chance and ids: what a handler observes of them is the same in every replay."""

from datetime import datetime

from odradek import App, Context
from tests.engine.harness import Rig


def test_what_a_handler_observes_is_the_same_in_every_replay(rig: Rig) -> None:
    app = App("observed", shards=1)
    seen: list[tuple[object, ...]] = []

    @app.handler
    async def look(ctx: Context) -> int:
        first = (ctx.now(), ctx.random.random(), ctx.uuid(), ctx.uuid(), ctx.invocation_id, ctx.headers["x-who"])
        seen.append(first)
        await ctx.sleep(0.01)
        second = (ctx.now(), ctx.random.random(), ctx.uuid())
        await ctx.sleep(0.01)
        assert first[2] != first[3] != second[2]
        assert isinstance(first[0], datetime) and isinstance(second[0], datetime) and first[0] <= second[0]
        return len(set(seen))

    rig.start(app)
    assert rig.ask("observed/look", headers={"x-who": "me"}).value() == 1
    assert rig.ask("observed/look", headers={"x-who": "me"}).value() == 2, "another invocation sees something else"
