"""Steps: what was recorded is final, what was not is run again, and nobody sees a result before it is durable."""

import asyncio
import threading
import time

import pytest

from odradek import App, Context, RetryableError, RetryPolicy, TerminalError, idempotency_key, step
from odradek_runtime.log.port import Transaction
from tests.engine.faults import Verdict
from tests.engine.harness import Rig

QUICK = RetryPolicy(initial=0.01, max_delay=0.02)


def test_a_recorded_result_is_final(rig: Rig) -> None:
    app, runs = App("final", shards=1), list[int]()

    @step
    async def draw() -> int:
        runs.append(len(runs))
        return len(runs)

    @app.handler
    async def play(ctx: Context) -> list[int]:
        first = await draw()
        await ctx.sleep(0.03)
        second = await draw()
        await ctx.sleep(0.03)
        return [first, second]

    rig.start(app)
    assert rig.call("final/play") == [1, 2]
    assert len(runs) == 2


def test_failed_runs_are_repeated_with_the_same_idempotency_key(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    app, keys = App("again", shards=1), list[str]()

    @step(retry=QUICK)
    async def flaky() -> int:
        keys.append(idempotency_key())
        if len(keys) < 4:
            raise OSError("not yet")
        return len(keys)

    @app.handler
    async def go(ctx: Context) -> int:
        return await flaky() + await ctx.run(other)

    def other() -> int:
        keys.append(idempotency_key())
        return 0

    rig.start(app)
    assert rig.call("again/go") == 4
    assert len(keys) == 5
    assert len(set(keys[:4])) == 1, "the same for every run of one entry"
    assert keys[4] != keys[0], "another entry has another"
    told = [one for one in caplog.records if "not yet" in one.getMessage()]
    assert [vars(one)["handler"] for one in told] == ["again/go"] * 3, "so that no other handler's flood hides them"
    assert " (again/go): attempt 1 failed, again in " in told[0].getMessage()


@pytest.mark.parametrize(
    ("policy", "error", "runs", "code", "says"),
    [
        (RetryPolicy(max_attempts=1), OSError("x"), 1, 500, "failed after 1 attempt"),
        (RetryPolicy(max_attempts=3, initial=0.01), OSError("x"), 3, 500, "failed after 3 attempt(s): OSError (in the "),
        (RetryPolicy(max_duration=0.0), OSError("x"), 1, 500, "OSError (in the worker's log: inv_"),
        (RetryPolicy(retry_on=(KeyError,)), OSError("x"), 1, 500, "OSError (in the worker's log: inv_"),
        (None, TerminalError("no", code=418, metadata={"a": "b"}), 1, 418, "no"),
        (RetryPolicy(retry_on=(KeyError,), max_attempts=2), RetryableError("r", retry_after=0), 2, 500, "RetryableError"),
    ],
    ids=["one run", "three runs", "no time", "another error", "terminal", "retryable"],
)
def test_policies(rig: Rig, policy: RetryPolicy | None, error: Exception, runs: int, code: int, says: str) -> None:
    app, seen = App("policies", shards=1), list[int]()

    async def fail() -> None:
        seen.append(1)
        raise error

    @app.handler
    async def go(ctx: Context) -> None:
        try:
            await ctx.run(fail, retry=policy)
        except TerminalError as caught:
            await ctx.sleep(0.02)
            raise TerminalError(caught.message, code=caught.code, metadata=caught.metadata) from caught

    rig.start(app)
    failure = rig.ask("policies/go").reply().failure
    assert failure is not None
    assert (failure.code, len(seen)) == (code, runs)
    assert says in failure.message
    assert dict(failure.metadata) == (dict(error.metadata) if isinstance(error, TerminalError) else {})


def test_retry_after_replaces_the_delay(rig: Rig) -> None:
    app, runs = App("after", shards=1), list[float]()

    async def limited() -> None:
        runs.append(time.monotonic())
        if len(runs) == 1:
            raise RetryableError("later", retry_after=3600)

    @app.handler
    async def go(ctx: Context) -> None:
        await ctx.run(limited, retry=RetryPolicy(initial=0.001))

    rig.start(app)
    asked = rig.ask("after/go")
    rig.until(lambda: runs and b"t" in {key[:1] for key in rig.journal(app)})
    rig.until(lambda: rig.worker.metrics.retries == 1)
    rig.later(3500)
    time.sleep(0.05)
    assert len(runs) == 1, "not before its time"
    rig.later(101)
    assert asked.value() is None
    assert len(runs) == 2


def test_a_timeout_is_a_failed_run(rig: Rig) -> None:
    app, runs = App("slow", shards=1), list[int]()

    async def hang() -> int:
        runs.append(1)
        if len(runs) < 3:
            await asyncio.sleep(3600)
        return len(runs)

    @app.handler
    async def go(ctx: Context) -> int:
        return await ctx.run(hang, timeout=0.02, retry=QUICK)

    rig.start(app)
    assert rig.call("slow/go") == 3


def test_sync_steps_run_in_a_bounded_pool_of_threads_and_async_ones_on_one_loop(rig: Rig) -> None:
    app = App("threads", shards=1)
    at_once, most, lock = 0, 0, threading.Lock()

    def sync(number: int) -> str:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.02)
        with lock:
            at_once -= 1
        return f"{threading.current_thread().name} {number}"

    async def on_loop() -> str:
        return f"{threading.current_thread().name} {asyncio.get_running_loop().is_running()}"

    @app.handler
    async def go(ctx: Context) -> list[str]:
        calls = [ctx.run(sync, n) for n in range(12)]
        return [await call for call in calls] + [await ctx.run(on_loop)]

    rig.start(app, step_threads=3)
    told = rig.call("threads/go")
    assert [int(text.split()[1]) for text in told[:12]] == list(range(12))
    assert len({text.split()[0] for text in told[:12]}) == 3
    assert most == 3
    assert told[12].endswith(" True")
    assert told[12].split()[0] not in {text.split()[0] for text in told[:12]}


