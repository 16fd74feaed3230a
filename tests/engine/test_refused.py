"""Words that do not work in a handler (yet) end its invocation at once, with the way out, whatever is made of their error."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from odradek import App, Context, Name, ObjectContext, State, Workflow, WorkflowContext, step
from odradek_runtime.core.refusal import STEP, THREAD
from tests.engine.harness import Rig

Word = Callable[[Context], Awaitable[Any]]
count = State("count", int, default=0)


@step
async def work(number: int = 0) -> int:
    return number


async def give() -> int:
    return 1


def blocking() -> int:
    return 1


async def _http(ctx: Context) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.get("http://127.0.0.1:9/")


async def _stream(ctx: Context) -> None:
    async with httpx.AsyncClient(trust_env=False) as client, client.stream("GET", "http://127.0.0.1:9/") as reply:
        await reply.aread()


async def _socket(ctx: Context) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", 9))


async def _http_in_a_group(ctx: Context) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_http(ctx))
        group.create_task(work())


async def _socket_in_a_deadline(ctx: Context) -> None:
    async with asyncio.timeout(60):
        await _socket(ctx)


async def _from_a_thread(ctx: Context) -> None:
    asyncio.get_running_loop().call_soon_threadsafe(print)


async def _signals(ctx: Context) -> None:
    asyncio.get_running_loop().add_signal_handler(10, print)


async def _event(ctx: Context) -> None:
    await asyncio.Event().wait()


async def _contended(ctx: Context) -> None:
    lock = asyncio.Lock()
    await lock.acquire()
    await lock.acquire()


async def _future(ctx: Context) -> None:
    await asyncio.Future()


async def _future_of_another_loop(ctx: Context) -> None:
    loop = asyncio.new_event_loop()
    try:
        await loop.create_future()
    finally:
        loop.close()


async def _condition(ctx: Context) -> None:
    condition = asyncio.Condition()
    async with condition:
        await condition.wait()


async def _run(ctx: Context) -> None:
    coroutine = give()
    try:
        asyncio.run(coroutine)
    finally:
        coroutine.close()


async def _own_loop(ctx: Context) -> None:
    loop, coroutine = asyncio.new_event_loop(), give()
    try:
        loop.run_until_complete(coroutine)
    finally:
        coroutine.close()
        loop.close()


async def _bare(ctx: Context) -> None:
    class Bare:
        def __await__(self) -> Any:
            yield "anything"

    await Bare()


WORDS: dict[str, tuple[Word, str, str]] = {
    "to_thread": (lambda _: asyncio.to_thread(blocking), "asyncio.to_thread", THREAD),
    "run_in_executor": (lambda _: asyncio.get_running_loop().run_in_executor(None, blocking), "run_in_executor", THREAD),
    "Future": (_future, "await", STEP),
    "a future in a task": (lambda _: asyncio.create_task(_future(_)), "await", STEP),
    "a thread in a task": (lambda _: asyncio.gather(asyncio.to_thread(blocking), give()), "asyncio.to_thread", THREAD),
    "httpx in a task group": (_http_in_a_group, "anyio", STEP),
    "a socket in a deadline": (_socket_in_a_deadline, "sock_connect", STEP),
    "call_soon_threadsafe": (_from_a_thread, "call_soon_threadsafe", STEP),
    "signal handlers": (_signals, "add_signal_handler", STEP),
    "a future of another loop": (_future_of_another_loop, "await of a Future", STEP),
    "Event": (_event, "asyncio.Event.wait", STEP),
    "Lock": (_contended, "asyncio.Lock.acquire", STEP),
    "Condition": (_condition, "asyncio.Condition.wait", STEP),
    "Queue": (lambda _: asyncio.Queue[int]().get(), "asyncio.Queue.get", STEP),
    "open_connection": (lambda _: asyncio.open_connection("127.0.0.1", 9), "asyncio.open_connection", STEP),
    "subprocess": (lambda _: asyncio.create_subprocess_exec("true"), "asyncio.create_subprocess_exec", STEP),
    "getaddrinfo": (lambda _: asyncio.get_running_loop().getaddrinfo("localhost", 9), "getaddrinfo", STEP),
    "sock_connect": (_socket, "sock_connect", STEP),
    "httpx": (_http, "httpx.AsyncClient.get", STEP),
    "httpx stream": (_stream, "anyio", STEP),
    "anyio.to_thread": (lambda _: anyio.to_thread.run_sync(blocking), "anyio.run_sync", THREAD),
    "anyio.open_file": (lambda _: anyio.open_file("/dev/null"), "anyio.open_file", STEP),
    "anyio.Path": (lambda _: anyio.Path("/").exists(), "anyio.Path.exists", STEP),
    "asyncio.run": (_run, "asyncio.run", STEP),
    "a loop of its own": (_own_loop, "run_until_complete", STEP),
    "a bare yield": (_bare, "await of a str", STEP),
}  # fmt: skip
SAID_BY_ITSELF = ("asyncio.run", "a loop of its own")
"""asyncio raises a RuntimeError of its own there, before any loop is asked for anything."""


async def plainly(ctx: Context, word: Word) -> None:
    await word(ctx)


async def catching(ctx: Context, word: Word) -> None:
    with suppress(Exception):
        await word(ctx)


async def insisting(ctx: Context, word: Word) -> None:
    while True:
        with suppress(Exception):
            await word(ctx)


async def catching_all(ctx: Context, word: Word) -> None:
    try:
        await word(ctx)
    except BaseException:  # noqa: BLE001, S110
        pass
    await ctx.sleep(0.001)


async def cleaning_up(ctx: Context, word: Word) -> None:
    try:
        await word(ctx)
    finally:
        await ctx.sleep(0.001)
        await asyncio.to_thread(blocking)


async def after_a_wait(ctx: Context, word: Word) -> None:
    await ctx.sleep(0.001)
    await word(ctx)


HOW = (plainly, catching, insisting, catching_all, cleaning_up, after_a_wait)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # a gather that is refused at its first
@pytest.mark.parametrize("word", list(WORDS))
def test_the_invocation_ends_at_once_with_the_word_its_place_and_the_remedy(rig: Rig, word: str) -> None:
    app, runs = App("refused", shards=1), list[str]()
    use, named, remedy = WORDS[word]
    ways = {how.__name__: how for how in (HOW if word not in SAID_BY_ITSELF else (plainly, after_a_wait))}

    @app.handler
    async def go(ctx: Context, how: str) -> str:
        runs.append(how)
        await ways[how](ctx, use)
        return "went on"

    @app.handler
    async def fine(ctx: Context) -> int:
        return await work(1) + await ctx.run(blocking)

    rig.start(app)
    asked = {how: rig.ask("refused/go", how) for how in ways}
    for how, one in asked.items():
        failure = one.reply().failure
        assert failure is not None, f"{how}: {one.reply()}"
        assert failure.code == 501
        assert named in failure.message.partition(" (")[0]
        assert f"({Path(__file__)}:" in failure.message
        assert remedy in failure.message
    first = [how for how in ways if how != "after_a_wait"]
    assert sorted(how for how in runs if how != "after_a_wait") == sorted(first), "one run each"
    assert rig.call("refused/fine") == 2


@pytest.mark.parametrize("how", HOW, ids=lambda how: how.__name__)
def test_nothing_since_the_last_wait_is_kept_and_the_record_is_a_dead_letter(rig: Rig, how: Callable[..., Awaitable[None]]) -> None:
    app, runs = App("letters", shards=1), list[int]()
    orders, out, thing = app.topic("orders", value=int), app.topic("out", value=int), app.object("thing")

    @thing.on(orders)
    async def take(ctx: ObjectContext, n: int) -> None:
        runs.append(n)
        if n == 2:
            ctx.publish(out, -1)
            ctx.set(count, 99)
            ctx.send(other, n, key="x")
            await how(ctx, lambda _: asyncio.to_thread(blocking))
        ctx.publish(out, n)
        ctx.set(count, ctx.get(count) + 1)

    @thing.handler
    async def other(ctx: ObjectContext, n: int) -> None:
        ctx.publish(out, n)

    rig.start(app)
    rig.publish("orders", *[("k", n) for n in (1, 2, 3)])
    rig.until(lambda: rig.dead_letters(app))
    rig.settled(app)
    kept = how is after_a_wait  # what it did before it waited is no longer in question
    assert sorted(rig.values("out")) == ([-1, 1, 2, 3] if kept else [1, 3])
    assert rig.state(app, "thing", "k", "count") == (100 if kept else 2)
    (letter,) = rig.dead_letters(app)
    assert letter["value"] == "2"
    assert "asyncio.to_thread does not work in a handler" in letter["odradek-error"]
    assert rig.journal(app) == {}


def test_one_may_look_at_the_loop_and_the_task_and_log(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    app = App("looks", shards=1)
    monkeypatch.setattr(logging, "logAsyncioTasks", True, raising=False)

    @app.handler
    async def go(ctx: Context) -> list[Any]:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        logging.getLogger("users").warning("a line whose record asks for the name of the task")
        seen: list[Any] = [loop.is_running(), loop.is_closed(), task.done(), task.get_name(), hash(task) == hash(task)]
        async with asyncio.Lock(), asyncio.Semaphore(1), asyncio.timeout(None):
            seen.append(await work(7))
        return [*seen, await asyncio.wait_for(ctx.run(blocking), None)]

    rig.start(app)
    assert rig.call("looks/go") == [True, False, False, "odradek-handler", True, 7, 1]


def test_an_eviction_that_runs_into_one_ends_nobody_else(rig: Rig) -> None:
    """A coroutine that is dropped runs its `finally` while another one's turn it is."""
    app = App("dropped", shards=1)

    @app.handler
    async def go(ctx: Context, n: int) -> int:
        try:
            for _ in range(3):
                await ctx.sleep(0.002)
        finally:
            if n % 2:
                await asyncio.to_thread(blocking)
        return n

    rig.start(app, coroutine_cache=1)
    asked = [rig.ask("dropped/go", n) for n in range(20)]
    assert [one.reply().status for one in asked] == ["completed", "failed"] * 10


