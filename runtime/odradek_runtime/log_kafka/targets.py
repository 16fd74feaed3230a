"""The topics that epochs write to, looked up with a client that cannot create them.

Stands before every produce: nothing is sent to a topic or partition that was not seen to exist.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from odradek_runtime.log.port import LogError
from odradek_runtime.log_kafka.cluster import Cluster

SEEN_FOR_S = 60.0


@dataclass(frozen=True, slots=True)
class _Target:
    partitions: int
    largest_batch_bytes: int
    seen_at: float


class Targets:
    """A cache of what the committer writes to. Used by one thread."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[str, _Target] = {}
        self.smallest_batch_bytes = 1_000_000
        """No topic seen so far takes smaller batches than this."""

    def absent(self, wanted: Iterable[tuple[str, int | None]]) -> str | None:
        """What is wrong with one of these (topic, partition or None for any), in words; None: they all exist.

        Raises:
            LogError: the cluster could not be asked.
        """
        now = time.monotonic()
        for topic, partition in wanted:
            target = self._known.get(topic)
            if target is None or now - target.seen_at > SEEN_FOR_S:
                try:
                    target = self._look(topic, now)
                except LogError as error:
                    if error.retriable:
                        raise
                    return str(error)  # no name for a topic, or none that we may write to
            if target is None:
                return f"topic {topic!r} does not exist, and is never created by writing to it: create it first"
            if partition is not None and not 0 <= partition < target.partitions:
                return f"topic {topic!r} has no partition {partition}: it has {target.partitions}"
        return None

    def forget(self) -> None:
        """Look everything up again: a record was refused."""
        self._known.clear()

    def _look(self, topic: str, now: float) -> _Target | None:
        known = self._known.pop(topic, None)
        try:
            info = self._cluster.topic(topic)
        except LogError as error:
            if known is not None and error.retriable:
                return known  # it was there a minute ago; the broker will say if that has changed
            raise
        if info is None:
            return None
        largest = int(info.config.get("max.message.bytes", 1_000_000))
        target = self._known[topic] = _Target(info.partitions, largest, now)
        self.smallest_batch_bytes = min(self.smallest_batch_bytes, largest)
        return target