def test_nothing_follows_a_result_outside_before_it_is_committed(rig: Rig) -> None:
    """The commit that records it fails for a while: the handler has gone on, and nobody has heard of it."""
    app, ran, followed = App("durable", shards=1), threading.Event(), threading.Event()
    refuse = threading.Event()

    async def work() -> int:
        ran.set()
        refuse.set()
        return 7

    @app.handler
    async def go(ctx: Context) -> int:
        value = await ctx.run(work)
        await ctx.run(followed.set)
        return value

    def judge(transaction: Transaction) -> Verdict:
        chunks = [key for records in transaction.journal.values() for key, value in records if key[:1] == b"j" and value]
        return "aborted" if refuse.is_set() and chunks else "pass"

    rig.start(app)
    rig.log.judge = judge
    asked = rig.ask("durable/go")
    assert ran.wait(10)
    rig.until(lambda: rig.worker.metrics.epochs_refused >= 2)
    assert not followed.is_set()
    assert asked.replies == []
    rig.log.judge = lambda _: "pass"
    assert asked.value() == 7
    assert len(asked.replies) == 1
    assert followed.is_set()


def test_a_step_starts_only_after_its_start_is_committed(rig: Rig) -> None:
    app, runs = App("starts", shards=1), list[int]()

    async def work() -> int:
        runs.append(1)
        return len(runs)

    @app.handler
    async def go(ctx: Context) -> int:
        return await ctx.run(work)

    rig.start(app)
    rig.log.judge = lambda transaction: "aborted" if len(transactions_with_steps([transaction])) else "pass"
    asked = rig.ask("starts/go")
    rig.until(lambda: rig.worker.metrics.epochs_refused >= 3)
    assert runs == []
    rig.log.judge = lambda _: "pass"
    assert asked.value() == 1


def transactions_with_steps(transactions: list[Transaction]) -> list[Transaction]:
    return [t for t in transactions if any(key[:1] == b"t" for records in t.journal.values() for key, _ in records)]


