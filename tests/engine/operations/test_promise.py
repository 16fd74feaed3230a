"""Durable promises: one for each name of a workflow's key, awaited and given in any order, and what it is given first stays."""

import pytest

from odradek import App, Name, ObjectContext, SharedContext, State, TerminalError, Workflow, WorkflowContext
from tests.engine.harness import Rig

decision, other = Name("decision", bool), Name("other/wise", list[int])
seen = State("seen", list[str], default=list)


def approvals(shards: int = 3, **options: float) -> App:
    """A workflow that waits for a decision, and handlers that look, decide and wait beside it."""
    app = App("hr", shards=shards, include=[flow := Workflow("approval", **options)])  # type: ignore[arg-type]

    @flow.run
    async def run(ctx: WorkflowContext, who: str) -> str:
        ctx.set(seen, [who])
        try:
            ok = await ctx.promise(decision)
        except TerminalError as error:
            return f"{who}: {error.code} {error.message}"
        ctx.set(seen, [*ctx.get(seen), str(ok)])
        again = await ctx.promise(decision)
        return f"{who}: {ok} {again}"

    @flow.shared
    async def decide(ctx: SharedContext, ok: bool) -> bool:
        return ctx.promise(decision).resolve(ok)

    @flow.shared
    async def refuse(ctx: SharedContext) -> bool:
        return ctx.promise(decision).reject("not now", code=423)

    @flow.shared
    async def peek(ctx: SharedContext) -> str:
        try:
            return str(ctx.promise(decision).peek())
        except TerminalError as error:
            return f"{error.code} {error.message}"

    @flow.shared
    async def wait(ctx: SharedContext) -> str:
        one = await ctx.promise(decision)
        two = await ctx.promise(other)
        return f"waited {one} {two}"

    @flow.shared
    async def numbers(ctx: SharedContext, numbers: list[int]) -> list[object]:
        given = ctx.promise(other).resolve(numbers), ctx.promise(other).resolve([])
        await ctx.sleep(0.01)
        peeked = ctx.promise(other).peek()
        awaited = await ctx.promise(other)
        return [*given, peeked, awaited]

    @flow.shared
    async def state(ctx: SharedContext) -> list[str]:
        return ctx.get(seen)

    return app


@pytest.mark.parametrize("restart", ["no", "stop", "crash"])
@pytest.mark.parametrize("shards", [1, 3])
def test_awaited_then_given(rig: Rig, restart: str, shards: int) -> None:
    app = approvals(shards)
    rig.start(app)
    asked, waits = rig.ask("approval/run", "ann", key="k"), rig.ask("approval/wait", key="k")
    rig.until(lambda: len([key for key in rig.journal(app) if key[:1] == b"y"]) == 2)
    assert rig.call("approval/peek", key="k") == "None"
    assert rig.call("approval/state", key="k") == ["ann"]
    if restart != "no":
        rig.restart(app, crash=restart == "crash")
        asked, waits = rig.attach(asked.id), rig.attach(waits.id)
    assert rig.call("approval/decide", True, key="other") is True
    assert rig.call("approval/decide", True, key="k") is True
    assert rig.call("approval/decide", False, key="k") is False
    assert asked.value() == "ann: True True"
    assert rig.call("approval/peek", key="k") == "True"
    assert rig.call("approval/numbers", [1, 2], key="k") == [True, False, [1, 2], [1, 2]]
    assert waits.value() == "waited True [1, 2]"
    assert rig.call("approval/state", key="k") == ["ann", "True"], "it is queried after it has ended, too"
    rig.settled(app)
    assert not [key for key in rig.journal(app) if key[:1] in b"jy"]


def test_given_before_it_is_awaited_and_before_the_workflow_begins(rig: Rig) -> None:
    app = approvals()
    rig.start(app)
    assert rig.call("approval/decide", False, key="k") is True
    rig.restart(app, crash=True)
    assert rig.call("approval/run", "bob", key="k") == "bob: False False"


def test_rejected_for_all_that_wait_and_all_that_come(rig: Rig) -> None:
    rig.start(approvals())
    asked = [rig.ask("approval/run", "eve", key="k"), *(rig.ask("approval/wait", key="k") for _ in range(3))]
    rig.call("approval/peek", key="k")
    assert rig.call("approval/refuse", key="k") is True
    assert asked[0].value() == "eve: 423 not now"
    failures = [each.reply().failure for each in (*asked[1:], rig.ask("approval/wait", key="k"))]
    assert [(failure.code, failure.message) for failure in failures if failure is not None] == [(423, "not now")] * 4
    assert rig.call("approval/peek", key="k") == "423 not now"
    assert rig.call("approval/decide", True, key="k") is False


def test_what_is_given_in_an_attempt_that_fails_is_not_given(rig: Rig) -> None:
    app, runs = App("twice", shards=1), list[int]()
    flow = app.workflow("flow")

    @flow.run
    async def run(ctx: WorkflowContext) -> bool:
        return await ctx.promise(decision)

    @flow.shared
    async def give(ctx: SharedContext) -> list[bool]:
        runs.append(1)
        first = ctx.promise(decision).resolve(len(runs) > 2)
        if len(runs) < 3:
            raise OSError
        return [first, bool(ctx.promise(decision).peek())]

    rig.start(app)
    asked = rig.ask("flow/run", key="k")
    assert rig.call("flow/give", key="k") == [True, True]
    assert asked.value() is True


def test_one_that_ends_no_longer_waits(rig: Rig) -> None:
    app = App("brief", shards=1)
    flow = app.workflow("flow")

    @flow.run(timeout=5)
    async def run(ctx: WorkflowContext) -> bool:
        return await ctx.promise(decision)

    rig.start(app)
    asked = rig.ask("flow/run", key="k")
    rig.until(lambda: [key for key in rig.journal(app) if key[:1] == b"y"])
    rig.later(6)
    failure = asked.reply().failure
    assert failure is not None and failure.code == 504
    assert not [key for key in rig.journal(app) if key[:1] == b"y"]


def test_a_value_must_be_of_its_type(rig: Rig) -> None:
    app = App("typed", shards=1)
    flow = app.workflow("flow")

    @flow.run
    async def run(ctx: WorkflowContext) -> list[str]:
        told: list[str] = []
        try:
            ctx.promise(decision).resolve("yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        except TerminalError as error:
            told.append(error.message)
        ctx.promise(Name("decision", int)).resolve(7)
        for way in ("peek", "await"):
            try:
                if way == "peek":
                    ctx.promise(decision).peek()
                else:
                    await ctx.promise(decision)
            except TerminalError as error:
                told.append(error.message)
        return told

    rig.start(app)
    told = rig.call("flow/run", key="k")
    assert told[0].startswith("promise 'decision': $: expected bool, got str")
    assert told[1].startswith("promise 'decision' holds something else than its type")
    assert told[2] == told[1]


def test_an_object_has_none(rig: Rig) -> None:
    app = App("plain", shards=1)
    thing = app.object("thing")

    @thing.handler
    async def go(ctx: ObjectContext) -> None:
        ctx.promise(decision).peek()

    rig.start(app)
    failure = rig.ask("thing/go", key="k").reply().failure
    assert failure is not None and failure.message == "ctx.promise: 'thing' is no workflow, and has no promises"
