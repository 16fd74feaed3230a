"""The executor runs step bodies outside the engine: async ones on a real event loop, sync ones in a bounded thread pool.

It starts a step only after the engine has made its start durable, and hands the encoded result back as an event.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from odradek._current import STEP_KEY

from .epoch import StepRun

Done = Callable[[StepRun, bytes | None, BaseException | None], None]


@dataclass(frozen=True, slots=True)
class StepEnded:
    """What the engine hears of a step that has run: the value's bytes, or the error."""

    run: StepRun
    value: bytes | None
    error: BaseException | None


class Executor(Protocol):
    """The port: the engine submits, `done` is called (in any thread) once per submitted step."""

    def submit(self, runs: Sequence[StepRun]) -> None: ...

    @property
    def load(self) -> int:
        """Steps that run or wait to run."""
        ...


class StepExecutor:
    """The real one: a thread with an event loop, and a pool of threads.

    `running` bounds how many bodies run at once, `threads` how many of them may be synchronous ones.
    """

    def __init__(self, done: Done, *, running: int, threads: int) -> None:
        self._done = done
        self._limit = running
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="odradek-step")
        self._waiting: deque[StepRun] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._submitted = 0
        self._ended = 0
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._thread = threading.Thread(target=self._serve, name="odradek-steps", daemon=True)

    def start(self, lifespan: AbstractAsyncContextManager[None] | None = None) -> None:
        """Start the loop and enter the app's lifespan on it, where its steps will run. Raises what the lifespan raises."""
        self._thread.start()
        if lifespan is not None:
            asyncio.run_coroutine_threadsafe(self._stack.enter_async_context(lifespan), self._loop).result()

    def stop(self) -> None:
        """Cancel what runs (its start is journaled, another worker runs it again) and leave the lifespan."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def load(self) -> int:
        return self._submitted - self._ended

    def submit(self, runs: Sequence[StepRun]) -> None:
        self._submitted += len(runs)
        self._loop.call_soon_threadsafe(self._enqueue, runs)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    async def _close(self) -> None:
        self._waiting.clear()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    def _enqueue(self, runs: Sequence[StepRun]) -> None:
        self._waiting.extend(runs)
        self._fill()

    def _fill(self) -> None:
        while self._waiting and len(self._tasks) < self._limit:
            task = self._loop.create_task(self._run(self._waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._ended_one)

    def _ended_one(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._ended += 1
        self._fill()

    async def _run(self, run: StepRun) -> None:
        STEP_KEY.set(run.key)
        try:
            async with asyncio.timeout(run.body.timeout_s):
                value = run.body.encode(await self._value(run))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._done(run, None, error)
        except BaseException as error:  # noqa: BLE001  (a step may raise anything, SystemExit too; its retry policy decides)
            self._done(run, None, error)
        else:
            self._done(run, value, None)

    async def _value(self, run: StepRun) -> Any:
        if run.body.is_async:
            return await run.body.run()
        value = await self._loop.run_in_executor(self._pool, _in_thread, run)
        return await value if inspect.isawaitable(value) else value  # a lambda may give a coroutine


def _in_thread(run: StepRun) -> Any:
    STEP_KEY.set(run.key)
    return run.body.run()
