"""Who resolves, or rejects, waits for nothing; what it does is journaled, and happens although it ends at once."""

from odradek import App, Context, TerminalError
from tests.engine.harness import Rig


def test_it_happens_though_its_invocation_fails_at_once_and_once_though_it_is_repeated(rig: Rig) -> None:
    app = App("give", shards=2)
    runs: list[int] = []

    @app.handler
    async def wait(ctx: Context) -> int:
        hook = ctx.awakeable(int)
        ctx.send(give, hook.id)
        return await hook

    @app.handler
    async def give(ctx: Context, id_: str) -> None:
        runs.append(1)
        if len(runs) < 3:
            ctx.resolve(id_, 100)  # dropped with its attempt
            raise OSError
        ctx.resolve(id_, 7)
        await ctx.sleep(0.01)
        raise TerminalError("no more")

    rig.start(app)
    assert rig.call("give/wait") == 7


def test_the_code_of_a_rejection_is_an_error_code(rig: Rig) -> None:
    app = App("give", shards=1)

    @app.handler
    async def wrong(ctx: Context) -> str:
        try:
            ctx.reject("awk", "no", code=200)
        except TerminalError as error:
            return error.message
        return "taken"

    rig.start(app)
    assert rig.call("give/wrong") == "reject: code must be an HTTP error status, 400 to 599, not 200"
