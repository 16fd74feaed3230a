"""Timers: they cost no memory while they are far off, are loaded in time, and go when what they are for has ended."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from odradek import App, Context, RetryPolicy
from odradek_runtime.core.records.formats import TIMER, Timer
from odradek_runtime.core.shard import Shard
from odradek_runtime.core.timers import WINDOW_MS
from tests.engine.harness import Rig
from tests.engine.sleepy import sleepy, texts


def test_timers_far_away_stay_in_the_store(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The heap holds what is due within the window; the rest is loaded when its time comes near."""
    app, seen = sleepy(), set[Shard]()
    put = Shard.set_timer

    def watched(shard: Shard, key: bytes, timer: Timer) -> None:
        seen.add(shard)
        put(shard, key, timer)

    monkeypatch.setattr(Shard, "set_timer", watched)
    rig.start(app)
    naps = [rig.ask("sleepy/nap", 1000 + n / 100) for n in range(100)]
    rig.until(lambda: len(rig.invocations(app)) == 100)
    assert sum(len(shard.timers) for shard in seen) == 0
    rig.later(1000 - WINDOW_MS / 2000)
    rig.until(lambda: sum(len(shard.timers) for shard in seen) >= 100)
    assert [nap.replies for nap in naps] == [[]] * 100
    rig.later(WINDOW_MS / 2000 + 2)
    assert all(nap.value() > 999 for nap in naps)


def test_timers_are_loaded_in_bites(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("odradek_runtime.core.timers.REFILL", 7)
    app = sleepy()
    rig.start(app)
    naps = [rig.ask("sleepy/nap", 100 + n / 100) for n in range(50)]
    rig.until(lambda: len(rig.invocations(app)) == 50)
    rig.later(102)
    assert all(nap.value() > 99 for nap in naps)


def test_a_request_may_be_delayed(rig: Rig) -> None:
    app = sleepy()
    rig.start(app)
    asked = rig.ask("thing/note", "by request", key="k", wait=False, after_s=100)
    assert asked.reply().status == "accepted"
    assert rig.attach(asked.id, wait=False).reply().status == "running"
    assert texts(rig) == []
    rig.later(101)
    rig.until(lambda: texts(rig) == ["by request"])
    rig.until(lambda: rig.attach(asked.id, wait=False).reply().status == "completed")


def test_an_end_before_everything_is_replayed_leaves_no_timer(rig: Rig) -> None:
    app = App("ahead", shards=1)

    @app.handler(timeout=0.2)
    async def one(ctx: Context) -> None:
        await ctx.sleep(timedelta(milliseconds=1))
        await ctx.sleep(timedelta(hours=1))

    rig.start(app)
    reply = rig.ask("ahead/one").reply()
    assert reply.failure is not None and reply.failure.code == 504
    assert [TIMER.decode(value).kind for key, value in rig.journal(app).items() if key[:1] == b"t"] == ["purge"]


def test_a_timer_that_has_been_cancelled_does_not_fill_the_epoch_for_ever(rig: Rig) -> None:
    app = App("full", shards=1)

    @app.handler(timeout=0.2)
    async def one(ctx: Context) -> str:
        await ctx.sleep(timedelta(milliseconds=1))
        return "done"

    rig.start(app, epoch_events=1)
    for _ in range(2):
        assert rig.call("full/one") == "done"
        rig.later(1)  # its timeout is over, and would have been due


class Weather(Exception):
    """Something that a retry might mend."""


def waiting() -> App:
    """Handlers that end while a timer of theirs is far ahead, and whose ids may soon be another's."""
    app = App("waiting", shards=1)
    patient = RetryPolicy(initial=60, factor=1.0, max_delay=60)

    def fails() -> None:
        raise Weather

    def kept(**options: Any) -> Callable[[Callable[..., Any]], Any]:
        return app.handler(idempotency_retention=timedelta(seconds=1), **options)

    @app.handler
    async def nothing(ctx: Context) -> None:
        pass

    @kept()
    async def step(ctx: Context) -> str:
        ctx.run(fails, retry=patient)
        await ctx.sleep(1)
        return "did not wait for it"

    @kept(timeout=1, retry=patient)
    async def retried(ctx: Context) -> str:
        raise Weather

    @kept(timeout=60)
    async def timed(ctx: Context) -> str:
        await ctx.sleep(40)
        return "in time"

    return app


def ahead(rig: Rig, app: App) -> list[str]:
    """The kinds of timers that are in the journal."""
    return [TIMER.decode(value).kind for key, value in rig.journal(app).items() if key[:1] == b"t"]


@pytest.mark.parametrize("rig", ["kept"], indirect=True)
def test_what_ends_while_a_step_backs_off_takes_its_timer_along(rig: Rig) -> None:
    app = waiting()
    rig.start(app)
    asked = rig.ask("waiting/step")
    rig.until(lambda: ahead(rig, app).count("step") == 1 and rig.worker.metrics.retries == 1)
    rig.later(1)
    assert asked.value() == "did not wait for it"
    assert ahead(rig, app) == ["purge"]


@pytest.mark.parametrize(("handler", "ends_after_s", "reply"), [("step", 2, 200), ("retried", 2, 504), ("timed", 50, 200)])
def test_a_timer_left_behind_does_nothing_to_another_invocation_of_the_same_id(
    disk_rig: Rig, handler: str, ends_after_s: float, reply: int
) -> None:
    rig, app = disk_rig, waiting()
    rig.start(app)
    asked = rig.ask(f"waiting/{handler}", idempotency_key="k")
    rig.until(lambda: ahead(rig, app) and (handler == "timed" or rig.worker.metrics.retries == 1))
    rig.restart(app, crash=True)
    asked = rig.attach(asked.id)
    rig.later(ends_after_s)
    failure = asked.reply().failure
    assert (failure.code if failure is not None else 200) == reply
    rig.later(2)
    rig.until(lambda: not rig.invocations(app))  # its retention is over: the id is free
    following = rig.ask(f"waiting/{handler}", idempotency_key="k", after_s=3_600)
    rig.until(lambda: [i.status for i in rig.invocations(app)] == ["scheduled"])
    rig.later(100)
    rig.call("waiting/nothing")  # what was due before has fired
    rig.until(lambda: sorted(ahead(rig, app)) == ["purge", "start"])
    assert sorted(i.status for i in rig.invocations(app)) == ["completed", "scheduled"]
    assert following.replies == []
