"""The executor runs step bodies outside the engine: async ones on a real event loop, sync ones in a bounded number of threads.

It starts a step only after the engine has made its start durable, and hands the encoded result back as an event.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from odradek._current import STEP
from odradek_runtime.core.epoch import StepRun

from .lifespan import Lifespan
from .step_threads import Outcome, StepThreads, end_fork

logger = logging.getLogger("odradek")

CANCEL_S = 3.0
"""How long bodies that were cancelled have for their own cleaning up when the worker stops."""
LIFESPAN_S = 10.0
"""How long the app's lifespan has to end then."""
MARGIN_S = 1.0
"""Beyond these, for a loop that a body blocks."""
USUAL_OF = 16
"""One large result among many small ones says little of the next."""

TOLD = 64
"""Of steps that end at the same time so many are told of at once: each word wakes the engine."""


@dataclass(slots=True)
class StepEnded:
    """A step that has run: the value's bytes, or the error."""

    run: StepRun
    value: bytes | None
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class StepsEnded:
    """What the engine hears of steps: those that have ended since it last heard."""

    ended: Sequence[StepEnded]


Done = Callable[[StepsEnded], None]


class StepTimeoutError(TimeoutError):
    """A body took longer than its timeout. Of our own, so that others are told its text."""


class Executor(Protocol):
    """The port: the engine submits; each submitted step ends in one word to `done`, from any thread."""

    def submit(self, runs: Sequence[StepRun]) -> None: ...

    def took(self, event: StepEnded) -> None:
        """The epoch has its result, or needs it no more. Called in the engine's thread, once for each that has ended."""
        ...

    @property
    def load(self) -> int:
        """Steps that run, or wait to run, or whose results have not been taken."""
        ...

    @property
    def load_bytes(self) -> int:
        """What their invocations hold in memory, about."""
        ...


