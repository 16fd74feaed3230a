"""An argument that a word does not take ends the invocation at once: no retry mends the code that passes it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

import pytest

from odradek import App, Context, ObjectContext, RetryableError, RetryPolicy, SharedContext, TerminalError
from tests.engine.harness import Rig

Wrong = Callable[[Any, Any, Any], Any]
"""Of the context, a service's handler and an object's: untyped, for a type checker would refuse most of it."""

WRONG: dict[str, tuple[Wrong, str]] = {
    "a negative sleep": (lambda ctx, *_: ctx.sleep(-1), "ctx.sleep: delay must be at least 0 and finite, not -1"),
    "a sleep of text": (lambda ctx, *_: ctx.sleep("1"), "ctx.sleep: delay must be seconds"),
    "a lambda": (lambda ctx, *_: ctx.run(lambda: 1), "a lambda has no name"),
    "a negative timeout": (lambda ctx, *_: ctx.run(int, timeout=-1), "ctx.run: timeout must be at least 0"),
    "a policy": (lambda ctx, *_: ctx.run(int, retry=RetryPolicy(max_attempts=0)), "max_attempts must be an int, 1 or more"),
    "a target": (lambda ctx, *_: ctx.call("nowhere", returns=int), "does not name a handler"),
    "a result's type": (lambda ctx, *_: ctx.call("wrong/other"), "pass returns="),
    "a key too many": (lambda ctx, other, _: ctx.send(other, key="k"), "leave out key="),
    "a key too few": (lambda ctx, _, keyed: ctx.send(keyed), "pass key="),
    "an empty key": (lambda ctx, _, keyed: ctx.send(keyed, key=""), "the key is empty"),
    "an argument too many": (lambda ctx, other, _: ctx.send(other, 1), "takes no argument"),
    "no handler": (lambda ctx, *_: ctx.send(print), "is not a handler"),
    "a negative delay": (lambda ctx, other, _: ctx.send(other, delay=-1), "send: delay must be at least 0"),
    "a delay without a zone": (lambda ctx, other, _: ctx.send(other, delay=datetime(2030, 1, 1)), "has no time zone"),  # noqa: DTZ001
    "a code of text": (lambda *_: TerminalError("no", code=cast("Any", "x")), "code must be an HTTP error status"),
    "a code out of range": (lambda *_: TerminalError("no", code=200), "code must be an HTTP error status"),
    "a word too many": (lambda ctx, *_: ctx.run(int, tries=3), "Context.run() got an unexpected keyword argument 'tries'"),
    "an argument too few": (lambda ctx, *_: ctx.sleep(), "Context.sleep() missing 1 required positional argument: 'delay' ("),
    "a sleep of two": (lambda ctx, *_: ctx.sleep(1, 2), "help(odradek.Context.sleep) says what it takes"),
    "a word for calls": (lambda ctx, other, _: ctx.send(other, after=1), "help(odradek.Context.send)"),
    "a word for an error": (lambda *_: cast("Any", TerminalError)("no", status=404), "help(odradek.TerminalError)"),
    "a negative retry": (lambda *_: RetryableError("no", retry_after=-1), "retry_after must be at least 0"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_argument_ends_the_invocation_after_one_attempt(rig: Rig, wrong: str) -> None:
    app, attempts = App("misuse", shards=1), list[int]()
    service, thing = app.service("wrong"), app.object("thing")
    use, said = WRONG[wrong]

    @service.handler
    async def other(ctx: Context) -> None:
        raise AssertionError("nothing was sent")

    @thing.handler
    async def keyed(ctx: ObjectContext) -> None:
        raise AssertionError("nothing was sent")

    @service.handler
    async def go(ctx: Context) -> None:
        attempts.append(1)
        use(ctx, other, keyed)

    rig.start(app)
    failure = rig.ask("wrong/go").reply().failure
    assert failure is not None
    assert failure.code == 500
    assert said in failure.message
    assert attempts == [1]
    rig.settled(app)
    assert [one.status for one in rig.invocations(app)] == ["failed"]


UNNAMED: dict[str, tuple[str, str]] = {
    "state in a service": ("service", "Context has no 'set': that is a word of ObjectContext, which an object's exclusive"),
    "state in a shared handler": ("shared", "SharedContext has no 'set': that is a word of ObjectContext"),
    "a word that nobody has": ("object", "ObjectContext has no 'put': help(odradek.ObjectContext) says what it has"),
}


@pytest.mark.parametrize("where", UNNAMED)
def test_a_word_that_the_context_does_not_have_ends_the_invocation(rig: Rig, where: str) -> None:
    app = App("misuse", shards=1)
    service, thing = app.service("service"), app.object("thing")
    owner, said = UNNAMED[where]

    @service.handler
    async def plain(ctx: Context) -> None:
        cast("Any", ctx).set("n", 1)

    @thing.shared
    async def looks(ctx: SharedContext) -> None:
        cast("Any", ctx).set("n", 1)

    @thing.handler
    async def works(ctx: ObjectContext) -> None:
        cast("Any", ctx).put("n", 1)

    rig.start(app)
    target = {"service": "service/plain", "shared": "thing/looks", "object": "thing/works"}[owner]
    failure = rig.ask(target, key="" if owner == "service" else "k").reply().failure
    assert failure is not None
    assert said in failure.message


WORDS: dict[str, Wrong] = {
    "get": lambda ctx, *_: ctx.get("n", int),
    "set": lambda ctx, *_: ctx.set("n", 5),
    "clear": lambda ctx, *_: ctx.clear(),
    "names": lambda ctx, *_: ctx.names(),
    "publish": lambda ctx, topic, _: ctx.publish(topic, 1),
    "send": lambda ctx, _, other: ctx.send(other),
    "call": lambda ctx, _, other: ctx.call(other),
    "run": lambda ctx, *_: ctx.run(int),
    "sleep": lambda ctx, *_: ctx.sleep(1),
    "now": lambda ctx, *_: ctx.now(),
    "uuid": lambda ctx, *_: ctx.uuid(),
    "random": lambda ctx, *_: ctx.random,
    "compensate": lambda ctx, *_: ctx.compensate(int),
}


@pytest.mark.parametrize("kind", ["thread", "loop"])
@pytest.mark.parametrize("word", WORDS)
def test_a_context_does_nothing_in_a_step(rig: Rig, word: str, kind: str) -> None:
    """It would be done again with each attempt of the step, and be missing at a replay."""
    app, attempts = App("misuse", shards=1), list[int]()
    service, thing, topic = app.service("wrong"), app.object("thing"), app.topic("out", value=int)

    @service.handler
    async def other(ctx: Context) -> None:
        raise AssertionError("nothing was sent")

    @thing.handler
    async def go(ctx: ObjectContext) -> int:
        assert ctx.random is not None
        ctx.set("n", 1)

        def in_a_thread() -> None:
            attempts.append(1)
            assert (ctx.key, ctx.invocation_id[:4]) == ("k", "inv_")
            ctx.logger.info("as ever")
            WORDS[word](ctx, topic, other)

        async def on_the_loop() -> None:
            in_a_thread()

        with pytest.raises(TerminalError, match=rf"ctx\.{word} (works in the handler alone|comes in a later)") as refused:
            await ctx.run(in_a_thread if kind == "thread" else on_the_loop)
        assert refused.value.code == 501
        await ctx.sleep(0.001)
        return ctx.get("n", int, 0)

    rig.start(app)
    assert rig.ask("thing/go", key="k").value() == 1
    assert attempts == [1]
    assert rig.records("out") == []


def test_a_context_does_nothing_once_its_handler_has_ended(rig: Rig) -> None:
    app, held, said = App("misuse", shards=1), list[ObjectContext](), list[TerminalError]()
    thing = app.object("thing")

    @thing.handler
    async def go(ctx: ObjectContext) -> None:
        held.append(ctx)
        await ctx.sleep(0.001)

    rig.start(app)
    rig.ask("thing/go", key="k").value()
    try:
        held[-1].set("n", 5)
    except TerminalError as error:
        said.append(error)
    assert len(said) == 1


def test_a_call_of_ones_own_that_does_not_fit_is_tried_again(rig: Rig) -> None:
    """A deploy mends it, and nothing is known of it here."""
    app, attempts = App("misuse", shards=1), list[int]()
    service = app.service("own")

    def run() -> None:
        pass

    run.__qualname__ = "Other.run"

    @service.handler
    async def go(ctx: Context) -> None:
        attempts.append(1)
        if len(attempts) < 3:
            cast("Any", run)(1)

    rig.start(app)
    rig.ask("own/go").value()
    assert len(attempts) == 3
