"""What a member reads, and the thread that brings it: batches of records in the order of each partition.

Woken by conditions (new records, a batch taken, a new position), never by a clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from odradek_runtime.log.embedded.reading import read
from odradek_runtime.log.port import Event, LogError, Partition, Records, Trouble

if TYPE_CHECKING:
    from odradek_runtime.log.embedded.catalog import Catalog, Tail
    from odradek_runtime.log.embedded.framing import EmbeddedMessage

BATCH_RECORDS = 1_000
BATCH_BYTES = 4 * 1024 * 1024
BATCHES_OUTSTANDING = 4


class _Cursor:
    """One partition being read. A new `read` makes a new cursor, so that a batch under way cannot move it."""

    __slots__ = ("partition", "paused", "position", "tail")

    def __init__(self, partition: Partition, tail: Tail, position: int) -> None:
        self.partition = partition
        self.tail = tail
        self.position = position
        self.paused = False

    @property
    def waiting(self) -> bool:
        """Whether there is something to deliver."""
        return not self.paused and self.position < self.tail.end


class Reader:
    """Posts `Records` until it is closed. All methods return at once."""

    def __init__(self, catalog: Catalog, post: Callable[[Event], None]) -> None:
        self._catalog = catalog
        self._post = post
        self._turn = threading.Condition()
        self._cursors: dict[Partition, _Cursor] = {}
        self._generation = -1
        self._outstanding = 0
        self._closed = False
        self._troubled = False
        self._thread = threading.Thread(target=self._run, name="odradek-fetch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def read(self, positions: Mapping[Partition, int], generation: int) -> None:
        """Raises LogError when a partition does not exist."""
        cursors = {p: _Cursor(p, self._catalog.tail(p), position) for p, position in positions.items()}
        with self._turn:
            if generation <= self._generation:
                raise ValueError(f"generation {generation} is not greater than the last one, {self._generation}")
            self._generation = generation
            self._cursors.update(cursors)
            self._turn.notify_all()

    def stop(self, partitions: Iterable[Partition]) -> None:
        with self._turn:
            for partition in partitions:
                self._cursors.pop(partition, None)

    def pause(self, partitions: Iterable[Partition], *, paused: bool) -> None:
        """Pause or resume; partitions that are not read are left out."""
        with self._turn:
            for partition in partitions:
                if partition in self._cursors:
                    self._cursors[partition].paused = paused
            self._turn.notify_all()

    def wake(self) -> None:
        """Something new is in the log."""
        with self._turn:
            self._turn.notify_all()

    def close(self) -> None:
        """Blocks until the thread has ended."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _taken(self) -> None:
        with self._turn:
            self._outstanding -= 1
            self._turn.notify_all()

    def _run(self) -> None:
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._closed or self._wanted())
                if self._closed:
                    return
                generation = self._generation
                ready = [(cursor, cursor.position) for cursor in self._cursors.values() if cursor.waiting]
            try:
                messages, moves = self._gather(ready)
            except LogError as error:
                self._rest(error)
                continue
            self._troubled = False
            self._deliver(messages, moves, generation)

    def _wanted(self) -> bool:
        return self._outstanding < BATCHES_OUTSTANDING and any(cursor.waiting for cursor in self._cursors.values())

    def _rest(self, error: LogError) -> None:
        """The disk cannot be read now: say so once, try again soon."""
        if not self._troubled:
            self._post(Trouble(str(error), fatal=not error.retriable))
        self._troubled = True
        with self._turn:
            self._turn.wait_for(lambda: self._closed, timeout=0.2)

    def _gather(self, ready: Sequence[tuple[_Cursor, int]]) -> tuple[list[EmbeddedMessage], list[tuple[_Cursor, int, int]]]:
        """A batch from these partitions, an equal share of each, and where their cursors then stand."""
        messages: list[EmbeddedMessage] = []
        moves: list[tuple[_Cursor, int, int]] = []
        room_bytes = BATCH_BYTES
        for place, (cursor, position) in enumerate(ready):
            share = (BATCH_RECORDS - len(messages)) // (len(ready) - place)
            if share <= 0 or room_bytes <= 0:
                continue
            if position < cursor.tail.first:
                self._report_gap(cursor, position)
            found, after, size = read(
                self._catalog.disk, cursor.partition, cursor.tail, position, cursor.tail.end, share, room_bytes
            )
            messages += found
            room_bytes -= size
            moves.append((cursor, position, after))
        return messages, moves

    def _report_gap(self, cursor: _Cursor, position: int) -> None:
        topic, partition = cursor.partition
        first = cursor.tail.first
        self._post(
            Trouble(
                f"{topic}[{partition}]: the records {position}..{first - 1} were deleted by retention before they"
                " were read. Reading goes on behind them; raise retention.ms or retention.bytes of the topic"
            )
        )

    def _deliver(self, messages: list[EmbeddedMessage], moves: list[tuple[_Cursor, int, int]], generation: int) -> None:
        with self._turn:
            if self._closed:
                return
            for cursor, before, after in moves:
                if cursor.position == before:
                    cursor.position = after
            # Partitions that come last in a full batch come first in the next one.
            for cursor, _, _ in moves:
                if self._cursors.get(cursor.partition) is cursor:
                    self._cursors[cursor.partition] = self._cursors.pop(cursor.partition)
            if messages:
                self._outstanding += 1
        if messages:
            self._post(Records(messages, generation, _once(self._taken)))


def _once(action: Callable[[], None]) -> Callable[[], None]:
    done: list[bool] = []

    def call() -> None:
        if not done:
            done.append(True)
            action()

    return call