flow = Workflow("flow")


@flow.run
async def run_flow(ctx: WorkflowContext, request: str) -> int:
    return 0


LATER: dict[str, Callable[[Any], Any]] = {
    "ctx.signal": lambda ctx: ctx.signal(Name("s", int)),
    "ctx.compensate": lambda ctx: ctx.compensate(blocking),
    "ctx.patched": lambda ctx: ctx.patched("x"),
}


@pytest.mark.parametrize("word", list(LATER))
def test_words_of_the_api_that_come_later_end_the_invocation_at_once_too(rig: Rig, word: str) -> None:
    app, runs = App("later", shards=1), list[bool]()
    thing = app.object("thing")

    @thing.handler
    async def go(ctx: ObjectContext, caught: bool) -> None:
        runs.append(caught)
        ctx.set(count, 1)
        if not caught:
            LATER[word](ctx)
        while caught:
            with suppress(Exception):
                LATER[word](ctx)

    rig.start(app)
    for caught in (False, True):
        failure = rig.ask("thing/go", caught, key="k").reply().failure
        assert failure is not None
        assert failure.code == 501
        assert failure.message.startswith(f"{word.partition(',')[0]} comes in a later release of odradek: until then, ")
    assert runs == [False, True]
    rig.settled(app)
    assert rig.state(app, "thing", "k", "count") is None
