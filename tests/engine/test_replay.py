"""Replay is exact: other code than the journal's is noticed at the first entry that differs, said, and waited out."""

from collections.abc import Awaitable, Callable

import pytest

from odradek import App, Context, ObjectContext
from tests.engine.harness import Rig

Body = Callable[[ObjectContext], Awaitable[str]]


async def number(n: int) -> int:
    return n


async def other(n: int) -> int:
    return -n


async def original(ctx: ObjectContext) -> str:
    one = await ctx.run(number, 1)
    ctx.set("one", one)
    await ctx.sleep(3600)
    two = await ctx.run(number, 2)
    return f"{one} {two}"


async def renamed(ctx: ObjectContext) -> str:
    one = await ctx.run(other, 1)
    return f"{one}"


async def missing(ctx: ObjectContext) -> str:
    ctx.set("one", 1)
    await ctx.sleep(3600)
    return "without"


async def extra(ctx: ObjectContext) -> str:
    one = await ctx.run(number, 1)
    await ctx.run(number, 11)
    ctx.set("one", one)
    await ctx.sleep(3600)
    return "more"


async def another_name(ctx: ObjectContext) -> str:
    ctx.set("two", await ctx.run(number, 1))
    await ctx.sleep(3600)
    return "two"


async def early(ctx: ObjectContext) -> str:
    return "early"


async def swallows(ctx: ObjectContext) -> str:
    try:
        await ctx.run(other, 1)
    except BaseException:  # noqa: BLE001, S110  (what no handler should do must not hide it)
        pass
    return "swallowed"


async def waits_before(ctx: ObjectContext) -> str:
    pending = ctx.run(number, 1)
    await ctx.sleep(0)
    return str(await pending)


def app_with(body: Body) -> App:
    app = App("replays", shards=1)
    thing, out = app.object("thing"), app.topic("out", value=str)

    @thing.handler
    async def go(ctx: ObjectContext) -> str:
        return await body(ctx)

    @thing.handler
    async def after(ctx: ObjectContext) -> str:
        return "after"

    @app.handler
    async def elsewhere(ctx: Context) -> None:
        ctx.publish(out, "fine")

    return app


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "crashed"])
@pytest.mark.parametrize(
    ("body", "recorded", "did"),
    [
        (renamed, "entry 0: the journal has step number", "the code did step other"),
        (missing, "entry 0: the journal has step number", "the code did set one"),
        (extra, "entry 1: the journal has set one", "the code did step number"),
        (another_name, "entry 1: the journal has set one", "the code did set two"),
        (early, "entry 0: the journal has step number", "the code returned"),
        (swallows, "entry 0: the journal has step number", "the code did step other"),
        (waits_before, "entry 1: the journal has set one", "the code did sleep"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_other_code_is_paused_and_the_right_code_resumes(
    rig: Rig, body: Body, recorded: str, did: str, crash: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_with(original)
    rig.start(app)
    asked = rig.ask("thing/go", key="k")
    rig.until(lambda: rig.state(app, "thing", "k", "one") == 1)
    rig.restart(app_with(body), crash=crash)
    rig.later(3601)
    rig.until(lambda: rig.paused(app))
    (paused,) = rig.paused(app)
    assert paused.pause == "divergence"
    assert recorded in paused.reason and did in paused.reason, paused.reason
    assert f"{paused.reason}; start code that does what is recorded, then it goes on" in caplog.text
    if "returned" not in did:
        line = body.__code__.co_firstlineno
        where = paused.reason.rpartition(" at ")[2]
        file, _, rest = where.partition(":")
        assert file == __file__
        assert line < int(rest.split()[0]) < line + 8 and rest.endswith(f" in {body.__name__}")
    after = rig.ask("thing/after", key="k")
    assert rig.ask("replays/elsewhere").value() is None, "everybody else goes on"
    assert after.replies == [], "its key waits"
    rig.restart(app_with(original), crash=crash)
    asked = rig.attach(asked.id)
    assert asked.value() == "1 2"
    assert rig.attach(after.id).value() == "after"
    rig.until(lambda: rig.paused(app) == [] and not [k for k in rig.journal(app) if k[:1] in b"zl"])


def with_handler(name: str, *more: str) -> App:
    app = App("gone", shards=1)
    inputs, out, thing = app.topic("in", value=int), app.topic("out", value=int), app.object("thing")

    for known in (name, *more):

        @thing.handler(name=known)
        async def go(ctx: ObjectContext, known: str = known) -> str:
            ctx.set("times", ctx.get("times", int, 0) + 1)
            await ctx.sleep(50)
            return known

    @thing.handler
    async def send(ctx: ObjectContext) -> None:
        ctx.send(f"thing/{name}", key="delayed", delay=50)

    if name == "here":

        @thing.on(inputs)
        async def take(ctx: ObjectContext, n: int) -> None:
            await ctx.sleep(50)
            ctx.publish(out, n)
    else:

        @app.on(inputs)
        async def take_else(ctx: Context, n: int) -> None:
            ctx.publish(out, -n)

    return app


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "crashed"])
def test_a_handler_that_has_gone_and_comes_back(rig: Rig, crash: bool) -> None:
    app = with_handler("here")
    rig.start(app)
    asked, inboxed = rig.ask("thing/here", key="k"), rig.ask("thing/here", key="k")
    rig.call("thing/send", key="s")
    rig.publish("in", ("r", 1))
    rig.until(lambda: len(rig.invocations(app)) == 5)
    rig.restart(with_handler("there"), crash=crash)
    rig.later(51)
    rig.until(lambda: len(rig.paused(app)) == 3)
    reasons = {i.target: (i.pause, i.reason) for i in rig.paused(app)}
    assert {kind for kind, _ in reasons.values()} == {"missing"}
    assert "the app no longer has the handler thing/here: deploy code that has it" in reasons["thing/here"][1]
    assert "thing/take on in" in reasons["thing/take"][1]
    rig.publish("in", ("r", 2), ("x", 3))
    rig.until(lambda: sorted(rig.values("out")) == [-3, -2])
    rig.restart(with_handler("here"), crash=crash)
    rig.until(lambda: 1 in rig.values("out"))
    assert rig.attach(asked.id).value() == "here"
    rig.later(51)
    assert rig.attach(inboxed.id).value() == "here"
    rig.until(lambda: not [i for i in rig.invocations(app) if i.status not in ("completed", "failed")])
    assert rig.state(app, "thing", "k", "times") == 2
    assert rig.state(app, "thing", "delayed", "times") == 1


def test_one_that_lost_its_handler_before_it_could_queue_does_not_barge_in(rig: Rig) -> None:
    """Its delayed start came while the handler was gone; when it is back, the key belongs to another."""
    app = with_handler("here")
    rig.start(app)
    rig.call("thing/send", key="s")
    rig.until(lambda: any(i.status == "scheduled" for i in rig.invocations(app)))
    rig.restart(with_handler("there"))
    rig.later(51)
    rig.until(lambda: rig.paused(app))
    holder = rig.ask("thing/there", key="delayed")
    rig.until(lambda: rig.state(app, "thing", "delayed", "times") == 1)

    both = with_handler("here", "there")
    rig.restart(both)
    rig.until(lambda: not rig.paused(app))
    assert rig.state(app, "thing", "delayed", "times") == 1, "one at a time"
    rig.later(51)
    assert rig.attach(holder.id).value() == "there"
    rig.until(lambda: rig.state(app, "thing", "delayed", "times") == 2)
