"""What is counted of each handler: once for each invocation, once its epoch is durable, whichever way a record takes."""

from contextlib import suppress

from odradek import App, Context, ObjectContext, RetryPolicy, TerminalError
from odradek_runtime.core.metrics import NO_HANDLER
from odradek_runtime.log.port import Transaction
from tests.engine.faults import Verdict
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


def make_odd() -> App:
    """Whatever is counted beside starts and ends: dead letters, skipped and paused records, attempts, attempts of steps."""
    app = App("odd", shards=1)
    letters, skipped = app.topic("odd-letters", value=int), app.topic("odd-skipped", value=int)
    paused, tries = app.topic("odd-paused", value=int), app.topic("odd-tries", value=int)

    @app.on(letters)
    async def dies(ctx: Context, n: int) -> None:
        raise TerminalError("no")

    @app.on(skipped, on_error="skip")
    async def skips(ctx: Context, n: int) -> None:
        raise TerminalError("no")

    @app.on(paused, on_error="pause")
    async def pauses(ctx: Context, n: int) -> None:
        raise TerminalError("no")

    def step() -> None:
        raise OSError("never")

    @app.on(tries, retry=RetryPolicy(initial=0.001, max_attempts=3))
    async def again(ctx: Context, n: int) -> None:
        with suppress(TerminalError):
            await ctx.run(step, retry=RetryPolicy(initial=0.001, max_attempts=3))
        raise OSError("never")

    assert all(callable(handler) for handler in (dies, skips, pauses, again))
    return app


def test_what_a_refused_epoch_did_is_not_counted(rig: Rig) -> None:
    app = make_odd()
    rig.start(app)
    refused = list[int]()

    def judge(transaction: Transaction) -> Verdict:
        """Every other epoch that has anything but positions in it is refused."""
        busy = len(transaction.outputs) + sum(len(records) - 1 for records in transaction.journal.values())
        if not busy or len(refused) % 2 or len(refused) > 20:
            refused.append(0) if busy else None
            return "pass"
        refused.append(transaction.epoch)
        return "aborted"

    rig.log.judge = judge
    for topic in ("odd-letters", "odd-skipped", "odd-paused", "odd-tries"):
        rig.publish(topic, ("k", 1))
    rig.settled(app)
    rig.until(lambda: {one.status for one in rig.invocations(app)} == {"paused"})  # all others have ended
    rig.publish("odd.commands", ("k", b"nonsense"))
    rig.until(lambda: rig.worker.metrics.dead_letters >= 3)
    counted = rig.worker.metrics.handlers
    assert sum(map(bool, refused)) >= 3
    assert counted["odd/dies"].dead_letters == counted[NO_HANDLER].dead_letters == 1
    assert (counted["odd/skips"].skipped, counted["odd/pauses"].paused) == (1, 1)
    tried = counted["odd/again"]  # how often is in its entry, and in its step's timer
    assert (tried.retries, tried.step_retries, tried.dead_letters) == (2, 2, 1)
