"""Restart: as a new invocation, or from an entry on with earlier results kept; and purge, after which nothing is left."""

import asyncio
import threading
from functools import partial

import pytest

from odradek import App, Context, ObjectContext, RetryPolicy, TerminalError
from odradek_runtime.core.records import keys
from odradek_runtime.routing import derived_id, id_hash
from tests.engine.control.ordering import entry, left, ordered
from tests.engine.control.states import NAMES, Outside, begin, make_app
from tests.engine.harness import PATIENCE_S, Rig


def more(ran: list[str], before: int) -> bool:
    return len(ran) > before


def sleeps(rig: Rig, app: App) -> list[int]:
    """Which entries are sleeps that have yet to end."""
    timers = [keys.split_timer(key) for key in rig.journal(app) if key[:1] == b"t"]
    return sorted(ref for due_ms, _, ref in timers if due_ms and ref >= 0)


def new_id(id_: str) -> str:
    return derived_id(id_hash(id_), id_, "restart")


@pytest.mark.parametrize("name", NAMES)
def test_whatever_it_waits_for_it_begins_anew_under_a_new_id(rig: Rig, name: str) -> None:
    outside = Outside()
    app = make_app(outside)
    rig.start(app)
    id_ = begin(rig, app, name)
    waiting = rig.attach(id_) if name != "record" else None
    if name == "paused":
        outside.gate.set()
    ordered(rig, app, "restart", id_, becomes=new_id(id_))
    begun = rig.attach(new_id(id_))
    if waiting is not None:
        failure = waiting.reply().failure
        assert failure is not None
        assert (failure.code, new_id(id_) in failure.message) == (409, True)
    assert rig.dead_letters(app) == []
    outside.gate.set()
    rig.later(7200)
    if name == "again":
        rig.until(lambda: (found := entry(rig, app, new_id(id_))) is not None and found.status == "running")
        ordered(rig, app, "kill", new_id(id_))
        return
    rig.later(7200)
    reply = begun.reply()
    assert reply.status == "completed", reply
    rig.until(lambda: left(rig, app) == [])


def test_what_has_failed_is_kept_with_its_input_and_restarted(rig: Rig) -> None:
    app = App("again", shards=2)
    fixed: list[bool] = []

    @app.handler
    async def one(ctx: Context, number: int) -> int:
        if not fixed:
            raise TerminalError("not yet", code=422)
        return number + int(ctx.headers["more"])

    rig.start(app)
    asked = rig.ask("again/one", 7, headers={"more": "1"})
    assert asked.reply().status == "failed"
    fixed.append(True)
    ordered(rig, app, "restart", asked.id, becomes=new_id(asked.id))
    assert rig.attach(new_id(asked.id)).value() == 8
    ordered(rig, app, "restart", asked.id, becomes=new_id(asked.id))
    assert rig.attach(asked.id).reply().status == "failed", "the old one stays what it was"
    ordered(rig, app, "restart", new_id(asked.id), becomes=new_id("inv_aaaaaaaaaaaaaaaaaaaaaaaaaa"))
    assert len(rig.invocations(app)) == 2, "what has ended well keeps no input"


def test_from_an_entry_on_earlier_results_are_kept(rig: Rig) -> None:
    app = App("entries", shards=2)
    thing = app.object("thing")
    ran: list[str] = []
    fixed: list[bool] = []

    async def step(name: str) -> str:
        ran.append(name)
        return f"{name}{len(ran)}"

    @thing.handler
    async def callee(ctx: ObjectContext) -> str:
        await ctx.sleep(1 if fixed else 3600)
        return "called"

    @thing.handler(retry=RetryPolicy(max_attempts=1), on_exhausted="pause")
    async def one(ctx: ObjectContext) -> list[str]:
        first = await ctx.run(step, "a", name="a")
        second = await ctx.run(step, "b", name="b")
        third = await ctx.call(callee, key="callee") if not ctx.key.endswith("short") else ""
        if not fixed:
            raise ValueError("a bug")
        return [first, second, third]

    rig.start(app)
    short = rig.ask("thing/one", key="short")
    rig.until(lambda: (found := entry(rig, app, short.id)) is not None and found.status == "paused")
    long = rig.ask("thing/one", key="long")
    rig.until(lambda: any(each.target == "thing/callee" for each in rig.invocations(app)))
    fixed.append(True)
    ordered(rig, app, "restart", short.id, ref=1)
    assert short.value() == ["a1", "b5", ""], "a is kept, b has run again"
    ordered(rig, app, "restart", long.id, ref=2)
    rig.until(lambda: sum(each.target == "thing/callee" for each in rig.invocations(app)) == 1)
    rig.later(2)
    assert long.value() == ["a3", "b4", "called"], "the call was made anew, with the code of today"
    rig.until(lambda: left(rig, app) == [])
    assert ran == ["a", "b", "a", "b", "b"]


def test_what_is_open_before_the_entry_goes_on(rig: Rig) -> None:
    app = App("open", shards=1)
    gate, runs = threading.Event(), list[int]()

    def held() -> int:
        runs.append(1)
        assert gate.wait(60)
        return len(runs)

    async def no() -> int:
        raise OSError("never")

    @app.handler
    async def one(ctx: Context) -> list[int]:
        early = ctx.run(held, name="held")
        sleep = ctx.sleep(60)
        if not gate.is_set():
            await ctx.run(no, name="no", retry=RetryPolicy(initial=600.0, max_delay=600.0))
        await sleep
        return [await early]

    rig.start(app)
    asked = rig.ask("open/one")
    rig.until(lambda: len(runs) == 1 and rig.worker.metrics.handlers["open/one"].step_retries == 1)
    gate.set()
    ordered(rig, app, "restart", asked.id, ref=2)
    rig.later(61)
    assert asked.value() == [1], "it runs on, and its result counts"
    rig.later(600)
    rig.until(lambda: left(rig, app) == [])


