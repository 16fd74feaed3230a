"""Epochs that fail: a poisonous record is isolated, an unknown outcome is looked up, and nothing happens twice."""

import asyncio
import random

import pytest

from odradek import App, Context, ObjectContext
from odradek_runtime.log.port import Transaction
from tests.engine.faults import Judge, Verdict
from tests.engine.harness import Rig

MARK = b"poison"


def marked(transaction: Transaction) -> bool:
    """Some output (not a dead letter) carries the mark."""
    letters = ("mill.dead-letters", "mill.commands")
    return any(MARK in (value or b"") and topic not in letters for topic, _, _, value, *_ in transaction.outputs)


def refuse_marked(transaction: Transaction) -> Verdict:
    return "poison" if marked(transaction) else "pass"


def mill(shards: int = 2) -> App:
    app = App("mill", shards=shards)
    grain, flour, audit = app.topic("grain", value=str), app.topic("flour", value=str), app.topic("audit", value=str)
    stone = app.object("stone")

    @stone.on(grain)
    async def grind(ctx: ObjectContext, what: str) -> None:
        ctx.set("count", ctx.get("count", int, 0) + 1)
        if what.startswith("slow"):
            await ctx.sleep(0.01)
        ctx.publish(flour, what, key=ctx.key)
        if what.startswith("send"):
            ctx.send(mark, what, key=f"to-{ctx.key}")

    @app.on(grain)
    async def watch(ctx: Context, what: str) -> None:
        ctx.publish(audit, what.replace("poison", "p-o-i-s-o-n"))

    @stone.handler
    async def mark(ctx: ObjectContext, what: str) -> str:
        ctx.set("marks", ctx.get("marks", int, 0) + 1)
        ctx.publish(flour, what.removeprefix("send "), key=ctx.key)
        return what

    @stone.handler
    async def step_then_mark(ctx: ObjectContext, what: str) -> str:
        what = await ctx.run(later, what)
        ctx.publish(flour, what, key=ctx.key)
        return what

    return app


async def later(what: str) -> str:
    await asyncio.sleep(0.001)
    return what


@pytest.mark.parametrize("bad", ["poison", "slow poison"])
def test_a_poisonous_record_is_isolated_and_its_neighbours_run_once(rig: Rig, bad: str) -> None:
    app = mill()
    rig.start(app)
    rig.log.judge = refuse_marked
    records = [(f"k{n % 5}", f"good {n}".encode()) for n in range(60)]
    records[17] = ("k2", bad.encode())
    records[41] = ("k1", b"poison again")
    rig.publish("grain", *records)
    rig.until(lambda: len(rig.records("flour")) == 58 and len(rig.dead_letters(app)) == 2)
    rig.settled(app)
    rig.until(lambda: rig.journal(app) == {})
    assert sorted(m.value() or b"" for m in rig.records("flour")) == sorted(v for _, v in records if b"poison" not in v)
    assert len(rig.records("audit")) == 60, "the other handler of the same record is innocent"
    letters = {letter["value"]: letter for letter in rig.dead_letters(app)}
    assert set(letters) == {bad, "poison again"}
    for letter in letters.values():
        assert letter["odradek-error"].startswith("the log refused what it published")
        assert letter["odradek-handler"] == "stone/grind"
    # A segment that had committed before the wait stays; one that was refused left nothing.
    assert rig.state(app, "stone", "k2", "count") == (12 if bad.startswith("slow") else 11)
    assert rig.state(app, "stone", "k1", "count") == 11
    refused = rig.worker.metrics.epochs_refused
    rig.publish("grain", *[(f"k{n}", b"good again") for n in range(50)])
    rig.until(lambda: len(rig.records("flour")) == 108)
    assert rig.worker.metrics.epochs_refused == refused


def test_a_poisonous_call_fails_its_caller_only(rig: Rig) -> None:
    app = mill()
    rig.start(app)
    rig.log.judge = refuse_marked
    asked = [rig.ask("stone/mark", f"fine {n}", key=f"k{n}") for n in range(10)]
    bad = rig.ask("stone/mark", "poison", key="k3")
    stepped = rig.ask("stone/step_then_mark", "poison too", key="k4")
    asked += [rig.ask("stone/mark", f"fine {n}", key=f"k{n}") for n in range(10)]
    for one in (bad, stepped):
        failure = one.reply().failure
        assert failure is not None and failure.code == 500
        assert failure.message.startswith("the log refused what it published")
    assert [one.value() for one in asked] == [f"fine {n}" for n in range(10)] * 2
    rig.settled(app)
    assert len(rig.records("flour")) == 20
    assert [rig.state(app, "stone", f"k{n}", "marks") for n in range(10)] == [2] * 10
    assert all(len(one.replies) == 1 for one in [*asked, bad, stepped])


