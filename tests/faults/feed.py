"""Feeds departures to the input topic: all at once before the workers start, or paced in a thread while they come and go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from odradek_runtime.log.port import Log, LogError, Output, Publisher
from tests.faults.truth import Departure, Names

BATCH = 1_000
Place = Callable[[Departure], int | None]


def create(log: Log, names: Names, partitions: int, config: Mapping[str, str] | None = None) -> None:
    """The topics of `apps.py`, all with so many partitions."""
    for topic in (names.input, names.output, f"{names.app}-errands", f"{names.app}-done"):
        log.create_topic(topic, partitions, config or {})


def publish(log: Log, topic: str, rows: Sequence[Departure], where: Place = lambda _: None) -> None:
    """Write those not yet written, in order; `where` chooses partitions, murmur2 of the key by default."""
    publisher = log.publisher(f"feed-{topic}")
    for start in range(publisher.position(), len(rows), BATCH):
        batch = rows[start : start + BATCH]
        publisher.publish([row.output(topic, where(row)) for row in batch], start + len(batch))
    publisher.close()


class Feed:
    """Publishes rows at a pace in a thread of its own, exactly once through hiccups of the log."""

    def __init__(self, open_log: Callable[[], Log], topic: str, rows: Sequence[Departure], per_second: float) -> None:
        self.published = 0
        self._open_log = open_log
        self._topic = topic
        self._rows = rows
        self._per_second = per_second
        self._ended = threading.Event()
        self.failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Publish no more; gives how many were."""
        assert self.published < len(self._rows), "the year is over: there was no load any more"
        self._ended.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), f"the feed stands at {self.published}"
        if self.failed is not None:
            raise self.failed
        return self.published

    def _run(self) -> None:
        try:
            self._feed()
        except BaseException as error:  # noqa: BLE001  (raised again by stop)
            self.failed = error

    def _feed(self) -> None:
        log = self._open_log()
        publisher = log.publisher(f"feed-{self._topic}")
        began = time.monotonic()
        while self.published < len(self._rows) and not self._ended.is_set():
            due = int((time.monotonic() - began) * self._per_second)
            stop = min(due, self.published + BATCH, len(self._rows))
            if stop <= self.published:
                time.sleep(0.01)
                continue
            outputs: list[Output] = [row.output(self._topic) for row in self._rows[self.published : stop]]
            try:
                publisher.publish(outputs, stop)
                self.published = stop
            except LogError as error:
                if not error.retriable:
                    raise
                self.published = _position(publisher)
        publisher.close()
        log.close()


def _position(publisher: Publisher) -> int:
    """What became of the publish that failed, asked until somebody knows."""
    while True:
        time.sleep(0.2)
        try:
            return publisher.position()
        except LogError as error:
            if not error.retriable:
                raise
