"""The fast path: a record comes, state changes, records go; nothing of it stands in the journal."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from odradek import App, Context, ObjectContext, SharedContext, State, TerminalError
from odradek_runtime.log.port import Output
from tests.engine.harness import Rig


@dataclass
class Order:
    id: str
    amount: int


def shop(shards: int = 2) -> App:
    """Adds up what each customer spends and passes each order on."""
    app = App("shop", shards=shards)
    orders, invoices = app.topic("orders", value=Order), app.topic("invoices", value=Order)
    customer, spent = app.object("customer"), State("spent", int, default=0)

    @customer.on(orders)
    async def ordered(ctx: ObjectContext, order: Order) -> None:
        ctx.set(spent, ctx.get(spent) + order.amount)
        ctx.publish(invoices, order, key=ctx.key)

    @customer.shared
    async def total(ctx: SharedContext) -> int:
        return ctx.get(spent)

    return app


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


def test_only_the_last_value_of_a_key_in_an_epoch_reaches_the_changelog(rig: Rig) -> None:
    app = shop(1)
    rig.start(app, epoch_linger_s=0.3)
    rig.publish("orders", *[("bob", {"id": str(n), "amount": 1}) for n in range(100)])
    rig.until(lambda: len(rig.records("invoices")) == 100)
    changes = [m.value() for m in rig.records("shop.state")]
    assert len(changes) < 20
    assert changes[-1] == b"100"


def test_the_state_topic_is_readable_by_anybody(rig: Rig) -> None:
    app = shop()
    rig.start(app)
    rig.publish("orders", ("a/b%", {"id": "1", "amount": 7}))
    rig.until(lambda: rig.records("shop.state"))
    (record,) = rig.records("shop.state")
    assert (record.key(), record.value()) == (b"customer/a%2Fb%25/spent", b"7")
    assert [name for name, _ in record.headers() or ()] == ["odradek"]


def test_state_words(rig: Rig) -> None:
    app = App("words", shards=1)
    thing, tags = app.object("thing"), State("tags", list[str], default=list)
    note = State("note", str)

    @thing.handler
    async def tag(ctx: ObjectContext, text: str) -> list[str]:
        kept = ctx.get(tags)
        kept.append(text)
        assert text not in ctx.get(tags), "get gives a fresh value"
        ctx.set(tags, kept)
        ctx.set("a/b%\n", 1)
        ctx.set(note, text)
        await ctx.sleep(0.02)
        assert ctx.names() == ["a/b%\n", "note", "tags"]
        return ctx.get(tags)

    @thing.handler
    async def forget(ctx: ObjectContext, names: list[str]) -> list[str]:
        before = list(ctx.names())
        await ctx.sleep(0.02)
        ctx.clear(*names)
        await ctx.sleep(0.02)
        return [*before, "-", *ctx.names()]

    @thing.handler
    async def unset(ctx: ObjectContext) -> bool:
        ctx.set(note, None)
        return ctx.get(note) is None and "note" not in ctx.names()

    rig.start(app)
    assert rig.call("thing/tag", "x", key="one") == ["x"]
    assert rig.call("thing/tag", "y", key="one") == ["x", "y"]
    assert rig.call("thing/tag", "z", key="onet") == ["z"], "a key that begins like another is another"
    assert rig.call("thing/unset", key="one") is True
    assert rig.call("thing/forget", ["tags"], key="one") == ["a/b%\n", "tags", "-", "a/b%\n"]
    assert rig.call("thing/forget", [], key="one") == ["a/b%\n", "-"]
    assert rig.call("thing/forget", [], key="onet") == ["a/b%\n", "note", "tags", "-"]
    assert rig.changelog("words.state") == {}


def test_keys_that_are_no_text(rig: Rig) -> None:
    app = shop()
    rig.start(app)
    rig.publish("orders", (b"\xff\x00/", {"id": "1", "amount": 7}), (b"\xff\x00/", {"id": "2", "amount": 5}))
    rig.until(lambda: len(rig.records("invoices")) == 2)
    assert [m.key() for m in rig.records("invoices")] == [b"\xff\x00/"] * 2
    assert rig.changelog("shop.state")[b"customer/\xff\x00%2F/spent"] == b"12"


@dataclass
class Attempt:
    """One publish to try."""

    topic: str
    size: int = 1
    partition: int | None = None
    seconds_ahead: float | None = None
    key: str | None = "k"


@pytest.mark.parametrize(
    ("attempt", "code", "says"),
    [
        (Attempt("out", size=1_100_000), 413, "over the limit of out"),
        (Attempt("small", size=600), 413, "over the limit of small, 500 bytes"),
        (Attempt("out", partition=4), 400, "partitions 0 to 3, not 4"),
        (Attempt("out", partition=-1), 400, "partitions 0 to 3, not -1"),
        (Attempt("out", seconds_ahead=7200), 400, "up to one hour from now"),
        (Attempt("compacted", key=None), 400, "compacted: every record needs a key"),
    ],
)
def test_publish_is_checked_where_it_is_called(rig: Rig, attempt: Attempt, code: int, says: str) -> None:
    app = App("checks", shards=1)

    @app.handler
    async def put(ctx: Context, what: Attempt) -> None:
        topic = app.topic(what.topic)
        moment = None
        if what.seconds_ahead is not None:
            moment = datetime.now(UTC) + timedelta(seconds=what.seconds_ahead)
        ctx.publish(topic, b"fine", key="before")
        ctx.publish(topic, b"x" * what.size, key=what.key, partition=what.partition, timestamp=moment)

    rig.log.create_topic("out", 4, {})
    rig.log.create_topic("small", 1, {"max.message.bytes": "500"})
    rig.log.create_topic("compacted", 1, {"cleanup.policy": "compact"})
    rig.start(app)
    reply = rig.ask("checks/put", attempt).reply()
    assert reply.failure is not None
    assert reply.failure.code == code
    assert says in reply.failure.message
    assert [m.value() for m in rig.records(attempt.topic)] == [b"fine"], "a terminal error keeps what was done before"


def test_an_unknown_topic_is_waited_for_where_the_log_does_not_create(rig: Rig) -> None:
    """Kafka does not make topics by accident; the invocation goes on when somebody has made it."""
    app = App("absent", shards=1)

    @app.handler
    async def put(ctx: Context) -> str:
        ctx.publish(app.topic("later"), b"x")
        return "done"

    rig.start(app, bootstrap_servers="the embedded log plays Kafka")
    asked = rig.ask("absent/put")
    rig.until(lambda: any("later does not exist" in i.reason for i in rig.invocations(app)))
    rig.log.create_topic("later", 1, {})
    assert asked.value() == "done"
    assert len(rig.records("later")) == 1


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
