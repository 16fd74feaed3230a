"""The threads in which synchronous step bodies run: at most so many, made when they are needed.

They are daemons, unlike those of `concurrent.futures`, which the interpreter waits for at its end: nothing can stop a body
that hangs in a thread, and a worker that is told to stop must not wait for it. It is another worker's turn to run it.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

Outcome = tuple[Any, BaseException | None]
Work = Callable[[], Any]


class StepThreads:
    """Used from the steps' loop; `limit` bodies run at once, and whoever comes then waits for a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        self._loop = loop
        self._free = asyncio.Semaphore(limit)
        self._idle: list[_Thread] = []
        self._made = 0

    async def begin(self, work: Work) -> asyncio.Future[Outcome]:
        """Start `work` as soon as a thread is free; what it gives, or raises, comes later. Only then does its time run."""
        await self._free.acquire()
        ended: asyncio.Future[Outcome] = self._loop.create_future()
        thread = self._idle.pop() if self._idle else self._make()
        thread.give(work, lambda outcome: self._tell(thread, ended, outcome))
        return ended

    def _make(self) -> _Thread:
        self._made += 1
        return _Thread(f"odradek-step-{self._made}")

    def close(self) -> None:
        """Let the idle threads end. Those that run a body are left to themselves."""
        for thread in self._idle:
            thread.end()
        self._idle.clear()

    def _tell(self, thread: _Thread, ended: asyncio.Future[Outcome], outcome: Outcome) -> None:
        with suppress(RuntimeError):  # the loop has been closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._ended, thread, ended, outcome)

    def _ended(self, thread: _Thread, ended: asyncio.Future[Outcome], outcome: Outcome) -> None:
        self._idle.append(thread)
        self._free.release()
        if not ended.done():  # else its time was over, or the worker stops
            ended.set_result(outcome)


class _Thread:
    """One of them: it runs what it is given until it is given None."""

    def __init__(self, name: str) -> None:
        self._given: SimpleQueue[tuple[Work, Callable[[Outcome], None]] | None] = SimpleQueue()
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def give(self, work: Work, tell: Callable[[Outcome], None]) -> None:
        self._given.put((work, tell))

    def end(self) -> None:
        self._given.put(None)

    def _serve(self) -> None:
        while (given := self._given.get()) is not None:
            work, tell = given
            tell(contextvars.Context().run(outcome_of, work))
            del work, tell, given  # an idle thread holds nothing of the last body


def outcome_of(work: Work) -> Outcome:
    """Run it: what it gives, or whatever it raises. A process that it has forked ends here."""
    process = os.getpid()
    try:
        outcome: Outcome = (work(), None)
    except BaseException as error:  # noqa: BLE001  (a step may raise anything, SystemExit too; its retry policy decides)
        outcome = (None, error)
    if os.getpid() != process:
        end_fork(outcome[1])
    return outcome


def end_fork(error: BaseException | None) -> None:
    """End a process that a step forked and that came back from its body: it is no worker, though it looks like one."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code & 0xFF)
