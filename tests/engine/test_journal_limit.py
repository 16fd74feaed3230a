"""A journal that grows without end: its invocation is paused at the limit, loses nothing, and goes on when it may have more."""

import pytest

from odradek import App, Context, ObjectContext, State, TerminalError
from odradek_runtime.core.records.formats import COMMAND, Command
from odradek_runtime.log.port import Output
from odradek_runtime.routing import id_hash
from tests.engine.harness import Rig

done = State("done", int, default=0)


def growing(ran: list[int], last: int = 12) -> App:
    """An object whose handler takes one step after the other, with a clean-up that takes some, too."""
    app = App("growing", shards=1)
    thing = app.object("thing")

    def taken(number: int, size: int) -> str:
        ran.append(number)
        return "x" * size

    @thing.handler
    async def many(ctx: ObjectContext, large: int) -> int:
        try:
            for number in range(last):
                await ctx.run(taken, number, large, name="one")
                ctx.set(done, number + 1)
        finally:
            if len(ran) >= 100:
                for number in range(10):
                    await ctx.run(taken, number, 1, name="clean")
        return ctx.get(done)

    @thing.handler
    async def again(ctx: ObjectContext, left: int) -> int:
        """The way out: never more than four entries of journal."""
        ctx.set(done, ctx.get(done) + 1)
        await ctx.run(taken, left, 1, name="one")
        if left:
            ctx.send(again, left - 1, key=ctx.key)
        return left

    @app.handler
    async def other(ctx: Context) -> int:
        return await ctx.run(int, "1", name="one")

    return app


@pytest.fixture
def ran() -> list[int]:
    return []


@pytest.mark.parametrize("crash", [False, True])
def test_it_is_paused_at_the_limit_and_goes_on_with_a_higher_one(
    rig: Rig, ran: list[int], crash: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app = growing(ran)
    rig.start(app, journal_entries=10)
    asked = rig.ask("thing/many", 1, key="k")
    rig.until(lambda: rig.paused(app))
    (paused,) = rig.paused(app)
    assert paused.pause == "journal"
    assert "its journal would have 11 entries, and may have 10 (setting journal_entries): raise the setting" in paused.reason
    assert f"thing/many {asked.id} has half of the journal that it may have" in caplog.text
    assert rig.call("growing/other") == 1, "everybody else goes on"
    rig.restart(app, crash=crash, journal_entries=10)
    rig.settled(app)
    assert len(rig.paused(app)) == 1
    rig.restart(app, crash=crash, journal_entries=100)
    assert rig.attach(asked.id).value() == 12
    assert sorted(set(ran)) == list(range(12))
    assert not crash or len(ran) >= 12


def test_so_it_is_by_bytes(rig: Rig, ran: list[int]) -> None:
    app = growing(ran)
    rig.start(app, journal_bytes=5_000)
    rig.ask("thing/many", 1_000, key="k")
    rig.until(lambda: rig.paused(app))
    (paused,) = rig.paused(app)
    assert "and may hold 5,000 (setting journal_bytes): raise" in paused.reason


def test_one_that_is_cancelled_may_clean_up_all_the_same(rig: Rig, ran: list[int]) -> None:
    ran += range(100)
    app = growing(ran)
    rig.start(app, journal_entries=10)
    asked = rig.ask("thing/many", 1, key="k")
    rig.until(lambda: rig.paused(app))
    publisher = rig.log.publisher("operator")
    publisher.publish([Output("growing.commands", id_hash(asked.id) % 1, None, COMMAND.encode(Command("cancel", asked.id)))], 1)
    publisher.close()
    failure = asked.reply().failure
    assert failure is not None and failure.code == 409
    assert len(ran) - 100 >= 10 + 5


def test_one_that_sends_to_itself_never_comes_to_it(rig: Rig, ran: list[int]) -> None:
    app = growing(ran)
    rig.start(app, journal_entries=4)
    assert rig.call("thing/again", 30, key="k") == 30
    rig.settled(app)
    rig.until(lambda: rig.state(app, "thing", "k", "done") == 31)
    rig.until(lambda: sorted(set(ran)) == list(range(31)))


def test_the_limit_counts_what_is_caught(rig: Rig, ran: list[int]) -> None:
    """A handler cannot go past it by catching what it is told: it is told nothing."""
    app = App("catching", shards=1)

    @app.handler
    async def stubborn(ctx: Context) -> None:
        while True:
            try:
                await ctx.sleep(0.001)
            except TerminalError:
                ran.append(1)

    rig.start(app, journal_entries=5)
    rig.ask("catching/stubborn")
    rig.until(lambda: rig.paused(app))
    assert ran == []
