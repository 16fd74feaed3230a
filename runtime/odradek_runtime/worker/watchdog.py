"""Watches over the engine's loop from beside it: a handler that keeps it for seconds is reported with its stack, once.

All handlers of a worker take turns in one thread. One that waits in it (`time.sleep`, `requests.get`, a long computation) keeps
every other from going on, and nothing in that thread could say so. The loop only counts its turns; this thread compares.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import odradek
import odradek_runtime
from odradek_runtime.core.metrics import Metrics
from odradek_runtime.core.running.invocation import Live
from odradek_runtime.log.parts import place_of

logger = logging.getLogger("odradek")

LOOKS = 8
"""So many looks in the time that a handler may take."""
UNREADY = 5
"""After so many times of what a handler may take, the worker is no longer ready."""
ASLEEP = 0.5
"""A gap between two looks in which the process used less of a processor than this was no work: the process was stopped."""
_OURS = tuple(f"{Path(file).parent}{os.sep}" for file in (odradek_runtime.__file__ or "", odradek.__file__))


@dataclass(slots=True)
class Stall:
    """The turn that does not end, as seen so far."""

    turn: int
    began_s: float
    seen: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])
    """Which invocations were seen in it, and at which of their records: the lane uses one object for many."""
    reported: str = ""


class Watchdog:
    """A thread that reports turns of the thread `watched` that last longer than `limit_s`.

    `turns` is raised by one when a turn begins and when it ends, so that it is odd while there is work.
    """

    def __init__(self, watched: threading.Thread, turns: Callable[[], int], metrics: Metrics, limit_s: float) -> None:
        self._watched = watched
        self._turns = turns
        self._metrics = metrics
        self._limit_s = limit_s
        self._ending = threading.Event()
        self._stall = Stall(-1, 0.0)
        self._thread = threading.Thread(target=self._run, name="odradek-watchdog", daemon=True)

    def start(self) -> None:
        if self._limit_s > 0:
            self._thread.start()

    def stop(self) -> None:
        """Return when the thread has ended."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        pause_s = self._limit_s / LOOKS
        looked_s, used_s = time.monotonic(), time.process_time()
        while not self._ending.wait(pause_s) and self._watched.is_alive():
            now_s, now_used_s = time.monotonic(), time.process_time()
            gap_s = now_s - looked_s
            if gap_s > self._limit_s and now_used_s - used_s < ASLEEP * gap_s:
                self._stall.began_s += gap_s  # the whole process stood still (a debugger, SIGSTOP): nobody blocked anybody
            looked_s, used_s = now_s, now_used_s
            self.look(now_s)

    def look(self, now_s: float) -> None:
        """Compare with the last look; report a turn that has become too long, and its end."""
        turn, stall = self._turns(), self._stall
        if turn != stall.turn or not turn % 2:
            if stall.reported:
                self._metrics.stalled_s, self._metrics.stalled_by = 0.0, ""
                logger.warning("the worker's loop goes on after %.1f s: %s", now_s - stall.began_s, stall.reported)
            self._stall = Stall(turn, now_s)
            return
        lasted_s = now_s - stall.began_s
        if lasted_s >= self._limit_s:
            self._metrics.stalled_s = lasted_s
        if lasted_s >= UNREADY * self._limit_s:
            self._metrics.stalled_by = stall.reported
        # The only way to another thread's stack.
        frame = sys._current_frames().get(self._watched.ident or 0)  # pyright: ignore[reportPrivateUsage]
        if frame is None or stall.reported:
            return
        live = _running(frame)
        if live is not None:
            stall.seen.add((id(live), live.message.offset() if live.message is not None else -1))
        if lasted_s >= self._limit_s:
            self._report(stall, lasted_s, live, _stack(frame))

    def _report(self, stall: Stall, lasted_s: float, live: Live | None, stack: str) -> None:
        target = live.handler.target if live is not None else ""
        self._metrics.stalls[target] = self._metrics.stalls.get(target, 0) + 1
        stall.reported = what = f"{target} ({_where(live)})" if live is not None else "the engine itself"
        remedy = "; put what takes long into a step (@step, ctx.run)" if live is not None else ""
        if len(stall.seen) > 1:
            what = f"a row of handlers without a pause, now {what},"
        logger.warning("%s has kept the worker's loop for %.1f s: nothing else goes on%s\n%s", what, lasted_s, remedy, stack)


def _running(frame: FrameType) -> Live | None:
    """The invocation whose handler is in this stack."""
    at: FrameType | None = frame
    while at is not None:
        if at.f_code.co_filename.startswith(_OURS):
            live = at.f_locals.get("live")
            if isinstance(live, Live):
                return live
        at = at.f_back
    return None


def _where(live: Live) -> str:
    """What tells the invocation from others, read from another thread: nothing is asked that would be made by asking."""
    if live.stored is not None:
        return live.stored.id
    message = live.message
    return "" if message is None else place_of(message)


def _stack(frame: FrameType) -> str:
    """From the handler on; the whole where there is none."""
    frames = traceback.extract_stack(frame)
    first = next((at for at, one in enumerate(frames) if not _ours(one.filename)), 0)
    return "".join(traceback.format_list(frames[first:])).rstrip()


def _ours(file: str) -> bool:
    return file.startswith(_OURS) or file == threading.__file__
