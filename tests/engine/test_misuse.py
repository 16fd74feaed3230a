"""An argument that a word does not take ends the invocation at once: no retry mends the code that passes it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

import pytest

from odradek import App, Context, ObjectContext, RetryableError, RetryPolicy, TerminalError
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
