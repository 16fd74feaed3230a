"""What is counted of each handler: once for each invocation, once its epoch is durable, whichever way a record takes."""

from odradek import App, Context, ObjectContext, RetryPolicy, TerminalError
from tests.engine.harness import Rig


def make_app() -> App:
    app = App("counts", shards=2)
    numbers = app.topic("numbers", value=int)
    cell = app.object("cell")

    @cell.on(numbers)
    async def add(ctx: ObjectContext, n: int) -> None:
        if n < 0:
            raise TerminalError("no")
        if n == 7:
            await ctx.sleep(0.01)

    @app.handler(retry=RetryPolicy(initial=0.001, max_attempts=2), on_exhausted="fail")
    async def fails(ctx: Context) -> None:
        raise ValueError("again")

    @app.handler
    async def fine(ctx: Context) -> int:
        return 1

    assert all(callable(handler) for handler in (add, fails, fine))
    return app


def test_each_handler_is_counted_by_its_name(rig: Rig) -> None:
    app = make_app()
    rig.start(app)
    rig.publish("numbers", *[(f"k{n % 3}", n) for n in range(20)], ("k", -1), ("k", "text"))
    rig.settled(app)
    assert rig.call("counts/fine") == 1
    assert rig.ask("counts/fails").reply().failure is not None
    counted = rig.worker.metrics.handlers
    rig.until(lambda: counted["cell/add"].seconds.total >= 1)
    rig.until(lambda: counted["counts/fails"].failed)  # whoever waits is answered first
    assert (counted["cell/add"].started, counted["cell/add"].failed, counted["cell/add"].dead_letters) == (22, 1, 2)
    fails = counted["counts/fails"]
    assert (fails.started, fails.retries, fails.failed, fails.seconds.total) == (1, 1, 1, 1)
    assert (counted["counts/fine"].started, counted["counts/fine"].failed) == (1, 0)