def test_what_was_restarted_as_new_is_not_restarted_twice(rig: Rig) -> None:
    outside = Outside()
    app = make_app(outside)
    rig.start(app)
    id_ = begin(rig, app, "sleep")
    ordered(rig, app, "restart", id_, becomes=new_id(id_))
    ordered(rig, app, "restart", id_, becomes=derived_id(id_hash(id_), id_, "another"))
    assert sorted(each.id for each in rig.invocations(app)) == sorted([id_, new_id(id_)])


def test_an_entry_that_is_not_there_restarts_nothing(rig: Rig) -> None:
    outside = Outside()
    app = make_app(outside)
    rig.start(app)
    id_ = begin(rig, app, "sleep")
    before = entry(rig, app, id_)
    ordered(rig, app, "restart", id_, ref=7)
    assert entry(rig, app, id_) == before
    ordered(rig, app, "restart", id_, becomes="inv_nonsense")
    assert [letter["odradek-field"] for letter in rig.dead_letters(app)] == ["id"]


@pytest.mark.parametrize("name", ["inbox", "delay", "limit"])
def test_what_was_paused_before_it_had_begun_has_no_entry_to_restart_from(rig: Rig, name: str) -> None:
    outside = Outside()
    app = make_app(outside)
    rig.start(app)
    id_ = begin(rig, app, name)
    ordered(rig, app, "pause", id_)
    before = entry(rig, app, id_)
    assert before is not None
    assert before.unbegun
    ordered(rig, app, "restart", id_, ref=0)
    assert entry(rig, app, id_) == before
    outside.gate.set()
    rig.later(7200)
    rig.settled(app)
    assert outside.ran.count("quick") + max(outside.ran.count("narrow") - 1, 0) == 0, "it stands still"
    ordered(rig, app, "resume", id_)
    assert rig.attach(id_).reply().status == "completed"
    rig.until(lambda: left(rig, app) == [])
    assert outside.ran.count("narrow" if name == "limit" else "quick") == (2 if name == "limit" else 1)


def test_what_was_cancelled_is_restarted_from_an_entry_of_its_clean_up(rig: Rig) -> None:
    app = App("cleaner", shards=1)
    ran: list[str] = []

    async def step(name: str) -> str:
        ran.append(name)
        return name

    @app.handler
    async def one(ctx: Context) -> list[str]:
        done = [await ctx.run(step, "first", name="first")]
        try:
            await ctx.sleep(7200)
            done.append("slept")
        except asyncio.CancelledError:
            done.append(await ctx.run(step, "undo", name="undo"))
            await ctx.sleep(60)
            done.append(await ctx.run(step, "last", name="last"))
            await ctx.sleep(3600)
        return done

    rig.start(app)
    asked = rig.ask("cleaner/one")
    rig.until(lambda: sleeps(rig, app) == [1])
    ordered(rig, app, "cancel", asked.id)
    rig.until(lambda: 3 in sleeps(rig, app))
    rig.later(61)
    rig.until(lambda: 5 in sleeps(rig, app))
    for _ in range(2):  # what is written anew is restarted as well
        before = len(ran)
        ordered(rig, app, "restart", asked.id, ref=4)
        rig.until(partial(more, ran, before))
        rig.until(lambda: 5 in sleeps(rig, app))
    ordered(rig, app, "restart", asked.id, ref=2)
    rig.later(7201)
    assert asked.value() == ["first", "slept"]
    assert ran == ["first", "undo", "last", "last", "last"]


def test_what_has_ended_is_purged_and_its_idempotency_key_is_free(rig: Rig) -> None:
    app = App("purged", shards=2)
    ran: list[int] = []

    @app.handler
    async def one(ctx: Context) -> int:
        ran.append(1)
        return len(ran)

    @app.handler
    async def waits(ctx: Context) -> None:
        await ctx.sleep(60)

    rig.start(app)
    asked = rig.ask("purged/one", idempotency_key="k")
    assert asked.value() == rig.ask("purged/one", idempotency_key="k").value() == 1
    running = rig.ask("purged/waits", wait=False).id
    rig.until(lambda: entry(rig, app, running))
    ordered(rig, app, "purge", asked.id, running)
    assert [each.id for each in rig.invocations(app)] == [running]
    assert not any(key[:1] == b"t" and asked.id.encode() in key for key in rig.journal(app))
    assert rig.attach(asked.id).reply().status == "not_found"
    assert rig.ask("purged/one", idempotency_key="k").value() == 2


def test_a_step_before_the_entry_that_runs_is_not_run_a_second_time(rig: Rig) -> None:
    app, gate, runs = App("beside", shards=1), threading.Event(), list[str]()

    def slow() -> str:
        runs.append("slow")
        gate.wait(PATIENCE_S)
        if runs.count("slow") == 1:
            raise OSError("once more")
        return "slow"

    def quick() -> str:
        runs.append("quick")
        return "quick"

    @app.handler
    async def go(ctx: Context) -> list[str]:
        beside = ctx.run(slow, retry=RetryPolicy(initial=0.01))
        return [await ctx.run(quick), await beside]

    rig.start(app)
    asked = rig.ask("beside/go")
    rig.until(lambda: rig.worker.metrics.steps == 1)
    ordered(rig, app, "restart", asked.id, ref=1)
    rig.until(lambda: runs.count("quick") == 2)
    assert runs.count("slow") == 1
    gate.set()
    rig.until(lambda: rig.worker.metrics.handlers["beside/go"].step_retries == 1)
    rig.later(1)
    assert asked.value() == ["quick", "slow"]
    assert runs.count("slow") == 2, "its result counts, and that it failed: it has its next attempt"
