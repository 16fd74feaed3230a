"""Kill: whatever an invocation waits for, it ends without running any code, down the calls that it waits for; its key is free."""

import threading

import pytest

from odradek import App, Context, ObjectContext, TerminalError
from odradek_runtime.core.records.formats import Command
from odradek_runtime.core.records.request import Failure
from odradek_runtime.routing import fresh_id
from tests.engine.control.ordering import entry, left, ordered, tell
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
    ran = list(outside.ran)
    ordered(rig, app, "kill", id_)
    if waiting is not None:
        failure = waiting.reply().failure
        assert failure is not None
        assert failure.code == 409
        assert "was killed" in failure.message
    if name == "inbox":
        ordered(rig, app, "kill", *(each.id for each in rig.invocations(app) if each.target == "thing/sleep"))
    assert outside.ran == ran, "no code of it has run"
    outside.gate.set()
    assert rig.call("thing/quick", key=name) == "quick"
    if name == "limit":
        assert rig.call("states/narrow") == "narrowed"
    if name != "again":  # the timer of its next run is nobody's, and goes when its time has come
        rig.until(lambda: left(rig, app) == [])
    rig.later(7200)
    assert rig.call("thing/quick", key=name) == "quick"
    rig.until(lambda: left(rig, app) == [])
    assert set(outside.ran) - {"quick", "narrow", "attempt"} == set(), "nor later, when its time has come"
    letters = [letter["odradek-error"] for letter in rig.dead_letters(app)]
    assert letters == (["thing/record was killed"] if name == "record" else [])


def test_a_tree_of_calls_is_killed_but_not_what_was_sent(rig: Rig) -> None:
    app = App("tree", shards=4)
    node = app.object("node")
    woken: list[str] = []

    @node.handler
    async def leaf(ctx: ObjectContext) -> None:
        await ctx.sleep(60)
        woken.append(ctx.key)

    @node.handler
    async def branch(ctx: ObjectContext, depth: int) -> None:
        ctx.send(leaf, key=f"{ctx.key}s")
        left_, right = (
            ctx.call(branch if depth else leaf, *([depth - 1] if depth else []), key=f"{ctx.key}{side}") for side in "lr"
        )
        await left_
        await right
        woken.append("never")

    rig.start(app)
    root = rig.ask("node/branch", 2, key="n")
    rig.until(lambda: sum(each.status == "running" for each in rig.invocations(app)) == 15 + 7)
    ordered(rig, app, "kill", root.id)
    failure = root.reply().failure
    assert failure is not None
    assert failure.code == 409
    rig.until(lambda: sum(each.status == "running" for each in rig.invocations(app)) == 7)
    rig.later(61)
    rig.until(lambda: left(rig, app) == [])
    assert sorted(woken) == sorted(f"{key}s" for key in ("n", "nl", "nr", "nll", "nlr", "nrl", "nrr"))


def test_whoever_waits_for_a_killed_callee_is_told(rig: Rig) -> None:
    app = App("told", shards=2)

    @app.handler
    async def callee(ctx: Context) -> None:
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
    rig.until(lambda: len(rig.invocations(app)) == 2)
    ordered(rig, app, "kill", *(each.id for each in rig.invocations(app) if each.caller_id))
    assert asked.value() == "409 told/callee was killed"


def test_what_another_waits_for_too_goes_on(rig: Rig) -> None:
    app = App("common", shards=2)
    gate = threading.Event()

    @app.handler
    async def shared(ctx: Context) -> str:
        await ctx.run(gate.wait, 60, name="gate")
        return "shared"

    @app.handler
    async def caller(ctx: Context) -> str:
        return await ctx.call(shared, idempotency_key="one")

    rig.start(app)
    first = rig.ask("common/caller")
    rig.until(lambda: any(each.target == "common/shared" for each in rig.invocations(app)))
    second = rig.ask("common/caller")
    rig.until(lambda: any(key[:1] == b"a" for key in rig.journal(app)))
    ordered(rig, app, "kill", first.id)
    assert first.reply().status == "failed"
    gate.set()
    assert second.value() == "shared"


