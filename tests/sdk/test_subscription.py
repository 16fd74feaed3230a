"""Subscriptions: what the engine is given of a record, its key and its policy, and what `.on` refuses."""

from datetime import UTC, datetime
from typing import Any

import pytest

from odradek import App, Context, ObjectContext, Service, SharedContext, Topic
from odradek._bad_input import BadInput

from .notes import Notes
from .shop import ORDERS, Order, finish, handler_of, object_app


def test_a_record_is_decoded_and_started() -> None:
    _, _, subscription = object_app()
    assert finish(subscription.start(Notes(), b'{"id":"1","amount":2}')) == "bob 1"
    assert finish(subscription.start_decoded(Notes(), Order("7", 1))) == "bob 7"
    with pytest.raises(BadInput, match=r"\$.amount: Expected `int`, got `str`"):
        subscription.decode(b'{"id":"1","amount":"2"}')
    with pytest.raises(BadInput, match=r"\$: the record has no value \(tombstone\): declare the topic's value as Order \| None"):
        subscription.start(Notes(), None)


@pytest.mark.parametrize("hint", [Order | None, bytes | None, str | None, Any])
def test_a_tombstone_is_none_where_the_type_admits_it(hint: Any) -> None:
    app = App("shop")

    @app.on(Topic[str, Any]("orders", str, hint))
    async def ordered(ctx: Context, order: Any) -> None: ...

    assert app.subscriptions()[0].decode(None) is None


def test_the_key_is_the_records_or_what_key_makes_of_the_value() -> None:
    app = App("shop")
    customer = app.object("customer")

    def by_id(order: Order) -> str:
        return order.id

    @customer.on(ORDERS, key=by_id)
    async def rekeyed(ctx: ObjectContext, order: Order) -> None: ...

    @customer.on(ORDERS)
    async def keyed(ctx: ObjectContext, order: Order) -> None: ...

    @app.on(ORDERS)
    async def unkeyed(ctx: Context, order: Order) -> None: ...

    first, second, third = app.subscriptions()[1:] + app.subscriptions()[:1]
    assert first.record_key(b"other", Order("ü", 1)) == "ü".encode()
    assert second.record_key(b"\xff", None) == b"\xff"
    assert third.record_key(None, None) == b""
    for raw_key in (None, b""):
        with pytest.raises(BadInput, match="key: the record has no key, and customer/keyed needs one"):
            second.record_key(raw_key, None)
    with pytest.raises(BadInput, match="key: key= raised AttributeError"):
        first.record_key(b"k", None)
    for bad in ("", 3, None):
        with pytest.raises(BadInput, match="key: key= must give a str that is not empty"):
            first.record_key(b"k", Order(bad, 1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_subscription_keeps_its_policy() -> None:
    app = App("shop")
    since = datetime(2026, 1, 1, tzinfo=UTC)

    @app.on(ORDERS, dead_letter=Topic[str, bytes]("bad", str, bytes), on_error="skip", start=since)
    @app.on(Topic[str, Order]("more", str, Order), dead_letter="worse")
    async def ordered(ctx: Context, order: Order) -> None: ...

    more, orders = app.subscriptions()
    assert (orders.topic.name, orders.dead_letter, orders.on_error, orders.start_at) == ("orders", "bad", "skip", since)
    assert (more.topic.name, more.dead_letter, more.on_error, more.start_at) == ("more", "worse", "dead_letter", "earliest")
    assert more.handler is orders.handler is handler_of(ordered)
    assert list(app.handlers()) == ["shop/ordered"]


def test_subscriptions_that_cannot_be_meant_are_refused() -> None:
    app = App("shop")
    customer = app.object("customer")

    @customer.on(ORDERS)
    async def ordered(ctx: ObjectContext, order: Order) -> None: ...

    with pytest.raises(ValueError, match="customer/ordered is subscribed to orders twice"):
        customer.on(ORDERS)(ordered)
    with pytest.raises(TypeError, match=r"customer: .on takes a topic, app.topic\('orders', value=…\), not 'orders'"):
        customer.on("orders")(ordered)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    @customer.shared
    async def reads(ctx: SharedContext, order: Order) -> None: ...

    with pytest.raises(TypeError, match="customer/reads on orders: a shared handler cannot take records"):
        customer.on(ORDERS)(reads)

    async def nothing(ctx: Context) -> None: ...

    with pytest.raises(TypeError, match="the handler must take the record's value"):
        app.on(ORDERS)(nothing)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    async def fine(ctx: Context, order: Order) -> None: ...

    with pytest.raises(ValueError, match="on_error must be"):
        Service("a").on(ORDERS, on_error="explode")(fine)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": datetime(2026, 1, 1)}, "has no time zone"),  # noqa: DTZ001  (what is refused)
        ({"start": "now"}, "start must be 'earliest', 'latest' or a datetime"),
        ({"dead_letter": "a b"}, "topic 'a b'"),
    ],
)
def test_bad_subscription_options_are_named(options: dict[str, Any], message: str) -> None:
    async def fine(ctx: Context, order: Order) -> None: ...

    with pytest.raises(ValueError, match=message):
        Service("a").on(ORDERS, **options)(fine)