def test_a_poisonous_send_is_found_behind_its_sender(rig: Rig) -> None:
    """The sender and the callee run in one epoch: the callee is the culprit, the sender's work stays."""
    app = mill()
    rig.start(app)
    rig.log.judge = lambda t: "poison" if any(value == b"poison" for _, _, _, value, *_ in t.outputs) else "pass"
    rig.publish("grain", ("a", b"good"), ("a", b"send poison"), ("a", b"good"))
    rig.until(lambda: rig.state(app, "stone", "a", "count") == 3)
    rig.settled(app)
    assert [m.value() for m in rig.records("flour")] == [b"good", b"send poison", b"good"]
    assert rig.state(app, "stone", "to-a", "marks") is None
    assert rig.dead_letters(app) == []
    assert rig.call("stone/mark", "fine", key="to-a") == "fine"


def now_and_then(verdict: Verdict) -> Judge:
    """This verdict for about every sixth transaction; never regularly, or a step that is run again would never be recorded."""
    chance = random.Random(7)
    return lambda _: verdict if chance.random() < 0.16 else "pass"


@pytest.mark.parametrize("verdict", ["aborted", "unknown, applied", "unknown, lost"])
def test_an_outcome_that_is_not_success_costs_nothing_but_time(rig: Rig, verdict: Verdict) -> None:
    app, ran = App("bank", shards=2), dict[str, int]()
    deposits, done = app.topic("deposits", value=int), app.topic("done", value=int)
    account = app.object("account")

    @account.on(deposits)
    async def deposit(ctx: ObjectContext, n: int) -> None:
        if n % 5 == 0:
            await ctx.run(later, str(n))
        if n % 7 == 0:
            await ctx.sleep(0.002)
        ctx.set("total", ctx.get("total", int, 0) + n)
        ctx.publish(done, n, key=ctx.key)

    @account.handler
    async def add(ctx: ObjectContext, n: int) -> int:
        ran[ctx.invocation_id] = ran.get(ctx.invocation_id, 0) + 1
        total = ctx.get("total", int, 0) + n
        ctx.set("total", total)
        return total

    rig.start(app, epoch_events=7)
    rig.log.judge = now_and_then(verdict)
    asked = []
    for batch in range(4):
        rig.publish("deposits", *[(f"k{n % 3}", n) for n in range(batch * 30, batch * 30 + 30)])
        asked += [rig.ask("account/add", 1000, key=f"k{n % 3}") for n in range(6)]
        asked[-1].reply()
    values = [one.value() for one in asked]
    rig.until(lambda: len(rig.records("done")) == 120)
    rig.settled(app)
    rig.log.judge = lambda _: "pass"
    rig.until(lambda: not [i for i in rig.invocations(app) if i.status not in ("completed", "failed")])
    for key in range(3):
        numbers = [n for n in range(120) if n % 3 == key]
        assert rig.state(app, "account", f"k{key}", "total") == sum(numbers) + 8000
    assert len({(n % 3, value) for n, value in enumerate(values)}) == 24, "each saw a total of its own"
    assert [len(one.replies) for one in asked] == [1] * 24, "answered exactly once"
    assert sorted(rig.values("done")) == list(range(120))
    assert rig.worker.metrics.epochs_refused >= 2
    if verdict == "unknown, applied":
        twice = [rig.post_again(one) for one in asked]
        assert [one.value() for one in twice] == values, "looked up by their ids, not run again"


def test_an_evicted_member_commits_nothing_and_comes_back(rig: Rig) -> None:
    app = mill()
    rig.start(app)
    for turn in range(3):
        rig.publish("grain", *[(f"k{n % 5}", f"{turn} {n}".encode()) for n in range(100)])
        rig.log.members[-1].evict()
    rig.start(app)
    rig.until(lambda: len(rig.records("flour")) == 300)
    rig.settled(app)
    assert sorted(m.value() or b"" for m in rig.records("flour")) == sorted(
        f"{turn} {n}".encode() for turn in range(3) for n in range(100)
    )


def test_two_workers_share_the_shards_under_load_and_hand_them_over(rig: Rig) -> None:
    """A hand-over does not wait until the load is gone: only for the epochs that touch what moves."""
    app = mill(6)
    rig.start(app)
    for turn in range(6):
        rig.publish("grain", *[(f"k{n % 7}", f"{turn} {n}".encode()) for n in range(300)])
        if turn in (1, 3):
            rig.start(app)
        if turn == 4:
            rig.stop()
    rig.until(lambda: len(rig.records("flour")) == 1800)
    rig.settled(app)
    for key in range(7):
        mine = [m.value() for m in rig.records("flour") if m.key() == f"k{key}".encode()]
        assert mine == [f"{t} {n}".encode() for t in range(6) for n in range(300) if n % 7 == key]
