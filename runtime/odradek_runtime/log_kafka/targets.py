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

    def absent(self, topics: Iterable[str]) -> list[str]:
        """Those among them that do not exist.

        Raises:
            LogError: the cluster could not be asked.
        """
        now = time.monotonic()
        missing: list[str] = []
        for topic in topics:
            target = self._known.get(topic)
            if (target is None or now - target.seen_at > SEEN_FOR_S) and not self._look(topic, now):
                missing.append(topic)
        return missing

    def partitions(self, topic: str) -> int:
        """How many partitions a topic that exists has."""
        return self._known[topic].partitions

    def forget(self) -> None:
        """Look everything up again: a record was refused."""
        self._known.clear()

    def _look(self, topic: str, now: float) -> bool:
        try:
            info = self._cluster.topic(topic)
        except LogError:
            if topic in self._known:
                return True  # it was there a minute ago; the broker will say if that has changed
            raise
        if info is None:
            self._known.pop(topic, None)
            return False
        largest = int(info.config.get("max.message.bytes", 1_000_000))
        self._known[topic] = _Target(info.partitions, largest, now)
        self.smallest_batch_bytes = min(self.smallest_batch_bytes, largest)
        return True
