"""The executor by itself and in a worker: threads, timeouts, what bodies raise, and an end in time whatever they do."""

import asyncio
import contextvars
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from odradek import App, Context, RetryPolicy, TerminalError, idempotency_key
from odradek_runtime.worker.steps import executor
from odradek_runtime.worker.steps.lifespan import LifespanError
from tests.engine.harness import PATIENCE_S, Rig

ONCE = RetryPolicy(max_attempts=1)
QUICK = RetryPolicy(initial=0.01, max_delay=0.02)


def test_a_timeout_is_of_the_run_not_of_the_queue_for_a_thread(rig: Rig) -> None:
    app, gate, begun = App("queue", shards=1), threading.Event(), list[int]()

    def held() -> None:
        begun.append(0)
        gate.wait(PATIENCE_S)

    def quick(number: int) -> int:
        begun.append(number)
        return number

    @app.handler
    async def hold(ctx: Context) -> None:
        await ctx.run(held)

    @app.handler
    async def go(ctx: Context) -> int:
        waiting = ctx.run(quick, 1, timeout=0.05, retry=ONCE)
        await ctx.run(asyncio.sleep, 0.2, name="longer than its timeout")
        await ctx.run(open_gate)
        return await waiting

    async def open_gate() -> None:
        gate.set()

    rig.start(app, step_threads=1)
    holding = rig.ask("queue/hold")
    rig.until(lambda: begun == [0])
    assert rig.call("queue/go") == 1
    holding.reply()


def test_a_run_that_takes_too_long_says_so_and_its_thread_is_used_again(rig: Rig) -> None:
    app, gate = App("long", shards=1), threading.Event()

    def long() -> None:
        gate.wait(PATIENCE_S)

    async def long_later() -> None:
        await asyncio.sleep(PATIENCE_S)

    @app.handler
    async def go(ctx: Context) -> list[str]:
        told = list[str]()
        for body in (long, long_later):
            try:
                await ctx.run(body, timeout=0.02, retry=ONCE)
            except TerminalError as error:
                told.append(error.message)
        return told

    @app.handler
    async def next_(ctx: Context) -> int:
        return await ctx.run(lambda: 1, name="next", returns=int)

    rig.start(app, step_threads=1)
    assert [text.partition("TimeoutError: ")[2] for text in rig.call("long/go")] == ["it took longer than its timeout, 0.02 s"] * 2
    asked = rig.ask("long/next_")
    gate.set()
    assert asked.value() == 1


class Own(BaseException):
    """A user's own."""


RAISED: list[type[BaseException]] = [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, Own, StopIteration]


@pytest.mark.parametrize("error", RAISED, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("kind", ["sync", "async", "awaitable"])
def test_whatever_a_body_raises_is_retried_by_policy(rig: Rig, kind: str, error: type[BaseException]) -> None:
    app, runs = App("raised", shards=1), list[int]()

    def sync() -> int:
        runs.append(1)
        if len(runs) < 3:
            raise error
        return len(runs)

    async def later() -> int:
        return sync()

    bodies: dict[str, Callable[[], Any]] = {"sync": sync, "async": later, "awaitable": lambda: later()}

    @app.handler
    async def go(ctx: Context) -> int:
        return int(await ctx.run(bodies[kind], name="body", retry=QUICK))

    rig.start(app)
    assert rig.call("raised/go") == 3
    assert rig.call("raised/go") == 4, "and the executor goes on"


def test_a_task_that_exits_ends_neither_its_step_nor_the_others(rig: Rig) -> None:
    app, left = App("aside", shards=1), list[asyncio.Task[None]]()

    async def exits() -> None:
        raise SystemExit(3)

    async def starts() -> int:
        left.append(asyncio.create_task(exits()))
        await asyncio.wait(left)
        return 1

    @app.handler
    async def go(ctx: Context) -> int:
        return await ctx.run(starts)

    rig.start(app)
    assert rig.call("aside/go") == 1
    assert isinstance(left[0].exception(), SystemExit)


@pytest.mark.parametrize("kind", ["thread", "blocks the loop", "ignores cancellation"])
def test_a_worker_stops_in_time_though_a_body_does_not_end(rig: Rig, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CANCEL_S", "LIFESPAN_S", "MARGIN_S"):
        monkeypatch.setattr(executor, name, 0.1)
    app, gate, begun = App("endless", shards=1), threading.Event(), threading.Event()

    def thread() -> None:
        begun.set()
        gate.wait(PATIENCE_S)

    async def blocks() -> None:
        thread()

    async def ignores() -> None:
        begun.set()
        while not gate.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    body: dict[str, Any] = {"thread": thread, "blocks the loop": blocks, "ignores cancellation": ignores}

    @app.handler
    async def go(ctx: Context) -> None:
        await ctx.run(body[kind])

    rig.start(app)
    rig.ask("endless/go")
    assert begun.wait(PATIENCE_S)
    stopping = threading.Thread(target=rig.stop)
    stopping.start()
    stopping.join(PATIENCE_S - 5)
    assert not stopping.is_alive(), "it waits for the body"
    assert not gate.is_set()
    gate.set()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), Own()], ids=repr)
