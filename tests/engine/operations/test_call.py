"""Calls: results and errors come back, wherever the callee lives, and once; sends to the same key keep their place among them."""

import pytest

from odradek import App, Context, ObjectContext, SharedContext, TerminalError
from tests.engine.harness import Rig
from tests.engine.sums import arithmetic


def test_fan_out_to_all_shards(rig: Rig) -> None:
    app = arithmetic()
    rig.start(app)
    assert rig.call("sums/fan_out", 50) == sum(range(50))
    assert rig.call("sums/fan_out", 50) == 2 * sum(range(50))
    rig.settled(app)
    assert not [k for k in rig.journal(app) if k[:1] == b"j"]
    assert {i.target for i in rig.invocations(app)} <= {"sums/fan_out"}, "callees leave nothing behind"


def test_a_chain_of_calls(rig: Rig) -> None:
    rig.start(arithmetic())
    assert rig.call("sums/chain", 20) == 21


def test_calls_and_sends_to_one_key_arrive_in_the_order_made(rig: Rig) -> None:
    app = arithmetic()
    rig.start(app, epoch_events=50)
    assert rig.call("sums/ordered", 200) == sum(range(200))
    assert [(m.value() or b"").decode() for m in rig.records("out")] == [str(n) for n in range(200)]


def test_errors_reach_the_caller(rig: Rig) -> None:
    app = arithmetic()
    rig.start(app, bootstrap_servers="the embedded log plays Kafka")
    told = rig.call("sums/errors")
    assert told[0] == "422 no more {'cell': 'a'}"
    assert told[1] == "422 no more {'cell': 'b'}"
    assert told[2].startswith("404 there is no handler 'cell/none'")
    assert told[3] == "400 cell/add needs key="
    assert told[4] == "400 sums/chain takes no key"
    assert "nowhere" in told[5] and "has not been started yet" in told[5]
    assert rig.log.topic("nowhere.commands") is None, "no topic is made by accident"


def test_bad_arguments_and_results_name_the_field(rig: Rig) -> None:
    app = arithmetic()
    rig.start(app)
    assert rig.call("sums/bad_argument").startswith("400 $: ")
    assert rig.call("sums/bad_argument").endswith(" $")
    assert rig.call("sums/bad_result") == "500"
    failure = rig.ask("cell/add", b"{", key="k").reply().failure
    assert failure is not None and (failure.code, failure.metadata["field"]) == (400, "$")


def test_an_idempotency_key_makes_one_invocation(rig: Rig) -> None:
    app = arithmetic()
    rig.start(app)
    assert rig.call("sums/once", "x") == [1, 1, 1]
    assert rig.call("sums/once", "x") == [1, 1, 1], "the stored answer"
    assert rig.call("sums/once", "y") == [2, 2, 2]


def test_an_unawaited_call_still_runs(rig: Rig) -> None:
    app = arithmetic()
    rig.start(app)
    assert rig.call("sums/leaves") == "gone"
    rig.until(lambda: rig.state(app, "cell", "left", "total") == 5)


def test_headers_travel(rig: Rig) -> None:
    rig.start(arithmetic())
    assert rig.call("sums/headers") == "1"


@pytest.mark.parametrize("epoch_events", [1, 3, 20_000])
def test_small_epochs_change_nothing(rig: Rig, epoch_events: int) -> None:
    app = arithmetic()
    rig.start(app, epoch_events=epoch_events)
    assert rig.call("sums/fan_out", 10) == sum(range(10))
    assert rig.call("sums/chain", 4) == 5


def callee() -> App:
    app = App("stock", shards=3)
    shelf = app.object("shelf")

    @shelf.handler
    async def take(ctx: ObjectContext, n: int) -> int:
        left = ctx.get("left", int, 10) - n
        if left < 0:
            raise TerminalError("empty", code=409, metadata={"shelf": ctx.key})
        ctx.set("left", left)
        return left

    return app


def test_another_apps_handler(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    app = App("front", shards=2)

    @app.handler
    async def order(ctx: Context, n: int) -> str:
        try:
            left = await ctx.call("stock/shelf/take", n, key="A1", returns=int)
        except TerminalError as error:
            return f"{error.code} {error.message} {error.metadata['shelf']}"
        ctx.send("stock/shelf/take", 1, key="A2")
        return f"left {left}"

    rig.start(app, bootstrap_servers="the embedded log plays Kafka")
    waiting = rig.ask("front/order", 4)
    rig.until(lambda: any("has not been started yet" in i.reason for i in rig.invocations(app)))
    assert "topic stock.commands does not exist: start the app stock, which makes its own topics" in caplog.text
    other = callee()
    rig.start(other)
    assert waiting.value() == "left 6"
    rig.workers.reverse()  # requests go to the front again
    assert rig.call("front/order", 6) == "left 0"
    assert rig.call("front/order", 1) == "409 empty A1"
    rig.until(lambda: rig.state(other, "shelf", "A2", "left") == 8)
    rig.settled(app)
    rig.settled(other)
    assert not [k for k in rig.journal(other) if k[:1] in b"ijlq"], "the callee keeps nothing"


def test_a_call_to_ones_own_key_fails_instead_of_waiting_for_ever(rig: Rig) -> None:
    app = App("self", shards=2)
    thing = app.object("thing")

    @thing.handler
    async def go(ctx: ObjectContext, other: str) -> str:
        try:
            return await ctx.call(add, key=other)
        except TerminalError as error:
            return f"{error.code} {error.message}"

    @thing.handler
    async def add(ctx: ObjectContext) -> str:
        return "added"

    @thing.shared
    async def look(ctx: SharedContext) -> str:
        return "looked"

    @thing.handler
    async def look_at_oneself(ctx: ObjectContext) -> str:
        ctx.send(add, key=ctx.key)
        return await ctx.call(look, key=ctx.key)

    rig.start(app)
    assert rig.call("thing/go", "k", key="k").startswith("409 thing/add with key 'k' is this invocation's own key")
    assert rig.call("thing/go", "other", key="k") == "added"
    assert rig.call("thing/look_at_oneself", key="k") == "looked"