class StepExecutor:
    """The real one: a thread with an event loop, and threads beside it.

    `running` bounds how many bodies run at once, `threads` how many of them may be synchronous ones. None begins while the results
    that wait to be taken, and those to be expected of the bodies that run, are more than `results_bytes`.
    """

    def __init__(self, done: Done, *, running: int, threads: int, results_bytes: int) -> None:
        self._done = done
        self._limit = running
        self._most_bytes = results_bytes
        self._made_bytes = 0  # written by the loop's thread
        self._taken_bytes = 0  # written by the engine's
        self._usual_bytes = 0.0
        """Of a result: a mean that follows the last few dozen."""
        self._waiting: deque[StepRun] = deque()
        self._untold: list[StepEnded] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._submitted = 0
        self._submitted_bytes = 0
        self._taken = 0
        self._released_bytes = 0
        self._loop = asyncio.new_event_loop()
        self._threads = StepThreads(self._loop, threads)
        self._lifespan: Lifespan | None = None
        self._closing = self._stopped = False
        self._thread = threading.Thread(target=self._serve, name="odradek-steps", daemon=True)

    def start(self, lifespan: Callable[[], AbstractAsyncContextManager[None]] | None = None) -> None:
        """Start the loop and enter the app's lifespan on it, where its steps will run. Raises what the lifespan raises."""
        self._thread.start()
        if lifespan is not None:
            self._lifespan = Lifespan(lifespan)
            asyncio.run_coroutine_threadsafe(self._lifespan.enter(), self._loop).result()

    def stop(self) -> None:
        """Cancel what runs (its start is journaled, another worker runs it again) and leave the lifespan.

        Returns in time whatever the bodies do: one that does not end is left to itself.
        """
        if self._thread.is_alive():
            self._wait_for(self._close(), CANCEL_S + LIFESPAN_S + MARGIN_S)
            self._stopped = True
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(MARGIN_S)

    def _wait_for(self, work: Coroutine[Any, Any, None], timeout_s: float) -> None:
        try:
            asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)
        except TimeoutError as error:
            logger.warning("stopping: %s", error or "a step blocks the event loop of the steps; it is left to itself")
        except Exception:
            logger.exception("stopping: the app's lifespan failed")

    @property
    def load(self) -> int:
        return self._submitted - self._taken

    @property
    def load_bytes(self) -> int:
        return self._submitted_bytes - self._released_bytes

    @property
    def results_bytes(self) -> int:
        """Of results that have not been taken."""
        return self._made_bytes - self._taken_bytes

    def submit(self, runs: Sequence[StepRun]) -> None:
        self._submitted += len(runs)
        self._submitted_bytes += sum(run.held_bytes for run in runs)
        self._loop.call_soon_threadsafe(self._enqueue, runs)

    def took(self, event: StepEnded) -> None:
        self._taken += 1
        self._released_bytes += event.run.held_bytes
        self._taken_bytes += len(event.value or b"")
        if self._waiting:  # or the loop looks after it has put something there
            self._loop.call_soon_threadsafe(self._fill)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._stopped:
            try:
                self._loop.run_forever()
            except BaseException as error:  # asyncio lets SystemExit and KeyboardInterrupt of any task end the loop
                logger.exception("a task that a step or the lifespan has started raised %r", error)  # noqa: TRY401
        self._wind_up()

    def _wind_up(self) -> None:
        """What bodies and the lifespan have left running on the loop has one more chance to clean up."""
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.wait(left, timeout=CANCEL_S))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _close(self) -> None:
        self._closing = True
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=CANCEL_S)
            if left:
                logger.warning("stopping: %d steps go on though they were cancelled; they are left to themselves", len(left))
        self._threads.close()
        if self._lifespan is not None:
            await self._lifespan.exit(LIFESPAN_S)

    def _enqueue(self, runs: Sequence[StepRun]) -> None:
        self._waiting.extend(runs)
        self._fill()

    def _fill(self) -> None:
        while self._waiting and len(self._tasks) < self._limit and self._has_room():
            self._tasks.add(self._loop.create_task(self._run(self._waiting.popleft())))

    def _has_room(self) -> bool:
        held_bytes, running = self.results_bytes, len(self._tasks)
        return held_bytes + running * self._usual_bytes < self._most_bytes or held_bytes + running == 0

    async def _run(self, run: StepRun) -> None:
        task = asyncio.current_task()
        assert task is not None, "it is one"
        STEP.set(run)
        process = os.getpid()
        value, error = await self._outcome(run)
        if os.getpid() != process:
            end_fork(error)
        self._tasks.discard(task)
        made_bytes = len(value or b"")
        self._made_bytes += made_bytes
        self._usual_bytes += (made_bytes - self._usual_bytes) / USUAL_OF
        self._tell(StepEnded(run, value, error))
        if self._waiting:
            self._fill()

    def _tell(self, ended: StepEnded) -> None:
        """Once all that ends in this pass of the loop has, or much of it."""
        if not self._untold:
            self._loop.call_soon(self._tell_all)
        self._untold.append(ended)
        if len(self._untold) == TOLD:
            self._tell_all()

    def _tell_all(self) -> None:
        untold, self._untold = self._untold, []
        if untold:
            self._done(StepsEnded(untold))

    async def _outcome(self, run: StepRun) -> tuple[bytes | None, BaseException | None]:
        """The value's bytes or the error. Raises CancelledError when the worker stops."""
        body = run.body
        try:
            plain = body.is_async and body.timeout_s is None
            return body.encode(await (body.run() if plain else self._value(run))), None
        except asyncio.CancelledError as error:
            if self._closing:
                raise
            return None, error
        except BaseException as error:  # noqa: BLE001  (a step may raise anything, SystemExit too; its retry policy decides)
            return None, error

    async def _value(self, run: StepRun) -> Any:
        """Run the body. Its timeout counts from when it begins, not from when it asks for a thread."""
        ended = None if run.body.is_async else await self._threads.begin(lambda: _in_thread(run))
        limit = asyncio.timeout(run.body.timeout_s)
        try:
            async with limit:
                return await (run.body.run() if ended is None else _result(ended))
        except TimeoutError as error:
            if limit.expired():
                raise StepTimeoutError(f"it took longer than its timeout, {run.body.timeout_s:g} s") from error
            raise


async def _result(ended: asyncio.Future[Outcome]) -> Any:
    value, error = await ended
    if error is not None:
        raise error
    return await value if inspect.isawaitable(value) else value  # a lambda may give a coroutine


def _in_thread(run: StepRun) -> Any:
    STEP.set(run)
    return run.body.run()
