"""Workflows: `run` once for each key, whoever starts it, from wherever; and in the end nothing is left of it."""

import pytest

from odradek import App, Context, Name, SharedContext, State, TerminalError, WorkflowContext
from odradek_runtime.core.records.formats import COMMAND, Command
from odradek_runtime.log.port import Output
from odradek_runtime.routing import id_hash, workflow_id
from tests.engine.harness import Rig

decision = Name("decision", str)
seen = State("seen", list[str], default=list)


def flows(runs: list[str], shards: int = 3, retention: float = 3_600) -> App:
    """A workflow that is started by calls, sends and records, and waits for a word."""
    app = App("flows", shards=shards)
    flow = app.workflow("flow", retention=retention)

    @flow.on(app.topic("starts", value=str))
    @flow.run
    async def run(ctx: WorkflowContext, what: str) -> str:
        runs.append(what)
        ctx.set(seen, [what])
        if what == "fail":
            raise TerminalError("failed", code=418)
        if what == "quick":
            return what
        word = await ctx.promise(decision)
        return f"{what} {word}"

    @flow.on(app.topic("words", value=str))
    @flow.shared
    async def say(ctx: SharedContext, word: str) -> None:
        ctx.promise(decision).resolve(word)

    @flow.shared
    async def look(ctx: SharedContext) -> list[str | None]:
        return [*ctx.get(seen), ctx.promise(decision).peek()]

    @app.handler
    async def start(ctx: Context, what: str) -> list[str]:
        first, second = ctx.call(run, what, key="k"), ctx.call(run, "again", key="k")
        return [first.invocation_id, second.invocation_id, ctx.send(run, "sent", key="k"), await first, await second]

    @app.handler
    async def itself(ctx: Context) -> str:
        try:
            return await ctx.call(selfish, key="s")
        except TerminalError as error:
            return error.message

    other = app.workflow("selfish")

    @other.run
    async def selfish(ctx: WorkflowContext) -> str:
        return await ctx.call(selfish, key=ctx.key)

    return app


@pytest.mark.parametrize("crash", [False, True])
def test_it_runs_once_whoever_starts_it(rig: Rig, crash: bool) -> None:
    runs: list[str] = []
    app, id_ = flows(runs), workflow_id("flow", b"k")
    rig.start(app)
    asked = rig.ask("flows/start", "called")
    rig.until(lambda: any(i.id == id_ for i in rig.invocations(app)))
    if crash:
        rig.restart(app, crash=True)
        asked = rig.attach(asked.id)
    rig.publish("starts", ("k", b"from a record"))
    rig.settled(app)
    rig.publish("words", ("k", b"word"))
    assert asked.value() == [id_, id_, id_, "called word", "called word"]
    rig.publish("starts", ("k", b"late"), ("k", b"later"))
    rig.settled(app)
    assert set(runs) == {"called"}
    assert rig.attach(id_).value() == "called word"
    assert rig.call("flow/look", key="k") == ["called", "word"]


@pytest.mark.parametrize("what", ["quick", "slow", "fail"])
def test_a_record_starts_it_and_its_result_is_kept(rig: Rig, what: str) -> None:
    runs: list[str] = []
    app, id_ = flows(runs), workflow_id("flow", b"k")
    rig.start(app)
    rig.publish("starts", ("k", what.encode()), ("k", b"second"), ("other", b"quick"))
    rig.publish("words", ("k", b"word"))
    rig.settled(app)
    rig.restart(app, crash=True)
    reply = rig.attach(id_).reply()
    if what == "fail":
        assert reply.failure is not None and reply.failure.code == 418
        assert len(rig.dead_letters(app)) == 1
    else:
        assert reply.value == (b'"quick"' if what == "quick" else b'"slow word"')
        assert rig.dead_letters(app) == []
    rig.publish("starts", ("k", b"third"))
    rig.settled(app)
    assert sorted(set(runs)) == sorted({what, "quick"})


def test_after_its_retention_it_is_gone_and_may_begin_anew(rig: Rig) -> None:
    runs: list[str] = []
    app, id_ = flows(runs, retention=60), workflow_id("flow", b"k")
    rig.start(app)
    rig.ask("flow/run", "one", key="k", wait=False)
    rig.call("flow/say", "word", key="k")
    assert rig.attach(id_).value() == "one word"
    rig.later(61)
    rig.until(lambda: rig.attach(id_, wait=False).reply().status == "not_found")
    rig.settled(app)
    assert [key for key in rig.journal(app) if key[:1] in b"wyj" or id_.encode() in key] == []
    assert rig.state(app, "flow", "k", "seen") is None
    assert rig.call("flow/look", key="k") == [None]
    assert rig.call("flow/run", "quick", key="k") == "quick"


def test_one_that_calls_itself_is_told(rig: Rig) -> None:
    rig.start(flows([]))
    assert "is this invocation's own key" in rig.call("flows/itself")


def test_another_app_starts_it_by_name(rig: Rig) -> None:
    runs: list[str] = []
    app, front = flows(runs), App("front", shards=2)

    @front.handler
    async def go(ctx: Context, what: str) -> list[str]:
        both = [ctx.call("flows/flow/run", each, key="k", returns=str) for each in (what, "again")]
        return [await each for each in both]

    rig.start(front, bootstrap_servers="the embedded log plays Kafka")
    rig.start(app)
    rig.workers.reverse()
    assert rig.ask("front/go", "quick").value() == ["quick", "quick"]
    assert runs == ["quick"]


def order(rig: Rig, command: Command) -> None:
    """As an operator's worker would write it."""
    publisher = rig.log.publisher("operator")
    publisher.publish([Output("flows.commands", id_hash(command.id) % 3, None, COMMAND.encode(command))], 1)
    publisher.close()


def test_purged_all_of_it_is_gone(rig: Rig) -> None:
    app, id_ = flows([]), workflow_id("flow", b"k")
    rig.start(app)
    rig.call("flow/say", "word", key="k")
    assert rig.call("flow/run", "one", key="k") == "one word"
    order(rig, Command("purge", id_))
    rig.until(lambda: rig.attach(id_, wait=False).reply().status == "not_found")
    rig.settled(app)
    assert [key for key in rig.journal(app) if key[:1] in b"wyj" or id_.encode() in key] == []


def test_restarted_from_an_entry_it_waits_on_for_what_it_waited_for(rig: Rig) -> None:
    runs: list[str] = []
    app, id_ = flows(runs), workflow_id("flow", b"k")
    rig.start(app)
    asked = rig.ask("flow/run", "one", key="k")
    rig.until(lambda: [key for key in rig.journal(app) if key[:1] == b"y"])
    before = len(runs)
    order(rig, Command("restart", id_, ref=2))
    rig.settled(app)
    assert len(runs) > before
    rig.call("flow/say", "word", key="k")
    assert asked.value() == "one word"