def test_a_lifespan_that_raises_what_nobody_should_keeps_the_worker_from_starting(rig: Rig, error: BaseException) -> None:
    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        if app.name == "unborn":
            raise error
        yield

    app = App("unborn", shards=1, lifespan=lifespan)
    with pytest.raises(LifespanError, match=type(error).__name__):
        rig.begin(app)
    rig.workers.pop()._executor.stop()


@pytest.mark.parametrize("error", [SystemExit(3), ValueError("no")], ids=repr)
def test_a_lifespan_that_fails_at_its_end_does_not_keep_the_worker_from_stopping(
    rig: Rig, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    @asynccontextmanager
    async def lifespan(_: App) -> AsyncIterator[None]:
        yield
        raise error

    rig.start(App("ends", shards=1, lifespan=lifespan))
    rig.stop()
    assert "the app's lifespan failed" in caplog.text
    assert type(error).__name__ in caplog.text


def test_a_lifespan_is_left_by_the_task_that_entered_it(rig: Rig) -> None:
    tasks = list[object]()

    @asynccontextmanager
    async def lifespan(_: App) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0.001))
            tasks.append(asyncio.current_task())
            yield
            tasks.append(asyncio.current_task())

    rig.start(App("one-task", shards=1, lifespan=lifespan))
    rig.stop()
    assert len(tasks) == 2 and tasks[0] is tasks[1]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # which is what is tested
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_process_that_a_body_forks_ends_where_the_body_does(rig: Rig, kind: str) -> None:
    """It would go on as a worker's thread that nobody stops."""
    app, children = App("forks", shards=1), list[int]()

    def fork() -> int:
        child = os.fork()
        if child == 0:
            raise SystemExit(7)
        children.append(child)
        return child

    async def fork_later() -> int:
        return fork()

    @app.handler
    async def go(ctx: Context) -> int:
        return await (ctx.run(fork) if kind == "sync" else ctx.run(fork_later))

    rig.start(app)
    rig.call("forks/go")
    ended: list[int] = []

    def waited() -> bool:
        pid, status = os.waitpid(children[0], os.WNOHANG)
        ended.extend([status] if pid else [])
        return bool(pid)

    try:
        rig.until(waited)
    except AssertionError:
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)
        raise
    assert os.waitstatus_to_exitcode(ended[0]) == 7


def test_a_body_that_cancels_itself_is_retried_by_policy(rig: Rig) -> None:
    app, runs = App("itself", shards=1), list[int]()

    async def body() -> int:
        runs.append(1)
        task = asyncio.current_task()
        if len(runs) < 3 and task is not None:
            task.cancel()
            await asyncio.sleep(PATIENCE_S)
        return len(runs)

    @app.handler
    async def go(ctx: Context) -> int:
        return await ctx.run(body, retry=QUICK)

    rig.start(app)
    assert rig.call("itself/go") == 3


def test_bodies_share_no_context(rig: Rig) -> None:
    app, mark = App("apart", shards=1), contextvars.ContextVar("mark", default=0)

    async def body(number: int) -> list[object]:
        before = mark.get()
        mark.set(number)
        return [before, idempotency_key()]

    @app.handler
    async def go(ctx: Context) -> list[list[object]]:
        asked = [ctx.run(body, number, idempotent=True) for number in range(1, 200)]
        return [await each for each in asked]

    rig.start(app)
    found = rig.call("apart/go")
    assert [before for before, _ in found] == [0] * 199
    assert len({key for _, key in found}) == 199
