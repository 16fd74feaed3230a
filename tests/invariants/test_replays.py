"""Replay is compared entry by entry with what was recorded; and what a failed attempt did is gone."""

import pytest

from odradek import App, Context, ObjectContext, RetryPolicy, State, step
from odradek_runtime.core.records.formats import INVOCATION, Stored
from odradek_runtime.log.embedded import EmbeddedLog
from tests.invariants.conftest import MakeStage
from tests.invariants.stage import Stage

count = State("count", int, default=0)
PROGRAMS = ["same", "another step", "a read more", "a read less", "another key", "nothing more"]


def program(version: str, name: str = "versions") -> App:
    """A handler that reads, sends and runs a step; its later versions do something else before the step."""
    app = App(name, shards=1)
    counter = app.object("counter")

    @step
    async def work() -> int:
        return 1

    @step
    async def other() -> int:
        return 1

    @app.handler
    async def note(_: Context, n: int) -> None: ...

    @counter.handler
    async def go(ctx: ObjectContext) -> int:
        if version != "a read less":
            ctx.get(count)
        if version == "a read more":
            ctx.get(count)
        ctx.send("counter/later", key="b" if version == "another key" else "a")
        if version == "nothing more":
            return 0
        return await (other() if version == "another step" else work())

    @counter.handler
    async def later(_: ObjectContext) -> None: ...

    return app


def suspended(stage: MakeStage) -> tuple[Stage, str]:
    """The first version, waiting for its step."""
    here = stage(program("same")).open()
    here.ask("counter/go", key="k")
    here.until(lambda: here.executor.submitted)
    here.until(lambda: here.quiet)
    return here, here.executor.submitted[0].id


def stored(here: Stage, id_: str) -> Stored:
    return INVOCATION.decode(here.machine.shards[0].read(b"i" + id_.encode()) or b"")


@pytest.mark.parametrize("version", PROGRAMS)
def test_code_that_does_something_else_is_paused_and_says_what_and_where(stage: MakeStage, version: str) -> None:
    first, id_ = suspended(stage)
    first.close()
    here = stage(program(version)).open()
    here.until(lambda: here.executor.submitted or stored(here, id_).status == "paused")

    if version == "same":
        assert stored(here, id_).status == "running"
        return
    assert here.executor.submitted == [], "nothing is done on top of a replay that went wrong"
    found = stored(here, id_)
    assert (found.status, found.pause) == ("paused", "divergence")
    assert "the journal has" in found.reason
    assert found.reason.startswith("entry ")


def test_a_divergence_is_paused_until_code_that_fits_is_there(stage: MakeStage, log: EmbeddedLog) -> None:
    first, id_ = suspended(stage)
    first.close()
    second = stage(program("another step")).open()
    second.until(lambda: stored(second, id_).status == "paused")
    second.until(lambda: second.quiet)
    second.close()

    here = stage(program("same")).open()
    here.until(lambda: here.executor.submitted)
    assert stored(here, id_).status == "running"


def test_a_failed_attempt_leaves_nothing_of_what_it_did_since_the_last_wait(stage: MakeStage) -> None:
    app, failing = App("attempts", shards=1), [True]
    counter, told = app.object("counter"), app.topic("attempts-out", value=str)

    @counter.handler
    async def go(ctx: ObjectContext) -> int:
        ctx.set(count, ctx.get(count) + 1)
        ctx.publish(told, "said", key="k")
        ctx.send("counter/other", key="o")
        if failing:
            raise OSError("not now")
        return ctx.get(count)

    @counter.handler
    async def other(ctx: ObjectContext) -> None:
        ctx.set(count, ctx.get(count) + 1)

    here = stage(app).open()
    replies = here.ask("counter/go", key="k")
    for _ in range(3):
        here.until(lambda: here.quiet and not here.engine.intake.waiting)
        here.later(10_000)
        here.turn()
    here.until(lambda: here.quiet)
    assert here.machine.metrics.retries >= 3
    assert here.values("attempts-out") == []
    assert here.machine.shards[0].read(b"scounter/k/count") is None
    assert here.machine.shards[0].read(b"scounter/o/count") is None

    failing.clear()
    here.later(100_000)
    here.until(lambda: replies)
    assert replies[0].value == b"1"
    here.until(lambda: here.machine.shards[0].read(b"scounter/o/count") == b"1")
    assert here.values("attempts-out") == ["said"]


def test_an_attempt_that_was_the_last_leaves_nothing_either(stage: MakeStage) -> None:
    """Given up after its only attempt: it fails, and what this attempt did has not been done."""
    app = App("last", shards=1)
    counter, told = app.object("counter"), app.topic("last-out", value=str)

    @counter.handler(retry=RetryPolicy(max_attempts=1), on_exhausted="fail")
    async def go(ctx: ObjectContext) -> int:
        ctx.set(count, 1)
        ctx.publish(told, "said", key="k")
        ctx.send("counter/other", key="o")
        raise OSError("not now")

    @counter.handler
    async def other(ctx: ObjectContext) -> None:
        ctx.set(count, 1)

    here = stage(app).open()
    replies = here.ask("counter/go", key="k")
    here.until(lambda: replies)
    here.until(lambda: here.quiet)

    assert replies[0].status == "failed"
    assert here.values("last-out") == []
    assert here.machine.shards[0].read(b"scounter/k/count") is None
    assert here.machine.shards[0].read(b"scounter/o/count") is None
