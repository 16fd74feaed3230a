"""Atomic between waits: what a failed attempt did is dropped, and the next goes on from the last wait."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from odradek import App, Context, ObjectContext, RetryableError, RetryPolicy, State, TerminalError
from tests.engine.harness import Rig

QUICK = RetryPolicy(initial=0.01, max_delay=0.02)
count = State("count", int, default=0)


def test_a_failed_attempt_leaves_nothing_and_the_next_goes_on_from_the_last_wait(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    app, ran = App("atomic", shards=1), list[str]()
    thing, out = app.object("thing"), app.topic("out", value=str)

    @thing.handler(retry=QUICK)
    async def go(ctx: ObjectContext) -> int:
        ran.append("first")
        ctx.set(count, ctx.get(count) + 1)
        ctx.publish(out, "before the wait")
        await ctx.sleep(0.03)
        ran.append("second")
        ctx.set(count, ctx.get(count) + 10)
        ctx.set("other", 1)
        ctx.publish(out, "after the wait")
        ctx.send(noted, len(ran), key="x")
        ctx.sleep(0.001)
        if ran.count("second") < 4:
            raise ValueError("not yet")
        assert ctx.get(count) == 11
        return ctx.get(count)

    @thing.handler
    async def noted(ctx: ObjectContext, n: int) -> None:
        ctx.set(count, ctx.get(count) + 1)

    rig.start(app)
    assert rig.call("thing/go", key="k") == 11
    rig.settled(app)
    assert sorted(m.value() or b"" for m in rig.records("out")) == [b"after the wait", b"before the wait"]
    rig.until(lambda: rig.state(app, "thing", "x", "count") == 1)
    assert ran.count("second") == 4
    assert rig.state(app, "thing", "k", "count") == 11
    assert rig.invocations(app)[0].attempts == 3
    told = [one for one in caplog.records if "not yet" in one.getMessage()]
    assert [vars(one)["handler"] for one in told] == ["thing/go"] * 3, "so that no other handler's flood hides them"


def test_a_terminal_error_keeps_what_was_done(rig: Rig) -> None:
    app = App("kept", shards=1)
    orders, out, thing = app.topic("orders", value=int), app.topic("out", value=int), app.object("thing")

    @thing.on(orders)
    async def take(ctx: ObjectContext, n: int) -> None:
        ctx.set(count, ctx.get(count) + n)
        ctx.publish(out, n)
        if n % 2:
            await ctx.sleep(0.001)
            ctx.set(count, ctx.get(count) + 100)
        raise TerminalError("enough", code=422, metadata={"why": "test"})

    rig.start(app)
    rig.publish("orders", ("k", 1), ("k", 2))
    rig.until(lambda: len(rig.dead_letters(app)) == 2)
    rig.settled(app)
    assert rig.state(app, "thing", "k", "count") == 103
    assert rig.values("out") == [1, 2]
    assert rig.journal(app) == {}


def test_a_failing_key_holds_up_only_itself(rig: Rig) -> None:
    app, broken = App("alone", shards=1), [True]
    orders, out, thing = app.topic("orders", value=int), app.topic("out", value=int), app.object("thing")

    @thing.on(orders)
    async def take(ctx: ObjectContext, n: int) -> None:
        if ctx.key == "bad" and broken[0]:
            raise RetryableError("broken", retry_after=0.01)
        ctx.publish(out, n, key=ctx.key)

    rig.start(app)
    rig.publish("orders", ("bad", 1), ("good", 2), ("bad", 3), ("good", 4), ("fine", 5), ("bad", 6))
    rig.until(lambda: sorted(rig.values("out")) == [2, 4, 5])
    rig.settled(app)
    assert rig.dead_letters(app) == []
    broken[0] = False
    rig.until(lambda: len(rig.records("out")) == 6)
    assert [v for v in rig.values("out") if v in (1, 3, 6)] == [1, 3, 6], "the key's own order"


def test_backoff_doubles_and_a_record_is_given_up_after_a_day(rig: Rig) -> None:
    app, at_ms = App("day", shards=1), list[float]()
    orders = app.topic("orders", value=int)

    @app.on(orders)
    async def take(ctx: Context, n: int) -> None:
        at_ms.append(rig.clock())
        raise ValueError("for ever")

    rig.start(app)
    rig.publish("orders", ("k", 1))
    for attempt in range(1, 13):
        rig.until(lambda attempt=attempt: len(at_ms) >= attempt and backing_off(rig, app, len(at_ms)))
        if len(at_ms) == attempt:  # on a busy machine the next one may have come by itself
            rig.later(min(0.05 * 2 ** (attempt - 1), 60) - 0.02)
    rig.until(lambda: len(at_ms) == 13 and backing_off(rig, app, 13))
    delays_s = [(b - a) / 1000 for a, b in pairwise(at_ms)]
    for number, delay_s in enumerate(delays_s):
        assert delay_s >= min(0.05 * 2**number, 60) - 0.002
    rig.later(timedelta(hours=23).total_seconds())
    rig.until(lambda: len(at_ms) == 14 and backing_off(rig, app, 14))
    assert rig.dead_letters(app) == []
    rig.later(timedelta(hours=1).total_seconds())
    rig.until(lambda: rig.dead_letters(app))
    (letter,) = rig.dead_letters(app)
    assert letter["odradek-error"].startswith("gave up after 15 attempts: ValueError (in the worker's log: inv_")
    assert letter["odradek-attempts"] == "15"
    assert rig.journal(app) == {}


@pytest.mark.parametrize("waits", ["for another attempt", "asleep"])
def test_a_delay_begins_when_it_is_asked_for_however_long_the_handler_took_until_then(rig: Rig, waits: str) -> None:
    app, began_ms, went_on_ms = App("slow", shards=1), list[float](), list[float]()

    @app.handler(retry=RetryPolicy(initial=0.1))
    async def go(ctx: Context) -> str:
        if not began_ms:
            rig.clock.passed_ms += 5_000
            began_ms.append(rig.clock())
            if waits == "for another attempt":
                raise ValueError("not yet")
        if waits == "asleep":
            await ctx.sleep(0.1)
        went_on_ms.append(rig.clock())
        return "done"

    rig.start(app)
    assert rig.call("slow/go") == "done"
    assert went_on_ms[0] - began_ms[0] >= 99, "a due time is a whole millisecond"


def backing_off(rig: Rig, app: App, attempts: int) -> bool:
    return [(i.status, i.attempts) for i in rig.invocations(app)] == [("backing_off", attempts)]


def test_progress_starts_the_count_anew(rig: Rig) -> None:
    """A week of work with a hiccup each day is not a day of failing."""
    app, failed = App("hiccup", shards=1), set[int]()
    orders, out = app.topic("orders", value=int), app.topic("out", value=int)

    @app.on(orders)
    async def take(ctx: Context, n: int) -> None:
        for day in range(4):
            if day not in failed:
                failed.add(day)
                raise ValueError(f"day {day}")
            await ctx.sleep(timedelta(days=1))
        ctx.publish(out, n)

    rig.start(app)
    rig.publish("orders", ("k", 1))
    for day in range(4):
        rig.until(lambda day=day: len(failed) == day + 1)
        rig.until(lambda: [i.status for i in rig.invocations(app)] == ["backing_off"])
        rig.later(1)
        rig.until(lambda: [i.status for i in rig.invocations(app)] == ["running"])
        rig.until(lambda: sleeping(rig, app))
        rig.later(86_400)
    rig.until(lambda: rig.values("out") == [1])
    assert rig.dead_letters(app) == []


def sleeping(rig: Rig, app: App) -> bool:
    now_ms = rig.clock()
    return any(k[:1] == b"t" and int.from_bytes(k[1:9], "big") > now_ms + 80_000_000 for k in rig.journal(app))


@pytest.mark.parametrize("on_exhausted", ["fail", "pause"])
def test_an_exhausted_policy_of_the_handler(rig: Rig, on_exhausted: Any) -> None:
    app, runs = App("exhausted", shards=1), list[int]()
    thing = app.object("thing")

    @thing.handler(retry=RetryPolicy(max_attempts=3, initial=0.001), on_exhausted=on_exhausted)
    async def go(ctx: ObjectContext) -> None:
        runs.append(1)
        ctx.set(count, 1)
        raise ValueError("never")

    @thing.shared
    async def look(ctx: Context) -> int:
        return 7

    rig.start(app)
    asked = rig.ask("thing/go", key="k")
    if on_exhausted == "fail":
        failure, id_ = asked.reply().failure, asked.reply().invocation_id
        assert failure is not None and failure.message == f"gave up after 3 attempts: ValueError (in the worker's log: {id_})"
    else:
        rig.until(lambda: rig.paused(app))
        assert rig.paused(app)[0].pause == "exhausted"
        assert asked.replies == []
    assert rig.call("thing/look", key="k") == 7
    assert len(runs) == 3
    assert rig.changelog("exhausted.state") == {}


def test_an_error_that_is_not_retried_ends_at_once(rig: Rig) -> None:
    app, runs = App("not-retried", shards=1), list[int]()

    @app.handler(retry=RetryPolicy(retry_on=(KeyError,)))
    async def go(ctx: Context) -> None:
        runs.append(1)
        raise ValueError("other")

    rig.start(app)
    failure = rig.ask("not-retried/go").reply().failure
    assert failure is not None and failure.code == 500
    assert len(runs) == 1


def test_a_result_that_cannot_be_encoded_fails_the_call(rig: Rig) -> None:
    app = App("unencodable", shards=1)

    @app.handler
    async def go(ctx: Context) -> Any:
        return object()

    rig.start(app)
    failure = rig.ask("unencodable/go").reply().failure
    assert failure is not None and failure.code == 500
    assert "result: $: expected a value of JSON's own types" in failure.message


def test_a_handlers_timeout_counts_from_its_start(rig: Rig) -> None:
    app = App("limited", shards=1)
    thing, out = app.object("thing"), app.topic("out", value=str)

    @thing.handler(timeout=100)
    async def wait(ctx: ObjectContext, seconds: float) -> str:
        ctx.set(count, ctx.get(count) + 1)
        await ctx.sleep(seconds)
        ctx.publish(out, "late")
        return "in time"

    rig.start(app)
    delayed = rig.ask("thing/wait", 50, key="delayed", after_s=1000)
    held, inboxed = rig.ask("thing/wait", 90, key="k"), rig.ask("thing/wait", 90, key="k")
    rig.until(lambda: len(rig.invocations(app)) == 3)
    rig.later(91)
    assert held.value() == "in time"
    rig.until(lambda: rig.state(app, "thing", "k", "count") == 2)
    rig.later(91)
    assert inboxed.value() == "in time", "the time in the inbox does not count"
    endless = rig.ask("thing/wait", 10_000, key="k")
    rig.until(lambda: rig.state(app, "thing", "k", "count") == 3)
    rig.later(101)
    failure = endless.reply().failure
    assert failure is not None and failure.code == 504
    rig.later(1000)
    rig.until(lambda: rig.state(app, "thing", "delayed", "count") == 1)
    rig.later(51)
    assert delayed.value() == "in time", "the delay does not count"
    assert rig.call("thing/wait", 0, key="k") == "in time", "the key is free again"


@pytest.mark.parametrize("above", ["on", "handler"])
def test_a_subscription_has_a_policy_of_its_own_in_both_orders_of_the_decorators(rig: Rig, above: str) -> None:
    app, runs = App("orders-of", shards=1), list[str]()
    thing, once, often = app.object("thing"), app.topic("once", value=str), app.topic("often", value=str)
    on_once = thing.on(once, retry=RetryPolicy(max_attempts=1))
    on_often = thing.on(often)
    handler = thing.handler(name="taken", retry=RetryPolicy(max_attempts=3, initial=0.001))

    async def take(ctx: ObjectContext, word: str) -> None:
        runs.append(word)
        ctx.set(count, 1)
        raise ValueError("never")

    if above == "on":
        on_often(on_once(handler(take)))
    else:
        handler(on_once(on_often(take)))
    assert list(thing.registered) == ["taken"]
    rig.start(app)
    rig.publish("once", ("k", b"once"))
    rig.publish("often", ("k", b"often"))
    failure = rig.ask("thing/taken", "asked", key="a").reply().failure
    assert failure is not None and failure.message.startswith("gave up after 3 attempts: ValueError (in the worker's log: inv_")
    rig.until(lambda: len(rig.dead_letters(app)) == 2)
    assert sorted(runs) == ["asked"] * 3 + ["often"] * 3 + ["once"]
    assert {letter["odradek-handler"] for letter in rig.dead_letters(app)} == {"thing/taken"}
    assert rig.state(app, "thing", "k", "count") is None, "what an attempt did that failed is dropped, also by the last one"


def test_a_function_is_made_a_handler_once() -> None:
    thing = App("twice", shards=1).object("thing")

    async def take(ctx: ObjectContext, word: str) -> None: ...

    thing.handler(take)
    with pytest.raises(ValueError, match="there is already a handler of this name"):
        thing.handler(take)
