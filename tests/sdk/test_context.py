"""Contexts: values to bytes for the engine and back, nothing more."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest

from odradek import (
    App,
    Context,
    Name,
    Object,
    ObjectContext,
    Record,
    Service,
    SharedContext,
    State,
    TerminalError,
    Topic,
    Workflow,
    WorkflowContext,
)
from odradek._errors import Refused
from odradek._port import AttachTo, AwakeableOf, Origin, ResolveOf

from .notes import Notes


@dataclass
class Order:
    id: str
    amount: int


customer = Object("customer")
stock = Service("stock")


@customer.handler
async def ordered(ctx: ObjectContext, order: Order) -> int:
    return order.amount


@customer.shared
async def total(ctx: SharedContext) -> int:
    return ctx.get("total", int, 0)


@stock.handler
async def reserve(ctx: Context, sku: str, /) -> Order | None:
    return None


@stock.handler
async def count(ctx: Context, least: int = 0) -> int:
    return least


def on_loop(work: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return work()

    return asyncio.run(main())


def test_state_is_typed_defaulted_fresh_and_deleted() -> None:
    ops = Notes()
    ctx = ObjectContext(ops, "customer/ordered")
    spent, last, tags = State("spent", int, default=0), State("last", Order), State("tags", list[str], default=["new"])
    assert (ctx.get(spent), ctx.get(last), ctx.get(tags)) == (0, None, ["new"])
    ctx.get(tags).append("mine")
    assert ctx.get(tags) == ["new"]
    ctx.set(spent, 3)
    ctx.set(last, Order("1", 2))
    assert ops.state == {"spent": b"3", "last": b'{"id":"1","amount":2}'}
    assert (ctx.get(spent), ctx.get(last)) == (3, Order("1", 2))
    assert ctx.get(last) is not ctx.get(last)
    assert ctx.names() == ["last", "spent"]
    ctx.set(last, None)
    assert ops.state == {"spent": b"3"}
    ctx.clear(spent, "never")
    assert ops.state == {}
    ctx.set(spent, 1)
    ctx.clear()
    assert ops.state == {}


def test_a_state_that_admits_none_keeps_it() -> None:
    ops = Notes()
    ctx = ObjectContext(ops, "a/b")
    limit = State[int | None]("limit", int | None, default=5)
    assert ctx.get(limit) == 5
    ctx.set(limit, None)
    assert ops.state == {"limit": b"null"}
    assert ctx.get(limit) is None


def test_defaults_may_be_made() -> None:
    ctx = ObjectContext(Notes(), "a/b")
    made = State("made", list[int], default=list)
    assert ctx.get(made) == []
    assert ctx.get(made) is not ctx.get(made)


def test_state_by_name() -> None:
    ops = Notes()
    ctx = ObjectContext(ops, "a/b")
    assert (ctx.get("n", int), ctx.get("n", int, 7)) == (None, 7)
    ctx.set("n", {"a": 1})
    ctx.set("raw", b"\xff")
    assert ops.state == {"n": b'{"a":1}', "raw": b"\xff"}
    assert ctx.get("n", dict[str, int]) == {"a": 1}
    assert ctx.get("raw", bytes) == b"\xff"


def test_state_of_another_type_is_named() -> None:
    ops = Notes()
    ops.state = {"last": b'{"id":1,"amount":2}'}
    ctx = ObjectContext(ops, "customer/ordered")
    message = r"state 'last' of customer/ordered, key 'bob', is not Order: \$.id: Expected `str`, got `int`"
    with pytest.raises(ValueError, match=message):
        ctx.get(State("last", Order))
    with pytest.raises(ValueError, match=message):
        ctx.get("last", Order)


def test_declared_names_are_not_empty() -> None:
    with pytest.raises(ValueError, match="State: the name is empty"):
        State("", int)
    with pytest.raises(ValueError, match="Name: the name is empty"):
        Name("", int)


def test_publish_encodes_by_the_topic() -> None:
    app, ops = App("shop"), Notes()
    ctx = Context(ops, "a/b")
    ctx.publish(app.topic("orders", value=Order), Order("1", 2), key="bob")
    ctx.publish(app.topic("orders", value=Order), None, key="bob")
    ctx.publish(app.topic("raw"), b"\xff")
    ctx.publish(app.topic("text", key=int, value=str), "ü", key=5, headers={"a": "b", "c": b"\xff"}, partition=2)
    ctx.publish(app.topic("raw"), b"x", timestamp=datetime(2026, 1, 1, tzinfo=UTC))
    assert ops.published == [
        ("orders", b"bob", b'{"id":"1","amount":2}', None, None, None),
        ("orders", b"bob", None, None, None, None),
        ("raw", None, b"\xff", None, None, None),
        ("text", b"5", "ü".encode(), [("a", b"b"), ("c", b"\xff")], 2, None),
        ("raw", None, b"x", None, None, 1767225600000),
    ]


@pytest.mark.parametrize(
    "type_", [bytes, bytes | None, str, str | None, int, int | None, Order | None, list[int] | None, Any, object], ids=str
)
def test_none_is_a_tombstone_whatever_the_topics_type(type_: Any) -> None:
    """Not `null`, which compaction would keep for ever: a key that was deleted would be there again for who reads the topic."""
    app, ops = App("shop"), Notes()
    Context(ops, "a/b").publish(app.topic("orders", value=type_), None, key="bob")
    assert ops.published == [("orders", b"bob", None, None, None, None)]


def test_publish_refuses_what_the_topic_does_not_carry() -> None:
    app, ctx = App("shop"), Context(Notes(), "a/b")
    with pytest.raises(TypeError, match=r"topic 'orders': key: \$: expected str, got int"):
        ctx.publish(app.topic("orders", value=Order), Order("1", 2), key=3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"topic 'raw': value: \$: expected bytes, got str"):
        ctx.publish(app.topic("raw"), "text")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="has no time zone"):
        ctx.publish(app.topic("raw"), b"", timestamp=datetime(2026, 1, 1))  # noqa: DTZ001  (what is refused)


def test_keys_are_text_also_when_they_are_not_utf8() -> None:
    ops = Notes(key=b"b\xffb")
    ctx = SharedContext(ops, "a/b")
    ctx.publish(Topic[str, bytes]("t", str, bytes), b"", key=ctx.key)
    assert ops.published[0][1] == b"b\xffb"


def test_time_randomness_and_ids_come_from_the_engine() -> None:
    ctx = Context(Notes(), "a/b")
    assert ctx.now() == datetime(2023, 11, 14, 22, 13, 20, 123000, UTC)
    assert ctx.random.random() == Random(42).random()
    assert ctx.random is ctx.random
    assert ctx.uuid() == UUID("00010203-0405-4607-8809-0a0b0c0d0e0f")
    assert (ctx.invocation_id, ctx.headers) == ("inv-1", {"x": "y"})


def test_the_record_is_there_if_one_started_it() -> None:
    origin = Origin("orders", 1, 7, 1_700_000_000_123, b"k", (("h", b"v"),))
    record = Context(Notes(origin=origin), "a/b").record
    assert record == Record("orders", 1, 7, 1_700_000_000_123, b"k", (("h", b"v"),))
    assert record.timestamp == datetime(2023, 11, 14, 22, 13, 20, 123000, UTC)
    with pytest.raises(LookupError, match=r"ctx\.record: a/b was not started by a record"):
        _ = Context(Notes(), "a/b").record


@pytest.mark.parametrize("ms", [2**63 - 1, -(2**63), 1_700_000_000_000_000, 1_700_000_000_000_000_000])
def test_a_time_that_is_no_date_is_told_when_it_is_asked_for(ms: int) -> None:
    """Microseconds, nanoseconds: everything else of the record is there."""
    record = Context(Notes(origin=Origin("orders", 1, 7, ms, b"k", ())), "a/b").record
    assert (record.offset, record.timestamp_ms) == (7, ms)
    with pytest.raises(TerminalError, match=rf"orders\[1\]@7 says {ms} ms, which is no date"):
        _ = record.timestamp


@pytest.mark.parametrize(
    ("ms", "date"), [(0, datetime(1970, 1, 1, tzinfo=UTC)), (-1, datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC))]
)
def test_times_before_computers_are_dates(ms: int, date: datetime) -> None:
    assert Context(Notes(origin=Origin("orders", 1, 7, ms, b"k", ())), "a/b").record.timestamp == date


def test_the_logger_is_silent_during_replay(caplog: pytest.LogCaptureFixture) -> None:
    ops = Notes()
    ctx = Context(ops, "customer/ordered")
    with caplog.at_level(logging.INFO):
        ctx.logger.info("once %d", 1)
        ctx.logger.debug("below the level")
        ops.replaying = True
        ctx.logger.error("again")
    assert [(r.name, r.getMessage(), r.__dict__["invocation_id"]) for r in caplog.records] == [
        ("odradek.customer.ordered", "once 1", "inv-1")
    ]
    assert ctx.logger is ctx.logger


def test_sleep_takes_seconds_or_a_timedelta() -> None:
    ops = Notes()
    ctx = Context(ops, "a/b")
    on_loop(lambda: (ctx.sleep(3), ctx.sleep(timedelta(minutes=1))))
    assert ops.sleeps == [3.0, 60.0]
    with pytest.raises(ValueError, match=r"ctx\.sleep: delay must be at least 0"):
        ctx.sleep(-1)


def test_call_by_function_and_by_name() -> None:
    ops = Notes()
    ctx = Context(ops, "a/b")
    on_loop(lambda: ctx.call(ordered, Order("1", 2), key="bob", idempotency_key="i", headers={"h": "v"}))
    on_loop(lambda: ctx.call(reserve, "A1"))
    on_loop(lambda: ctx.call(count))
    on_loop(lambda: ctx.call("other/thing", {"a": 1}, key="k", returns=Order))
    on_loop(lambda: ctx.call("other/raw", b"\xff", returns=bytes))
    assert [(target, key, payload, extra, headers) for target, key, payload, _, extra, headers in ops.calls] == [
        ("customer/ordered", b"bob", b'{"id":"1","amount":2}', "i", {"h": "v"}),
        ("stock/reserve", None, b'"A1"', None, {}),
        ("stock/count", None, b"", None, {}),
        ("other/thing", b"k", b'{"a":1}', None, {}),
        ("other/raw", None, b"\xff", None, {}),
    ]
    decoders = [decode for _, _, _, decode, _, _ in ops.calls]
    assert decoders[0](b"5") == 5
    assert decoders[1](b"null") is None
    assert decoders[3](b'{"id":"1","amount":2}') == Order("1", 2)
    assert decoders[4](b"\xfe") == b"\xfe"


def test_send_takes_a_delay_or_a_time() -> None:
    ops = Notes()
    ctx = Context(ops, "a/b")
    assert ctx.send(reserve, "A1") == "inv-3"
    ctx.send(ordered, Order("1", 2), key="k", delay=3)
    ctx.send(total, key="k", delay=timedelta(days=1))
    ctx.send("other/thing", delay=datetime(2026, 1, 1, tzinfo=UTC))
    assert [(target, payload, delay_s, at_ms) for target, _, payload, delay_s, at_ms, _, _ in ops.sends] == [
        ("stock/reserve", b'"A1"', None, None),
        ("customer/ordered", b'{"id":"1","amount":2}', 3.0, None),
        ("customer/total", b"", 86400.0, None),
        ("other/thing", b"", None, 1767225600000),
    ]


async def plain() -> None: ...


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((ordered, Order("1", 2)), {}, "customer/ordered runs for one key: pass key="),
        ((reserve, "A1"), {"key": "k"}, "stock/reserve belongs to a service, which has no keys"),
        ((reserve,), {}, "stock/reserve takes an argument"),
        ((total, 3), {"key": "k"}, "customer/total takes no argument"),
        ((total,), {"key": "k", "returns": int}, "returns= is for a handler given by name"),
        (("other/thing",), {}, "pass returns="),
        (("thing",), {"returns": int}, "write 'service/handler'"),
        (("a/b/c/d",), {"returns": int}, "write 'service/handler'"),
        ((plain,), {}, "is not a handler: decorate it"),
        ((total,), {"key": 3}, r"a key: \$: must be a str, not 3"),
    ],
)
def test_calls_that_cannot_be_meant_are_refused(arguments: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Context(Notes(), "a/b").call(*arguments, **options)


def test_values_that_cannot_be_meant_are_refused() -> None:
    ctx = Context(Notes(), "a/b")
    with pytest.raises(ValueError, match="customer/total: the key is empty"):
        ctx.send(total, key="")
    with pytest.raises(ValueError, match="send: delay must be at least 0"):
        ctx.send(count, delay=-1)
    with pytest.raises(ValueError, match="has no time zone"):
        ctx.send(count, delay=datetime(2026, 1, 1))  # noqa: DTZ001  (what is refused)


def test_a_name_is_no_topic() -> None:
    notes = Notes()
    with pytest.raises(TerminalError, match=r"ctx.publish takes a topic, app.topic\('orders', value=…\), not 'orders'"):
        Context(notes, "a/b").publish("orders", Order("1", 2))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert not notes.published


def test_what_comes_later_says_so() -> None:
    async def refund(order: Order) -> None: ...

    flow = Workflow("flow")

    @flow.run
    async def run(ctx: WorkflowContext, request: str) -> int:
        return 0

    ctx = WorkflowContext(Notes(), "a/b")
    words: list[Callable[[], object]] = [
        lambda: ctx.compensate(refund, Order("1", 2)),
        lambda: ctx.signal(Name("s", int)),
        lambda: ctx.patched("x"),
    ]
    for word in words:
        with pytest.raises(Refused, match="comes in a later release of odradek: until then, "):
            word()


def test_awakeables_are_asked_for_and_resolved() -> None:
    notes = Notes()
    ctx = Context(notes, "a/b")
    ctx.awakeable(int)
    ctx.resolve("awk", Order("1", 2))
    ctx.reject("awk", "no", code=422)
    assert [type(asked) for asked in notes.others] == [AwakeableOf, ResolveOf, ResolveOf]
    awakeable, *resolved = notes.others
    assert isinstance(awakeable, AwakeableOf) and awakeable.decode(b"7") == 7
    assert resolved == [ResolveOf("awk", b'{"id":"1","amount":2}'), ResolveOf("awk", b"", 422, "no")]
    with pytest.raises(TypeError, match=r"ctx\.awakeable: type"):
        ctx.awakeable(object())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_attach_says_what_is_meant() -> None:
    flow, thing = Workflow("flow"), Object("thing")

    @flow.run
    async def run(ctx: WorkflowContext, request: str) -> int:
        return 0

    @thing.handler
    async def go(ctx: ObjectContext, n: int) -> int:
        return n

    notes = Notes()
    ctx = Context(notes, "a/b")
    ctx.attach("inv_x", returns=int)
    ctx.attach(run, key="k")
    ctx.attach(go, key="k", idempotency_key="i")
    asked = [each for each in notes.others if isinstance(each, AttachTo)]
    assert [(each.invocation_id, each.target, each.key, each.idempotency_key) for each in asked] == [
        ("inv_x", "", None, None), ("", "flow/run", b"k", None), ("", "thing/go", b"k", "i"),
    ]  # fmt: skip
    with pytest.raises(TypeError, match="a handler with the key and the idempotency key"):
        ctx.attach(go, key="k")
