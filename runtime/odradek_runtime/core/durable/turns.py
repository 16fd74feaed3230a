"""The turns of one invocation that uses asyncio: what is ready to run, its timers, tasks and futures, all in a fixed order.

Stands between the loop that asyncio finds (`handler_loop`) and the invocation. Whatever is ready runs first come, first served,
until nothing is; only then the next completion of the journal is delivered (`running.turning`). So the order in which concurrent
operations finish is the order of the journal, in the first run and in each replay. A timer is a durable sleep.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractContextManager
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from odradek._current import CURRENT
from odradek._errors import Refused
from odradek._port import Asked, Sleep
from odradek_runtime.core.records.keys import split_timer

from .futures import DurableFuture, DurableTask
from .handler_task import HandlerTask

if TYPE_CHECKING:
    from odradek._context import Context as HandlerContext
    from odradek._future import Future

logger = logging.getLogger("odradek")

T = TypeVar("T")
FOREVER_S = 100 * 365 * 86_400.0
"""The longest that a timer waits: `asyncio.sleep(inf)` is a way to wait for a cancellation."""
KEPT_TASKS = 64
"""From so many on, those that have ended are let go of."""

MOST_CLOSINGS = 100
"""Of one coroutine: one that awaits something whatever happens is left as it is."""


class Operation(Protocol):
    """An operation that has begun and not ended."""

    future: Future[Any] | None
    timer: bytes | None


class Owner(Protocol):
    """The invocation, as its turns see it."""

    closed: bool
    context: HandlerContext
    coroutine: Coroutine[Any, Any, Any] | None
    refused: str
    diverged: str
    turns: Turns | None

    @property
    def id(self) -> str: ...

    @property
    def ops(self) -> Mapping[int, Operation]: ...

    @property
    def replaying(self) -> bool: ...

    def begin(self, asked: Asked[T]) -> T: ...

    def clock_ms(self) -> float:
        """The journaled time, of this very moment."""
        ...

    def last(self) -> None: ...

    def withdraw(self, ref: int) -> None:
        """Nobody waits for that operation any more: its timer is dropped with this segment."""
        ...


class RefusingLoop(asyncio.AbstractEventLoop):
    """The loop, which also ends the invocation that asks for what it does not have."""

    def refuse(self, what: str) -> NoReturn:
        """End it."""
        raise NotImplementedError

    def being(self, task: asyncio.Future[Any]) -> AbstractContextManager[None]:
        """Have that task be the current one meanwhile: libraries look whether they are left in the task that has entered them."""
        raise NotImplementedError


class DurableTimer(asyncio.TimerHandle):
    """What `call_later` gives in a handler. `ref`: of the sleep in the journal, while that may come."""

    __slots__ = ("ref", "turns")

    def __init__(
        self, when_s: float, callback: Callable[..., object], arguments: tuple[Any, ...], context: Context | None,
        loop: RefusingLoop, turns: Turns,
    ) -> None:  # fmt: skip
        super().__init__(when_s, callback, arguments, loop, context)
        self.turns = turns
        self.ref: int | None = None


class Turns:
    """Of one invocation; `number` tells them apart, `main` is its handler's task."""

    def __init__(self, loop: RefusingLoop, owner: Owner, number: int, main: HandlerTask) -> None:
        self._loop = loop
        self._owner = owner
        self.number = number
        self.main = main
        self.ready: deque[asyncio.Handle] = deque()
        self.ended: object = None
        """How its handler has ended, while its tasks have not."""
        self._parting: list[DurableTask[Any]] = []
        """Once it has: the tasks that had not, which are cancelled."""
        self._tasks: list[DurableTask[Any]] = []
        self._most_tasks = KEPT_TASKS
        self._made = 0
        self._known_s = 0.0
        """The latest time that its code may know of."""

    # --- what asyncio asks ---

    def call_soon(self, callback: Callable[..., object], arguments: tuple[Any, ...], context: Context | None) -> asyncio.Handle:
        """Run it when what is ready by now has run."""
        self.own(arguments[0] if arguments else None)
        handle = asyncio.Handle(callback, arguments, self._loop, context)
        if not self._owner.closed:
            self.ready.append(handle)
        return handle

    def call_later(
        self, delay_s: float, callback: Callable[..., object], arguments: tuple[Any, ...], context: Context | None
    ) -> DurableTimer:
        """Run it after a durable sleep."""
        if not delay_s > 0:
            return self._at_once(self._known_s, callback, arguments, context)
        return self._timer(Sleep(min(delay_s, FOREVER_S)), callback, arguments, context)

    def call_at(
        self, when_s: float, callback: Callable[..., object], arguments: tuple[Any, ...], context: Context | None
    ) -> DurableTimer:
        """Run it at that time of `time`."""
        if not when_s > self._known_s:
            return self._at_once(when_s, callback, arguments, context)
        at_ms = min(when_s, self._known_s + FOREVER_S) * 1000
        return self._timer(Sleep(0.0, at_ms), callback, arguments, context)

    def time(self) -> float:
        """The time by the journal: Unix seconds that never go back."""
        self._known_s = max(self._known_s, self._owner.clock_ms() / 1000)
        return self._known_s

    def create_future(self) -> DurableFuture[Any]:
        """A future of this invocation."""
        self._made += 1
        return DurableFuture(self._loop, self.number, self._made)

    def create_task(self, coroutine: Coroutine[Any, Any, T], name: str | None, context: Context | None) -> DurableTask[T]:
        """A task of this invocation; its first turn comes when what is ready by now has run."""
        if self._owner.closed:
            coroutine.close()
            raise Refused("the coroutine that wants a task is being thrown away")
        if context is not None and CURRENT not in context:
            context.run(CURRENT.set, self._owner.context)
        self._made += 1
        task = DurableTask(coroutine, self._loop, self.number, self._made, name, context)
        self._tasks.append(task)
        if len(self._tasks) > self._most_tasks:
            self._tasks = [each for each in self._tasks if not each.done() or each._log_traceback]
            self._most_tasks = max(KEPT_TASKS, 2 * len(self._tasks))
        return task

    def timer_cancelled(self, timer: DurableTimer) -> None:
        """Its sleep ends for nobody."""
        if timer.ref is not None and not self._owner.closed:
            self._owner.withdraw(timer.ref)
            timer.ref = None

    def own(self, future: Any) -> None:
        """Raises for a future of another invocation: when that is done is not in this one's journal."""
        if isinstance(future, (DurableFuture, DurableTask)) and future.owner != self.number:
            self._loop.refuse("await of a future of another invocation")

    def own_operation(self, future: Future[Any]) -> None:
        """As `own`, for one that a context has given, and that is not done."""
        op = self._owner.ops.get(future.seq)
        if (op is None or op.future is not future) and not self._owner.closed:
            self._loop.refuse("await of a future of another invocation")

    @property
    def handler(self) -> Coroutine[Any, Any, Any] | None:
        """The coroutine of its handler."""
        return self._owner.coroutine

    @property
    def replaying(self) -> bool:
        """What its code does now is in the journal already."""
        return self._owner.replaying

    # --- timers ---

    def _at_once(
        self, when_s: float, callback: Callable[..., object], arguments: tuple[Any, ...], context: Context | None
    ) -> DurableTimer:
        timer = DurableTimer(when_s, callback, arguments, context, self._loop, self)
        if not self._owner.closed:
            self.ready.append(timer)
        return timer

    def _timer(
        self, sleep: Sleep, callback: Callable[..., object], arguments: tuple[Any, ...], context: Context | None
    ) -> DurableTimer:
        future = self._owner.begin(sleep)
        op = self._owner.ops.get(future.seq)
        due_s = self._known_s if op is None or op.timer is None else split_timer(op.timer)[0] / 1000
        timer = DurableTimer(due_s, callback, arguments, context, self._loop, self)
        timer.ref = future.seq
        if op is not None:
            future.add_done_callback(partial(self._fire, timer))
        return timer

    def _fire(self, timer: DurableTimer, _: object) -> None:
        timer.ref = None
        self._known_s = max(self._known_s, timer.when())
        if not timer.cancelled():
            timer._run()

    # --- the engine's turns ---

    def drain(self) -> None:
        """Run what is ready until nothing is, or the invocation is to end at once."""
        ready, owner = self.ready, self._owner
        while ready and not owner.refused and not owner.diverged:
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()

    def part(self) -> None:
        """The handler has ended: cancel its tasks that have not, as `asyncio.run` does."""
        self._parting = [task for task in self._tasks if not task.done()]
        for task in self._parting:
            task.cancel()

    @property
    def parted(self) -> bool:
        """All of those have ended."""
        parting = self._parting
        while parting and parting[-1].done():
            parting.pop()
        return not parting

    def report(self) -> None:
        """Say of each task that has failed, and whose error nobody has asked for, that it has: once, at the invocation's end."""
        for task in self._tasks:
            if task.done() and task._log_traceback:
                task._log_traceback = False
                error = task.exception()
                logger.error("%s: nobody awaits its task %s, which has failed", self._owner.id, task.get_name(), exc_info=error)

    def close(self, handler: Coroutine[Any, Any, Any]) -> None:
        """The coroutines are thrown away; what their `finally` blocks ask for does not happen."""
        try:
            with self._loop.being(self.main):
                _close(handler)
        finally:
            self._close_tasks()

    def _close_tasks(self) -> None:
        tasks, self._tasks = self._tasks, []
        self._parting, self.ended = [], None
        self.ready.clear()
        for task in tasks:
            if task.done():
                task._log_traceback = False
                continue
            coroutine: Any = task.get_coro()
            waiter: asyncio.Future[Any] | None = getattr(task, "_fut_waiter", None)
            try:
                with self._loop.being(task):
                    if coroutine is not None:
                        _close(coroutine)
            except BaseException:  # noqa: BLE001, S110  (a finally block that awaits, or fails, is of no consequence here)
                pass
            if waiter is not None:
                waiter.cancel()  # which has it forget the task: the two hold each other
        self.main.let_go()


def _close(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Throw it away. A task group in it awaits its tasks all the same, and each in which it stands: once more for each."""
    for _ in range(MOST_CLOSINGS):
        try:
            coroutine.close()
        except RuntimeError:
            if getattr(coroutine, "cr_frame", None) is None:
                raise
        else:
            return