def test_an_unawaited_step_runs_before_the_next_wait_is_over(rig: Rig) -> None:
    app, runs = App("eager", shards=1), list[str]()

    async def work(name: str) -> str:
        runs.append(name)
        return name

    @app.handler
    async def go(ctx: Context) -> str:
        ctx.run(work, "aside")
        return await ctx.run(work, "awaited")

    rig.start(app)
    assert rig.call("eager/go") == "awaited"
    rig.until(lambda: sorted(runs) == ["aside", "awaited"])
    rig.until(lambda: not [key for key in rig.journal(app) if key[:1] in b"jt" and key[-4:] < b"\x80"])


def test_a_step_may_be_awaited_twice_and_in_any_order(rig: Rig) -> None:
    app = App("twice", shards=1)

    async def number(n: int) -> int:
        await asyncio.sleep(0.001 * (5 - n))
        return n

    @app.handler
    async def go(ctx: Context) -> list[int]:
        steps = [ctx.run(number, n) for n in range(5)]
        last = await steps[4]
        return [last, await steps[0], await steps[4], *[await s for s in steps]]

    rig.start(app)
    assert rig.call("twice/go") == [4, 0, 4, 0, 1, 2, 3, 4]


def test_hundreds_of_steps_at_once(rig: Rig) -> None:
    app, runs = App("many", shards=1), list[int]()

    async def work(n: int) -> int:
        runs.append(n)
        return n

    @app.handler
    async def go(ctx: Context, count: int) -> int:
        steps = [ctx.run(work, n) for n in range(count)]
        return sum([await one for one in steps])

    rig.start(app, steps_running=50)
    assert rig.call("many/go", 300) == sum(range(300))
    assert sorted(runs) == list(range(300))


def test_only_what_was_not_recorded_runs_again_after_a_crash(disk_rig: Rig) -> None:
    rig, app, runs = disk_rig, App("crash", shards=2), list[str]()
    hold = threading.Event()

    async def done(n: int) -> int:
        runs.append(f"done {n}")
        return n

    async def held(n: int) -> int:
        runs.append(f"held {n}")
        await asyncio.to_thread(hold.wait)
        return n

    @app.handler
    async def go(ctx: Context, n: int) -> int:
        return await ctx.run(done, n) + await ctx.run(held, n) + await ctx.run(done, n)

    rig.start(app)
    asked = [rig.ask("crash/go", n) for n in range(5)]
    rig.until(lambda: len(runs) == 10)
    before = sorted(runs)
    rig.crash()
    runs.clear()
    hold.set()
    rig.start(app)
    assert [rig.attach(one.id).value() for one in asked] == [3 * n for n in range(5)]
    assert before == sorted([f"done {n}" for n in range(5)] + [f"held {n}" for n in range(5)])
    assert sorted(runs) == before, "the held ones again, and the ones after them; not the recorded ones"
    assert {reply.status for one in asked for reply in one.replies} <= {"moved"}, "nobody was told of an end that was not durable"


def test_a_step_begun_while_the_shard_opens_runs_once(rig: Rig) -> None:
    """A request that waits for the restore starts its step in the very turn that loads the timers of interrupted ones."""
    app, runs = App("opening", shards=1), list[int]()

    async def work() -> int:
        runs.append(1)
        await asyncio.sleep(0.05)
        return len(runs)

    @app.handler
    async def go(ctx: Context) -> int:
        return await ctx.run(work)

    rig.begin(app)
    asked = [rig.ask("opening/go") for _ in range(5)]
    assert [one.reply().status for one in asked] == ["completed"] * 5
    assert len(runs) == 5


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()], ids=repr)
def test_a_step_that_raises_what_nobody_should_leaves_the_others_alone(rig: Rig, error: BaseException) -> None:
    app, told = App("exits", shards=1), list[str]()

    def leave() -> None:
        raise error

    async def leave_on_loop() -> None:
        raise error

    async def fine() -> int:
        return 1

    @app.handler
    async def go(ctx: Context) -> int:
        for body in (leave, leave_on_loop):
            try:
                await ctx.run(body, retry=RetryPolicy(max_attempts=1))
            except TerminalError as caught:
                told.append(caught.message)
        return await ctx.run(fine)

    rig.start(app)
    assert rig.call("exits/go") == 1
    assert len(told) >= 2
    assert all(type(error).__name__ in text for text in told)
