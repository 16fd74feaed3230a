"""Registration of services and handlers: what the decorators accept, what they refuse, and what the engine is given."""

import asyncio
import importlib
import inspect
import sys
import types
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from odradek import App, Context, Object, ObjectContext, RetryPolicy, Service, SharedContext, Workflow, WorkflowContext
from odradek._bad_input import BadInput
from odradek._errors import ComesLater

from .notes import Notes
from .shop import Order, finish, handler_of, object_app


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


def test_workflows_have_one_run_and_shared_handlers() -> None:
    app = App("hr")
    approval = app.workflow("approval", retention=60)
    requests, words = app.topic("requests", value=str), app.topic("words", value=bool)

    @approval.on(requests)
    @approval.run
    async def approve(ctx: WorkflowContext, request: str) -> str:
        return request

    @approval.on(words)
    @approval.shared
    async def decide(ctx: SharedContext, ok: bool) -> None: ...

    handlers = app.handlers()
    assert [(name, each.mode, each.retention_s) for name, each in handlers.items()] == [
        ("approval/run", "run", 60.0), ("approval/decide", "shared", 60.0),
    ]  # fmt: skip
    assert [(s.topic.name, s.handler.target) for s in app.subscriptions()] == [
        ("requests", "approval/run"), ("words", "approval/decide"),
    ]  # fmt: skip
    assert finish(handlers["approval/run"].start(Notes(), b'"x"')) == "x"
    with pytest.raises(TypeError, match=r"approval on requests: write \.on above @approval\.run or @approval\.shared"):

        @approval.run
        @approval.on(requests)
        async def other(ctx: WorkflowContext, request: str) -> str:
            return request


def test_the_test_app_comes_later() -> None:
    testing = importlib.import_module("odradek.testing")
    with pytest.raises(ComesLater, match=r"odradek\.testing\.TestApp comes in a later release"):
        testing.TestApp(App("shop"))
