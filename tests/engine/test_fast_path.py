"""The fast path: a record comes, state changes, records go; nothing of it stands in the journal."""

from datetime import UTC, datetime

from odradek import App, Context, ObjectContext, TerminalError
from odradek_runtime.log.port import Output
from tests.engine.harness import Rig
from tests.engine.shop import Order, shop


def test_state_and_outputs_and_no_journal(rig: Rig) -> None:
    app = shop()
    rig.start(app)
    rig.publish("orders", *[(f"k{n % 5}", {"id": str(n), "amount": n}) for n in range(100)])
    rig.until(lambda: len(rig.records("invoices")) == 100)
    rig.settled(app)
    assert rig.journal(app) == {}
    for key in range(5):
        mine = [n for n in range(100) if n % 5 == key]
        assert rig.call("customer/total", key=f"k{key}") == sum(mine)
        assert rig.state(app, "customer", f"k{key}", "spent") == sum(mine)
        told = [m.value() for m in rig.records("invoices") if m.key() == f"k{key}".encode()]
        assert told == [b'{"id":"%d","amount":%d}' % (n, n) for n in mine], "in the order of the key"


def test_the_record_is_at_hand_before_and_after_a_wait(rig: Rig) -> None:
    app = App("origin", shards=1)
    inputs = app.topic("in")
    seen: list[tuple[object, ...]] = []

    @app.on(inputs)
    async def look(ctx: Context, value: bytes) -> None:
        for _ in range(2):
            record = ctx.record
            seen.append((record.topic, record.partition, record.offset, record.key, tuple(record.headers)))
            seen.append((record.timestamp, value, ctx.headers["who"]))
            await ctx.sleep(0.01)

    @app.handler
    async def called(ctx: Context) -> None:
        try:
            _ = ctx.record
        except LookupError as error:
            raise TerminalError(str(error), code=418) from error

    rig.log.create_topic("in", 3, {})
    rig.start(app)
    publisher = rig.log.publisher("p")
    publisher.publish([Output("in", 2, b"k", b"v", [("Who", b"me"), ("none", None)], 1_600_000_000_000)], 1)
    publisher.close()
    rig.until(lambda: len(seen) >= 4 and rig.invocations(app) == [])
    assert set(seen) == {
        ("in", 2, 0, b"k", (("Who", b"me"), ("none", None))),
        (datetime.fromtimestamp(1_600_000_000, UTC), b"v", "me"),
    }
    failure = rig.ask("origin/called").reply().failure
    assert failure is not None and (failure.code, "was not started by a record" in failure.message) == (418, True)


def test_several_handlers_of_one_topic_and_a_topic_read_by_key_of_the_value(rig: Rig) -> None:
    app = App("two", shards=2)
    orders, seen = app.topic("orders", value=Order), app.topic("seen", value=str)
    customer = app.object("customer")

    def by_id(order: Order) -> str:
        return order.id

    @customer.on(orders, key=by_id)
    async def rekeyed(ctx: ObjectContext, order: Order) -> None:
        ctx.set("count", (ctx.get("count", int) or 0) + order.amount)

    @app.on(orders)
    async def also(ctx: Context, order: Order) -> None:
        ctx.publish(seen, order.id)

    rig.start(app)
    rig.publish("orders", *[(f"other{n}", {"id": f"id{n % 3}", "amount": 1}) for n in range(30)])
    rig.until(lambda: len(rig.records("seen")) == 30)
    rig.settled(app)
    assert [rig.state(app, "customer", f"id{n}", "count") for n in range(3)] == [10, 10, 10]
