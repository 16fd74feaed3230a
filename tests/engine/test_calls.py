"""Calls and sends: results and errors come back, wherever the callee lives, and once."""

import os
from dataclasses import dataclass

import pytest

from odradek import App, Call, Context, ObjectContext, TerminalError
from odradek_runtime.core.records.request import Invoke
from odradek_runtime.routing import fresh_id
from tests.engine.harness import Rig


@dataclass
class Sum:
    of: int
    parts: list[int]


def arithmetic(shards: int = 4) -> App:  # noqa: C901  (many handlers, none of them complex)
    app = App("sums", shards=shards)
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
    async def leaves(ctx: Context) -> str:
        ctx.call(add, 5, key="left")
        return "gone"

    @app.handler
    async def headers(ctx: Context) -> str:
        return await ctx.call(what_headers, headers={"X-One": "1"})

    @app.handler
    async def what_headers(ctx: Context) -> str:
        return ctx.headers["x-one"]

    return app


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


def test_a_request_with_an_idempotency_key_is_answered_from_what_is_stored(disk_rig: Rig) -> None:
    rig, app = disk_rig, arithmetic()
    rig.start(app)
    first = rig.ask("cell/add", 7, key="k", idempotency_key="once")
    assert first.value() == 7
    assert rig.ask("cell/add", 7, key="k", idempotency_key="once").value() == 7
    assert rig.ask("cell/add", 7, key="k", idempotency_key="once", wait=False).reply().status == "previously_accepted"
    rig.restart(app, crash=True)
    again = rig.ask("cell/add", 7, key="k", idempotency_key="once")
    assert (again.value(), again.id) == (7, first.id)
    failed = [rig.ask("cell/refuse", key="k", idempotency_key="no").reply().failure for _ in range(2)]
    assert failed[0] == failed[1] is not None
    rig.later(86_401)
    rig.until(lambda: not rig.invocations(app))
    assert rig.ask("cell/add", 7, key="k", idempotency_key="once").value() == 14, "forgotten after a day"


def test_one_way_requests_attach_and_look(rig: Rig) -> None:
    app = arithmetic()
    rig.start(app)
    sent = rig.ask("cell/add", 3, key="k", wait=False)
    assert sent.reply().status == "accepted"
    assert rig.attach(sent.id).value() == 3
    assert rig.attach(sent.id, wait=False).value() == 3
    absent = fresh_id(b"k", os.urandom(12))
    assert rig.attach(absent).reply().status == "not_found"
    twice = Invoke(fresh_id(b"k", os.urandom(12)), "cell/add", b"k", b"4", {}, wait=True)
    assert [rig.post(twice).value() for _ in range(2)] == [7, 7], "the same request sent twice is the same invocation"


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
