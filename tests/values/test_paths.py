"""The one rule of values through the engine: state, step, call, result, topic, HTTP. Each case takes every way in."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from odradek import App, Client, Context, Future, Object, ObjectContext, State, TerminalError, Topic
from odradek._serde import json_serde
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.node.node import Node
from tests.engine.harness import Rig
from tests.values.grammar import cases
from tests.values.judge import same

CACHES = {"kept": 10_000, "replayed": 0}


@dataclass
class Case:
    """A value under a type, and what became of it on each way: "same", "refused", or the two values."""

    number: int
    hint: Any
    value: Any
    became: dict[str, Any] = field(default_factory=dict[str, Any])

    def judge(self, way: str, back: Any) -> None:
        self.became[way] = "same" if same(self.value, back) else (self.hint, self.value, back)

    def refuse(self, way: str) -> None:
        self.became[way] = "refused"


def declare(app: App, things: list[Case]) -> None:
    """Give the app handlers for every case: `go` tries the ways, `look` reads the state afterwards."""
    for case in things:
        _declare(app, case)


def _declare(app: App, case: Case) -> None:
    n, state = case.number, State(f"state-{case.number}", case.hint)
    topic, kept = app.topic(f"topic-{n}", value=case.hint), app.object(f"kept-{n}")

    async def echo(ctx: Context, value: Any) -> Any:
        case.judge("argument", value)
        return value

    async def give(ctx: Context) -> Any:
        return case.value

    echo.__annotations__ = {"ctx": Context, "value": case.hint, "return": case.hint}
    give.__annotations__ = {"ctx": Context, "return": case.hint}
    app.handler(name=f"echo-{n}")(echo)
    app.handler(name=f"give-{n}")(give)

    def held() -> object:
        return case.value

    async def go(ctx: ObjectContext) -> None:
        try:
            ctx.set(state, case.value)
        except TerminalError:
            case.refuse("state")
        ways: dict[str, Callable[[], Future[Any]]] = {
            "step": lambda: ctx.run(held, name="step", returns=case.hint),
            "call": lambda: ctx.call(echo, case.value),
            "result": lambda: ctx.call(give),
        }
        for way, begin in ways.items():
            try:
                case.judge(way, await begin())
            except TerminalError:
                case.refuse(way)
        try:
            if case.value is not None:  # a tombstone, not a value
                ctx.publish(topic, case.value, key="k")
        except TerminalError:
            case.refuse("topic")

    kept.handler(name="go")(go)
    _declare_readers(kept, topic, case)


def _declare_readers(kept: Object, topic: Topic[Any, Any], case: Case) -> None:
    state = State(f"state-{case.number}", case.hint)

    async def look(ctx: ObjectContext) -> None:
        if case.became.get("state") != "refused":
            case.judge("state", ctx.get(state))

    async def taken(ctx: ObjectContext, value: Any) -> None:
        case.judge("topic", value)

    kept.handler(name="look")(look)
    taken.__annotations__ = {"ctx": ObjectContext, "value": case.hint}
    taken.__name__ = f"taken_{case.number}"
    kept.on(topic)(taken)


@contextmanager
def rigged(cache: int) -> Iterator[Rig]:
    made = Rig(EmbeddedLog(None, fsync=False, clean_interval_s=0), None, cache)
    yield made
    made.close()


@pytest.mark.parametrize("cache", CACHES)
@settings(max_examples=12, deadline=None, suppress_health_check=list[Any](HealthCheck))
@given(st.lists(cases(), min_size=8, max_size=12))
def test_every_way_in_brings_it_back_or_refuses_it(cache: str, drawn: list[tuple[Any, Any]]) -> None:
    things = [Case(number, hint, value) for number, (hint, value) in enumerate(drawn) if _has_serde(hint)]
    app = App("ways", shards=1)
    declare(app, things)
    with rigged(CACHES[cache]) as rig:
        rig.start(app)
        for case in things:
            rig.call(f"kept-{case.number}/go", key="k")
            rig.call(f"kept-{case.number}/look", key="k")
        rig.settled(app)
        for case in things:
            reply = rig.ask(f"ways/give-{case.number}").reply()  # as HTTP asks
            if reply.status == "completed":
                case.judge("http", json_serde(case.hint).load(reply.value))
            else:
                assert reply.failure is not None
                assert reply.failure.code == 500
                assert "result" in reply.failure.message
                case.refuse("http")
        assert rig.dead_letters(app) == []
    for case in things:
        ways = {"state", "step", "call", "result", "http"} | ({"topic"} if case.value is not None else set())
        assert ways <= case.became.keys() <= ways | {"argument"}, case
        wrong = {way: became for way, became in case.became.items() if became not in ("same", "refused")}
        assert not wrong
        assert case.became["result"] == case.became["http"] == case.became["step"], case


@pytest.mark.parametrize("name", ["\ud800", "", 5])
def test_a_name_that_is_no_text_ends_the_invocation(name: Any) -> None:
    app = App("named", shards=1)
    kept = app.object("kept")

    @kept.handler
    async def write(ctx: ObjectContext) -> None:
        ctx.set(name, 1)

    @kept.handler
    async def read(ctx: ObjectContext) -> int:
        return ctx.get(name, int, 0)

    with rigged(0) as rig:
        rig.start(app)
        for handler in ("write", "read"):
            failure = rig.ask(f"kept/{handler}", key="k").reply().failure
            assert failure is not None
            assert "a state's name: $: must be text and not empty" in failure.message


def _has_serde(hint: Any) -> bool:
    try:
        json_serde(hint)
    except TypeError:
        return False
    return True


def test_over_http_a_caller_and_a_client_are_told_the_same(tmp_path: Path) -> None:
    app = App("told", shards=1)

    @app.handler
    async def wrong(ctx: Context) -> int:
        return "text"  # type: ignore[return-value]  # pyright: ignore[reportReturnType]  (what is refused)

    @app.handler
    async def ask(ctx: Context) -> str:
        try:
            return f"got {await ctx.call(wrong)}"
        except TerminalError as error:
            return f"{error.code} {error.message}"

    @app.handler
    async def ratio(ctx: Context, ratio: float) -> float:
        return ratio

    async def talk(client: Client) -> tuple[str, str, float]:
        async with client:
            with pytest.raises(TerminalError) as raised:
                await client.call(wrong)
            with pytest.raises(TerminalError, match=r"told/ratio: argument: \$: expected float, got inf, which JSON"):
                client.call(ratio, float("inf"))
            return f"{raised.value.code} {raised.value.message}", await client.call(ask), await client.call(ratio, 3)

    node = Node(app, replace(Settings(), data_dir=tmp_path, port=0, admin_port=0))
    node.start()
    try:
        directly, by_a_call, number = asyncio.run(talk(Client(node.url)))
    finally:
        node.stop()
    assert (
        directly
        == by_a_call
        == "500 told/wrong: result: $: expected int, got str: pass one, or declare the type that the value has"
    )
    assert type(number) is float
