"""Registration: what the decorators accept, what they refuse, and what the engine is given."""

import asyncio
import importlib
import inspect
import sys
import types
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from odradek import (
    App,
    Context,
    Object,
    ObjectContext,
    RetryPolicy,
    Service,
    SharedContext,
    Topic,
    Workflow,
    WorkflowContext,
)
from odradek._bad_input import BadInput
from odradek._callee import callee_of
from odradek._definition import Handler, Subscription
from odradek._errors import ComesLater

from .notes import Notes


@dataclass
class Order:
    id: str
    amount: int


ORDERS = Topic[str, Order]("orders", str, Order)


def finish(started: tuple[Context, Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(_run(started[1]))


async def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return await coroutine


def handler_of(fn: object) -> Handler:
    """What the engine finds of a decorated function."""
    handler = callee_of(fn)
    assert isinstance(handler, Handler)
    return handler


def object_app() -> tuple[App, Handler, Subscription]:
    app = App("shop")
    customer = app.object("customer")

    @customer.on(ORDERS)
    async def ordered(ctx: ObjectContext, order: Order) -> str:
        return f"{ctx.key} {order.id}"

    return app, handler_of(ordered), app.subscriptions()[0]


def test_an_app_knows_its_handlers_by_target_and_mode() -> None:
    app = App("shop", include=[Service("mails")])
    customer, flow, tools = app.object("customer"), app.workflow("flow"), app.service("tools")

    @app.handler
    async def place(ctx: Context, order: Order) -> str:
        return ""

    @tools.handler(name="Fix", public=False, concurrency=3, timeout=timedelta(minutes=1), retry=RetryPolicy(factor=3))
    async def fix(ctx: Context) -> None: ...

    @customer.handler
    async def rename(ctx: ObjectContext, name: str) -> None: ...

    @customer.shared
    async def name(ctx: SharedContext) -> str:
        return ""

    @flow.run(timeout=3)
    async def work(ctx: WorkflowContext, order: Order) -> str:
        return ""

    @flow.handler
    async def peek(ctx: SharedContext) -> str:
        return ""

    handlers = app.handlers()
    assert {target: (h.mode, h.keyed, h.takes_argument) for target, h in handlers.items()} == {
        "shop/place": ("plain", False, True),
        "tools/Fix": ("plain", False, False),
        "customer/rename": ("exclusive", True, True),
        "customer/name": ("shared", True, False),
        "flow/run": ("run", True, True),
        "flow/peek": ("shared", True, False),
    }
    options = handlers["tools/Fix"]
    assert (options.public, options.concurrency, options.timeout_s) == (False, 3, 60.0)
    assert (options.retry, options.on_exhausted) == (RetryPolicy(factor=3), "fail")
    assert handlers["flow/run"].timeout_s == 3.0
    assert handler_of(place) is handlers["shop/place"]
    assert inspect.iscoroutinefunction(place)


def test_a_handler_overrides_its_services_options() -> None:
    tools = Service("tools", public=False, timeout=5, on_exhausted="pause")

    @tools.handler(public=True)
    async def one(ctx: Context) -> None: ...

    handler = handler_of(one)
    assert (handler.public, handler.timeout_s, handler.on_exhausted) == (True, 5.0, "pause")


def test_a_call_is_decoded_started_and_its_result_encoded() -> None:
    _, handler, _ = object_app()
    started = handler.start(Notes(), b'{"id":"1","amount":2}')
    assert isinstance(started[0], ObjectContext)
    result = finish(started)
    assert result == "bob 1"
    assert handler.encode_result(result) == b'"bob 1"'


@pytest.mark.parametrize(
    ("payload", "where", "what"),
    [
        (b"", "$", "expected Order as JSON, but the body is empty"),
        (b'{"id":"1"}', "$.amount", "required field is missing"),
        (b"{", "$", "expected Order as JSON"),
    ],
)
def test_a_payload_that_does_not_fit_is_bad_input(payload: bytes, where: str, what: str) -> None:
    _, handler, _ = object_app()
    with pytest.raises(BadInput) as raised:
        handler.start(Notes(), payload)
    assert raised.value.field == where
    assert what in raised.value.message


def without_hints() -> Callable[..., Coroutine[Any, Any, Any]]:
    async def bare(ctx: Context, x: Any) -> Any:
        return x

    bare.__annotations__.clear()
    return bare


def test_arguments_are_optional_where_the_function_says_so() -> None:
    app = App("shop")

    @app.handler
    async def none(ctx: Context) -> int:
        return 0

    @app.handler
    async def default(ctx: Context, n: int = 7) -> int:
        return n

    @app.handler
    async def optional(ctx: Context, n: int | None) -> int | None:
        return n

    @app.handler
    async def raw(ctx: Context, body: bytes) -> bytes:
        return body

    bare = without_hints()
    app.handler(bare)

    ops = Notes()
    assert [finish(handler_of(none).start(ops, body)) for body in (b"", b"null")] == [0, 0]
    assert [finish(handler_of(default).start(ops, body)) for body in (b"", b"3")] == [7, 3]
    assert [finish(handler_of(optional).start(ops, body)) for body in (b"", b"null", b"3")] == [None, None, 3]
    assert [finish(handler_of(raw).start(ops, body)) for body in (b"", b"{")] == [b"", b"{"]
    assert finish(handler_of(bare).start(ops, b'{"a":[1]}')) == {"a": [1]}
    with pytest.raises(BadInput, match="shop/none takes no argument: send an empty body"):
        handler_of(none).start(ops, b"{}")


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


async def no_context() -> None: ...
async def order_first(order: Order) -> None: ...
async def shared_only(ctx: SharedContext) -> None: ...
async def two(ctx: Context, a: int, b: int) -> None: ...
async def keywords(ctx: Context, *, a: int) -> None: ...
async def variadic(ctx: Context, *a: int) -> None: ...
async def opaque(ctx: Context, lock: asyncio.Lock) -> None: ...
async def gives_opaque(ctx: Context) -> asyncio.Lock:
    return asyncio.Lock()


def sync(ctx: Context) -> None: ...


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (no_context, "takes the context and at most one argument .* not 0 parameters"),
        (order_first, "the first parameter is the context, Context, not Order"),
        (shared_only, "the first parameter is the context, Context, not SharedContext"),
        (two, "not 3 parameters"),
        (keywords, "both positional"),
        (variadic, "both positional"),
        (opaque, "svc/opaque: no serde for Lock"),
        (gives_opaque, "svc/gives_opaque: no serde for Lock"),
        (sync, "svc/sync: a handler must be an `async def` function"),
    ],
)
def test_functions_of_another_shape_are_refused(fn: Callable[..., Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Service("svc").handler(fn)


def test_a_shared_handler_gets_no_more_than_it_may_do() -> None:
    async def writes(ctx: ObjectContext) -> None: ...

    with pytest.raises(TypeError, match="the first parameter is the context, SharedContext, not ObjectContext"):
        Object("o").shared(writes)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]


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


@pytest.mark.parametrize("name", ["", "a/b", "a b", ".hidden", "-x", "ü", "x" * 201, "odradek"])
def test_bad_service_names_are_refused(name: str) -> None:
    for kind in (App, Service, Object, Workflow):
        with pytest.raises(ValueError, match="name"):
            kind(name)


@pytest.mark.parametrize("name", ["", "a/b", ".", "..", "ü", "x" * 250])
def test_bad_topic_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a name is 1 to 249"):
        App("a").topic(name)


def test_names_are_taken_once() -> None:
    app = App("shop")
    app.object("customer")
    with pytest.raises(ValueError, match="already a service named 'customer'"):
        app.service("customer")
    with pytest.raises(ValueError, match="already a service named 'shop'"):
        app.service("shop")
    tools = Service("tools")

    @tools.handler
    async def one(ctx: Context) -> None: ...

    with pytest.raises(ValueError, match="tools/one: there is already a handler of this name"):
        tools.handler(name="one")(no_context)
    with pytest.raises(ValueError, match=r"other/one: .*one is already tools/one; each handler needs its own function"):
        Service("other").handler(one)
    with pytest.raises(ValueError, match="two services are named 'tools'"):
        App("a", include=[tools, Service("tools")]).handlers()


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"timeout": -1}, {"on_exhausted": "explode"}])
def test_bad_handler_options_are_refused(options: dict[str, Any]) -> None:
    async def fine(ctx: Context) -> None: ...

    with pytest.raises(ValueError, match=f"svc/fine: {next(iter(options))} must be"):
        Service("svc").handler(**options)(fine)