def test_nobody_kills_what_is_not_his_own_by_naming_himself_its_caller(rig: Rig) -> None:
    outside = Outside()
    app = make_app(outside)
    rig.start(app)
    id_ = begin(rig, app, "sleep")
    callee = begin(rig, app, "call")
    tell(rig, app, Command(kind="kill", id=id_, caller_app="other", caller_id=callee, ref=0))
    tell(rig, app, Command(kind="kill", id=id_, caller_id=id_, ref=-1))
    rig.settled(app)
    found = entry(rig, app, id_)
    assert found is not None
    assert found.status == "running"
    assert [letter["odradek-field"] for letter in rig.dead_letters(app)] == ["ref"]


def test_what_the_app_has_lost_can_be_killed(rig: Rig) -> None:
    def version(*, right: bool) -> App:
        app = App("lost", shards=1)
        thing = app.object("thing")

        @thing.handler
        async def quick(ctx: ObjectContext) -> str:
            return "quick"

        if right:

            @thing.handler
            async def gone(ctx: ObjectContext) -> None:
                await ctx.sleep(60)

            assert callable(gone)
        return app

    app = version(right=True)
    rig.start(app)
    id_ = rig.ask("thing/gone", key="k", wait=False).id
    rig.until(lambda: entry(rig, app, id_))
    rig.restart(version(right=False))
    rig.later(61)
    rig.until(lambda: (found := entry(rig, app, id_)) is not None and found.pause == "missing")
    waiting = rig.ask("thing/quick", key="k")
    ordered(rig, app, "kill", id_)
    assert waiting.value() == "quick"
    rig.until(lambda: left(rig, app) == [])


def test_one_killed_in_the_epoch_in_which_it_lined_up_never_starts(rig: Rig) -> None:
    app = App("line", shards=1)
    thing = app.object("thing")
    ran: list[int] = []

    @thing.handler
    async def hold(ctx: ObjectContext) -> None:
        await ctx.sleep(3600)

    @thing.handler
    async def quick(ctx: ObjectContext, number: int) -> None:
        ran.append(number)

    rig.start(app)
    holder, *others = (fresh_id(b"k", bytes([number]) * 12) for number in range(6))
    started = [Command(kind="invoke", id=holder, target="thing/hold", key=b"k")]
    started += [
        Command(kind="invoke", id=id_, target="thing/quick", key=b"k", payload=b"%d" % number, idempotent=True)
        for number, id_ in enumerate(others)
    ]
    killed = [Command(kind="kill", id=id_) for id_ in (others[0], others[1], others[3], holder)]
    tell(rig, app, *started, *killed)
    rig.settled(app)
    rig.until(lambda: left(rig, app) == [])
    assert ran == [2, 4]
    assert [(found.status, found.failure) for id_ in others if (found := entry(rig, app, id_))] == [
        ("failed", Failure(409, "thing/quick was killed")),
        ("failed", Failure(409, "thing/quick was killed")),
        ("completed", None),
        ("failed", Failure(409, "thing/quick was killed")),
        ("completed", None),
    ]


@pytest.mark.parametrize("kind", ["cancel", "pause"])
def test_one_in_line_is_unbegun_also_before_it_is_in_the_journal(rig: Rig, kind: str) -> None:
    app = App("line", shards=1)
    thing = app.object("thing")
    ran: list[str] = []

    @thing.handler
    async def hold(ctx: ObjectContext) -> None:
        await ctx.sleep(60)

    @thing.handler
    async def quick(ctx: ObjectContext) -> None:
        ran.append("quick")

    rig.start(app)
    holder, other = fresh_id(b"k", b"1" * 12), fresh_id(b"k", b"2" * 12)
    tell(
        rig,
        app,
        Command(kind="invoke", id=holder, target="thing/hold", key=b"k"),
        Command(kind="invoke", id=other, target="thing/quick", key=b"k"),
        Command(kind=kind, id=other),
    )
    rig.settled(app)
    rig.later(61)
    rig.until(lambda: entry(rig, app, holder) is None)
    rig.settled(app)
    assert ran == []
    found = entry(rig, app, other)
    assert (found and found.unbegun) == (None if kind == "cancel" else "inboxed")
    if kind == "pause":
        ordered(rig, app, "resume", other)
        rig.until(lambda: ran == ["quick"])
    rig.until(lambda: left(rig, app) == [])
