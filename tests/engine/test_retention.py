"""What stays of an invocation that has ended: its journal, where its handler keeps it, until its time has come, and no longer."""

import pytest

from odradek import App, Context, ObjectContext, TerminalError
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import CHUNK, COMMAND, INVOCATION, TIMER, Command, Stored
from odradek_runtime.log.port import Output
from odradek_runtime.routing import id_hash
from tests.engine.harness import Rig

KEPT_S = 3_600


def keeper() -> App:
    """A handler of each way to end, whose journals are kept for an hour, and one whose are not."""
    app = App("keeper", shards=2)
    things = app.object("thing")

    @app.handler(journal_retention=KEPT_S)
    async def steps(ctx: Context, fails: bool) -> int:
        number = await ctx.run(int, "7", name="seven")
        await ctx.sleep(0.001)
        ctx.uuid()
        if fails:
            raise TerminalError("no", code=418)
        ctx.send(quick)
        return number

    @app.handler(journal_retention=KEPT_S)
    async def quick(ctx: Context) -> None:
        ctx.now()

    @app.handler
    async def gone(ctx: Context) -> int:
        return await ctx.run(int, "8", name="eight")

    @app.handler(journal_retention=KEPT_S)
    async def forever(ctx: Context) -> None:
        await ctx.sleep(100 * KEPT_S)

    @things.handler(journal_retention=0.5)
    async def brief(ctx: ObjectContext) -> int:
        ctx.set("n", 1)
        return await ctx.run(int, "9", name="nine")

    @things.on(app.topic("things", value=str), retry=None)
    async def noted(ctx: ObjectContext, text: str) -> None:
        ctx.set("text", text)

    @app.on(app.topic("words", value=str))
    async def plain(ctx: Context, word: str) -> None:
        ctx.now()

    return app


def entries(rig: Rig, app: App, id_: str) -> list[tuple[str, str]]:
    """(kind, name) of what the kept journal of an invocation holds."""
    chunks = sorted((key, value) for key, value in rig.journal(app).items() if key.startswith(keys.chunks(id_)))
    return [(entry.kind, entry.name) for _, value in chunks for entry in CHUNK.decode(value).entries]


def kept(rig: Rig, app: App, id_: str) -> Stored:
    """Its entry."""
    return INVOCATION.decode(rig.journal(app)[keys.invocation(id_)])


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("crash", [False, True])
def test_a_journal_is_kept_with_its_end(rig: Rig, fails: bool, crash: bool) -> None:
    app = keeper()
    rig.start(app)
    asked = rig.ask("keeper/steps", fails)
    reply = asked.reply()
    assert (reply.failure.code if reply.failure else reply.value) == (418 if fails else b"7")
    if crash:
        rig.restart(app, crash=True)
    rig.settled(app)
    assert kept(rig, app, asked.id).status == ("failed" if fails else "completed")
    found = [each for each in entries(rig, app, asked.id) if each[0] != "completion"]
    assert found == [("step", "seven"), ("sleep", ""), *([] if fails else [("send", "keeper/quick")])]
    rig.later(KEPT_S + 1)
    rig.until(lambda: not [key for key in rig.journal(app) if asked.id.encode() in key])


def test_what_never_waited_is_kept_too(rig: Rig) -> None:
    app = keeper()
    rig.start(app)
    asked = rig.ask("keeper/quick")
    assert asked.value() is None
    rig.settled(app)
    assert entries(rig, app, asked.id) == [("now", "")]


def test_without_the_word_nothing_is_kept(rig: Rig) -> None:
    app = keeper()
    rig.start(app)
    asked = rig.ask("keeper/gone")
    assert asked.value() == 8
    rig.settled(app)
    assert entries(rig, app, asked.id) == []


def test_a_killed_one_keeps_its_journal(rig: Rig) -> None:
    app = keeper()
    rig.start(app)
    asked = rig.ask("keeper/forever")
    rig.until(lambda: entries(rig, app, asked.id))
    order(rig, Command("kill", asked.id))
    failure = asked.reply().failure
    assert failure is not None and failure.code == 409
    rig.settled(app)
    assert entries(rig, app, asked.id) == [("sleep", "")]
    assert [key for key in rig.journal(app) if key[:1] in b"lqz"] == []
    assert [TIMER.decode(value).kind for key, value in rig.journal(app).items() if key[:1] == b"t"] == ["purge"]


def test_it_is_purged_with_the_rest(rig: Rig) -> None:
    app = keeper()
    rig.start(app)
    asked = rig.ask("keeper/steps", False)
    asked.value()
    order(rig, Command("purge", asked.id))
    rig.until(lambda: not [key for key in rig.journal(app) if asked.id.encode() in key])


def test_a_key_is_free_while_the_journal_is_kept(rig: Rig) -> None:
    app = keeper()
    rig.start(app)
    first, second = rig.ask("thing/brief", key="k"), rig.ask("thing/brief", key="k")
    assert (first.value(), second.value()) == (9, 9)
    rig.later(86_400)
    rig.until(lambda: not [key for key in rig.journal(app) if key[:1] in b"ij"])


def order(rig: Rig, command: Command) -> None:
    """As an operator's worker would write it."""
    publisher = rig.log.publisher("operator")
    publisher.publish([Output("keeper.commands", id_hash(command.id) % 2, None, COMMAND.encode(command))], 1)
    publisher.close()