@pytest.mark.parametrize("shards", [0, -1, 1.5, True])
def test_bad_shards_are_refused(shards: Any) -> None:
    with pytest.raises(ValueError, match="shards must be an int, 1 or more"):
        App("shop", shards=shards)


def test_services_are_included_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("elsewhere")
    module.tools = Service("tools")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    module.nothing = 3  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "elsewhere", module)

    @module.tools.handler  # type: ignore[untyped-decorator]
    async def fix(ctx: Context) -> None: ...  # pyright: ignore[reportUnusedFunction]

    assert list(App("shop", include=["elsewhere:tools"]).handlers()) == ["tools/fix"]
    with pytest.raises(TypeError, match="include='elsewhere:nothing': not a Service"):
        App("shop", include=["elsewhere:nothing"]).handlers()
    with pytest.raises(ValueError, match="write 'module:attribute'"):
        App("shop", include=["elsewhere"]).handlers()
    with pytest.raises(AttributeError):
        App("shop", include=["elsewhere:absent"]).handlers()
    with pytest.raises(ImportError):
        App("shop", include=["no_such_module:x"]).handlers()


def test_types_may_be_defined_after_the_handler_or_within_a_function() -> None:
    app = App("shop")

    @dataclass
    class Local:
        n: int

    @app.handler
    async def local(ctx: "Context", value: "Local") -> "Local":
        return value

    @app.handler
    async def forward(ctx: Context, value: "Forward") -> None: ...

    handlers = app.handlers()
    assert handlers["shop/local"].decode(b'{"n":1}') == (Local(1),)
    assert handlers["shop/forward"].decode(b'{"n":1}') == (Forward(1),)


@dataclass
class Forward:
    n: int


def test_a_type_that_is_never_defined_is_named_at_start() -> None:
    app = App("shop")

    async def lost(ctx: Context, value: Any) -> None: ...

    lost.__annotations__["value"] = "Nowhere"
    app.handler(lost)
    with pytest.raises(TypeError, match="shop/lost: the type hint 'Nowhere' is not defined; import it"):
        app.handlers()


def test_workflows_are_registered_and_run_later() -> None:
    app = App("hr")
    approval = app.workflow("approval")

    @approval.run
    async def approve(ctx: WorkflowContext, request: str) -> str:
        return ""

    @approval.shared
    async def decide(ctx: SharedContext, ok: bool) -> None: ...

    for target, body in (("approval/run", b'"x"'), ("approval/decide", b"true")):
        with pytest.raises(ComesLater, match=f"running a workflow \\({target}\\) comes in a later release"):
            finish(app.handlers()[target].start(Notes(), body))


def test_the_test_app_comes_later() -> None:
    testing = importlib.import_module("odradek.testing")
    with pytest.raises(ComesLater, match=r"odradek\.testing\.TestApp comes in a later release"):
        testing.TestApp(App("shop"))
