"""The rereader: reads ranges of topics again for replays, each in a thread of its own. The log's side of `replaying`.

Committed records alone, as a live reader sees them. A few batches are read ahead, and no more before those have been delivered.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from odradek_runtime.log.port import Log, LogError

from .replaying import Reading, Reread

logger = logging.getLogger("odradek")

AHEAD = 2
"""Batches that are read and not yet delivered."""
TRIES = 5
"""So often what no repetition should mend is tried: the range may have been deleted while it was looked at."""


class ThreadedRereader:
    """One thread for each reading. `post` takes events from any thread; `stopping` ends all."""

    def __init__(self, log: Log, post: Callable[[Reread], None], stopping: threading.Event) -> None:
        self._log = log
        self._post = post
        self._stopping = stopping

    def begin(self, reading: Reading) -> None:
        """Read it beside the engine."""
        room = threading.Semaphore(AHEAD)
        reading.taken = room.release
        name = f"odradek-replay-{reading.partition.topic}-{reading.partition.partition}"
        threading.Thread(target=self._read, args=(reading, room), name=name, daemon=True).start()

    def _read(self, reading: Reading, room: threading.Semaphore) -> None:
        try:
            self._read_whole(reading, room)
        except Exception as error:
            logger.exception("the reader of a replay of %s[%d] has failed", *reading.partition)
            self._post(Reread(reading, (), reading.start, broken=f"its reader has failed: {type(error).__name__}"))

    def _read_whole(self, reading: Reading, room: threading.Semaphore) -> None:
        """Whatever the log says meanwhile, as long as that may pass."""
        start, tries, pause_s = reading.start, 0, 0.1
        while not reading.ended and not self._stopping.is_set():
            before = start
            try:
                self._read_on(reading, room, start)
            except Halted as halted:
                start, error = halted.at, halted.error
            else:
                return
            tries = 0 if start > before else tries + 1
            if not error.retriable and tries >= TRIES:
                self._post(Reread(reading, (), start, broken=str(error)))
                return
            logger.log(logging.WARNING if tries == 1 else logging.DEBUG, "replay of %s[%d]: %s", *reading.partition, error)
            pause_s = 0.1 if start > before else min(pause_s * 2, 5.0)
            self._stopping.wait(pause_s)

    def _read_on(self, reading: Reading, room: threading.Semaphore, start: int) -> None:
        """To the end, unless nobody wants it any more. Raises Halted."""
        try:
            start, stop, gone = bounds(self._log, reading, start)
            for batch in self._log.scan(reading.partition, start, stop, sparing=True):
                if not self._room(reading, room):
                    return
                self._post(Reread(reading, batch, batch[-1].offset() + 1, gone))
                start, gone = batch[-1].offset() + 1, 0
        except LogError as error:
            raise Halted(start, error) from error
        if not reading.ended:
            self._post(Reread(reading, (), reading.stop, gone))

    def _room(self, reading: Reading, room: threading.Semaphore) -> bool:
        """Wait until a batch may be posted; False when nobody wants it any more."""
        while not room.acquire(timeout=0.5):
            if self._stopping.is_set():
                return False
        return not reading.ended


class RereaderAtOnce:
    """The twin without threads: a whole range is read and posted when it begins. For logs that answer at once, and short ranges."""

    def __init__(self, log: Log, post: Callable[[Reread], None]) -> None:
        self._log = log
        self._post = post

    def begin(self, reading: Reading) -> None:
        """Read it whole."""
        try:
            start, stop, gone = bounds(self._log, reading, reading.start)
            for batch in self._log.scan(reading.partition, start, stop):
                self._post(Reread(reading, batch, batch[-1].offset() + 1, gone))
                gone = 0
            self._post(Reread(reading, (), reading.stop, gone))
        except LogError as error:
            self._post(Reread(reading, (), reading.start, broken=str(error)))


class Halted(Exception):
    """The log has given out at this offset."""

    def __init__(self, at: int, error: LogError) -> None:
        super().__init__(str(error))
        self.at = at
        self.error = error


def bounds(log: Log, reading: Reading, start: int) -> tuple[int, int, int]:
    """Where there is something to read from this offset on, where that ends, and how many offsets before it are gone.

    Raises LogError. What lies behind the topic's end was never there, or has been truncated: nobody waits for it.
    """
    topic = log.topic(reading.partition.topic)
    if topic is None:
        raise LogError(f"topic {reading.partition.topic} is gone", retriable=False)
    if reading.topic_id not in ("", topic.id):
        raise LogError(f"topic {topic.name} was deleted and made again: its records are others now", retriable=False)
    first, end = log.offsets(reading.partition)
    begin = min(max(first, start), reading.stop)
    return begin, max(min(reading.stop, end), begin), begin - start
