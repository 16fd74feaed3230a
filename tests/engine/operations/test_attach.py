"""Attaching: the result of what something else has started, by its id, its idempotency key, or a workflow and its key."""

import pytest

from odradek import App, Context, ObjectContext, TerminalError, WorkflowContext
from odradek_runtime.core.records.formats import COMMAND, Command
from odradek_runtime.log.port import Output
from odradek_runtime.routing import fresh_id, id_hash
from tests.engine.harness import Rig


def app_of() -> App:
    """Things that take a while, and handlers that wait for them."""
    app = App("att", shards=3)
    thing, flow = app.object("thing"), app.workflow("flow")

    @thing.handler
    async def slow(ctx: ObjectContext, seconds: float) -> str:
        await ctx.sleep(seconds)
        if ctx.key == "bad":
            raise TerminalError("broken", code=418)
        return f"{ctx.key} after {seconds}"

    @flow.run
    async def run(ctx: WorkflowContext, seconds: float) -> str:
        await ctx.sleep(seconds)
        return f"{ctx.key} ran"

    @app.handler
    async def by_id(ctx: Context, id_: str) -> list[str]:
        heard: list[str] = []
        for _ in range(2):
            try:
                heard.append(await ctx.attach(id_, returns=str))
            except TerminalError as error:
                heard.append(f"{error.code} {error.message}")
        return heard

    @app.handler
    async def by_name(ctx: Context, seconds: float) -> list[str]:
        ctx.send(slow, seconds, key="k", idempotency_key="once")
        ctx.send(run, seconds, key="w")
        asked = [ctx.attach(run, key="w"), ctx.attach(slow, key="k", idempotency_key="once")]
        return [await each for each in asked]

    @app.handler
    async def itself(ctx: Context) -> str:
        try:
            return await ctx.attach(ctx.invocation_id, returns=str)
        except TerminalError as error:
            return error.message

    return app


@pytest.mark.parametrize("restart", ["no", "stop", "crash"])
def test_by_its_id_before_and_after_it_has_ended(rig: Rig, restart: str) -> None:
    app = app_of()
    rig.start(app)
    callee = rig.ask("thing/slow", 60, key="k", wait=False)
    asked = [rig.ask("att/by_id", callee.id) for _ in range(3)]
    rig.until(lambda: len([key for key in rig.journal(app) if key[:1] == b"a"]) == 3)
    if restart != "no":
        rig.restart(app, crash=restart == "crash")
        asked = [rig.attach(each.id) for each in asked]
    rig.later(61)
    assert [each.value() for each in asked] == [["k after 60.0"] * 2] * 3
    assert rig.call("att/by_id", callee.id) == ["k after 60.0"] * 2
    rig.settled(app)
    assert not [key for key in rig.journal(app) if key[:1] in b"aj"]


def test_by_a_workflow_and_by_an_idempotency_key(rig: Rig) -> None:
    rig.start(app_of())
    assert rig.call("att/by_name", 0.01) == ["w ran", "k after 0.01"]


def test_what_failed_what_is_not_there_and_itself(rig: Rig) -> None:
    app = app_of()
    rig.start(app)
    failed = rig.ask("thing/slow", 0, key="bad", wait=False)
    assert rig.call("att/by_id", failed.id) == ["418 broken"] * 2
    assert rig.call("att/by_id", fresh_id(b"k", b"x" * 12))[0].startswith("404 there is no invocation inv_")
    assert rig.call("att/by_id", "inv_")[0].startswith("400 ctx.attach: 'inv_' is not an invocation id")
    assert "would wait for itself" in rig.call("att/itself")


def test_a_forged_one_is_a_dead_letter(rig: Rig) -> None:
    app = app_of()
    rig.start(app)
    id_ = fresh_id(b"k", b"x" * 12)
    publisher = rig.log.publisher("somebody")
    forged = [Command("attach", id_), Command("attach", id_, caller_id="x"), Command("attach", "x", caller_id=id_, ref=0)]
    homes = [id_hash(id_) % 3, id_hash(id_) % 3, 0]
    outputs = [Output("att.commands", home, None, COMMAND.encode(each)) for home, each in zip(homes, forged, strict=True)]
    publisher.publish(outputs, 1)
    publisher.close()
    rig.until(lambda: len(rig.dead_letters(app)) == 3)
    assert sorted(letter["odradek-field"] for letter in rig.dead_letters(app)) == ["caller_id", "caller_id", "id"]
