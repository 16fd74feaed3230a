"""Cancel: CancelledError where the handler waits, down the calls that it waits for; clean-up may wait; the unbegun never begin."""

import asyncio

import pytest

from odradek import App, Context, ObjectContext, TerminalError
from tests.engine.control.ordering import left, ordered
from tests.engine.control.states import NAMES, Outside, begin, make_app
from tests.engine.harness import Rig


@pytest.mark.parametrize("crash", [False, True], ids=["at once", "after a crash"])
@pytest.mark.parametrize("name", NAMES)
def test_whatever_it_waits_for_it_ends_and_its_key_is_free(rig: Rig, name: str, crash: bool) -> None:
    outside = Outside()
    app = make_app(outside)
    rig.start(app)
    id_ = begin(rig, app, name)
    if crash:
        rig.restart(app, crash=True)
    waiting = rig.attach(id_) if name != "record" else None
    if name in ("backoff", "paused"):  # it is tried at once, and has no await before it ends
        outside.gate.set()
    ordered(rig, app, "cancel", id_)
    if waiting is not None:
        reply = waiting.reply()
        if name in ("backoff", "paused"):
            assert reply.status == "completed"
        else:
            assert reply.failure is not None
            assert (reply.failure.code, "was cancelled" in reply.failure.message) == (409, True)
    if name == "inbox":
        ordered(rig, app, "cancel", *(each.id for each in rig.invocations(app) if each.target == "thing/sleep"))
    outside.gate.set()
    assert rig.call("thing/quick", key=name) == "quick"
    if name == "limit":
        assert rig.call("states/narrow") == "narrowed"
    if name != "again":  # the timer of its next run is nobody's, and goes when its time has come
        rig.until(lambda: left(rig, app) == [])
    rig.later(7200)
    rig.until(lambda: left(rig, app) == [])
    assert set(outside.ran) - {"quick", "narrow", "attempt"} == set()
    letters = [letter["odradek-error"] for letter in rig.dead_letters(app)]
    assert letters == (["thing/record was cancelled"] if name == "record" else [])


@pytest.mark.parametrize("crash", [False, True], ids=["at once", "after a crash"])
def test_clean_up_may_wait_and_what_it_returns_counts(rig: Rig, crash: bool) -> None:
    app = App("clean", shards=2)
    thing = app.object("thing")
    undone: list[str] = []

    async def undo(what: str) -> str:
        undone.append(what)
        return what

    @thing.handler
    async def callee(ctx: ObjectContext) -> str:
        try:
            await ctx.sleep(3600)
        except asyncio.CancelledError:
            ctx.set("cancelled", True)
            raise
        return "never"

    @thing.handler
    async def one(ctx: ObjectContext) -> list[str]:
        done = await ctx.run(undo, "done", name="done")
        try:
            await ctx.call(callee, key="callee")
        except asyncio.CancelledError:
            ctx.set("cleaning", True)
            await ctx.sleep(60)
            return [done, await ctx.run(undo, "undone", name="undone")]
        return ["never"]

    rig.start(app)
    asked = rig.ask("thing/one", key="k")
    rig.until(lambda: any(each.target == "thing/callee" for each in rig.invocations(app)))
    ordered(rig, app, "cancel", asked.id)
    rig.until(lambda: rig.state(app, "thing", "callee", "cancelled") is True)
    rig.until(lambda: rig.state(app, "thing", "k", "cleaning") is True)
    ordered(rig, app, "cancel", asked.id)
    if crash:
        rig.restart(app, crash=True)
        asked = rig.attach(asked.id)
    rig.later(61)
    assert asked.value() == ["done", "undone"]
    assert undone == ["done", "undone"]
    rig.until(lambda: left(rig, app) == [])


def test_whoever_awaits_a_cancelled_callee_is_told_and_what_was_sent_goes_on(rig: Rig) -> None:
    app = App("told", shards=2)
    woken: list[str] = []

    @app.handler
    async def sent(ctx: Context) -> None:
        await ctx.sleep(60)
        woken.append("sent")

    @app.handler
    async def callee(ctx: Context) -> None:
        ctx.send(sent)
        await ctx.sleep(60)

    @app.handler
    async def caller(ctx: Context) -> str:
        try:
            await ctx.call(callee)
        except TerminalError as error:
            return f"{error.code} {error.message}"
        return "nothing"

    rig.start(app)
    asked = rig.ask("told/caller")
    rig.until(lambda: len(rig.invocations(app)) == 3)
    ordered(rig, app, "cancel", *(each.id for each in rig.invocations(app) if each.target == "told/callee"))
    assert asked.value() == "409 told/callee was cancelled"
    rig.later(61)
    rig.until(lambda: woken == ["sent"])


def test_it_comes_to_handlers_that_use_asyncio_too(rig: Rig) -> None:
    app = App("turns", shards=1)
    ran: list[str] = []

    async def undo() -> str:
        ran.append("undone")
        return "undone"

    @app.handler
    async def waits(ctx: Context) -> str:
        try:
            async with asyncio.timeout(3600):
                await asyncio.gather(asyncio.sleep(1800), asyncio.sleep(2000))
        except asyncio.CancelledError:
            await asyncio.sleep(1)
            return await ctx.run(undo, name="undo")
        return "never"

    rig.start(app)
    asked = rig.ask("turns/waits")
    rig.until(lambda: any(key[:1] == b"t" for key in rig.journal(app)))
    ordered(rig, app, "cancel", asked.id)
    rig.later(2)
    assert asked.value() == "undone"
    assert ran == ["undone"]


@pytest.mark.parametrize("crash", [False, True], ids=["at once", "after a crash"])
@pytest.mark.parametrize("holds", [False, True], ids=["asks later", "holds its task"])
def test_its_task_counts_the_cancellation_in_every_replay(rig: Rig, holds: bool, crash: bool) -> None:
    app = App("counts", shards=1)
    begun: list[bool] = []

    @app.handler
    async def waits(ctx: Context) -> list[int]:
        held = asyncio.current_task() if holds else None
        begun.append(True)
        try:
            await ctx.sleep(3600)
        except asyncio.CancelledError:
            task = held or asyncio.current_task()
            assert task is not None
            counted = [task.cancelling()]
            await ctx.sleep(60)
            return [*counted, task.cancelling(), task.uncancel()]
        return []

    rig.start(app)
    asked = rig.ask("counts/waits")
    rig.until(lambda: begun)
    rig.settled(app)
    ordered(rig, app, "cancel", asked.id)
    if crash:
        rig.restart(app, crash=True)
        asked = rig.attach(asked.id)
    rig.later(61)
    assert asked.value() == [1, 1, 0]


def test_the_tasks_of_one_that_lets_it_through_clean_up_as_well(rig: Rig) -> None:
    app = App("tasks", shards=1)
    ran: list[str] = []

    async def undo() -> None:
        ran.append("undone")

    async def beside(ctx: Context) -> None:
        try:
            await ctx.sleep(3600)
        except asyncio.CancelledError:
            await ctx.run(undo, name="undo")
            raise

    @app.handler
    async def waits(ctx: Context) -> None:
        task = asyncio.create_task(beside(ctx))
        await ctx.sleep(7200)
        await task

    rig.start(app)
    asked = rig.ask("tasks/waits")
    rig.until(lambda: sum(key[:1] == b"t" for key in rig.journal(app)) == 2)
    ordered(rig, app, "cancel", asked.id)
    failure = asked.reply().failure
    assert failure is not None
    assert (failure.code, failure.message) == (409, "tasks/waits was cancelled")
    assert ran == ["undone"]
    rig.until(lambda: left(rig, app) == [])
