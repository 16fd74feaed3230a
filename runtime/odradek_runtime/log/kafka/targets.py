"""The topics that epochs write to, looked up with a client that cannot create them.

Stands before every produce: nothing is sent to a topic or partition that was not seen to exist.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from odradek_runtime.log.kafka.cluster import Cluster
from odradek_runtime.log.port import LogError, Refusal

SEEN_FOR_S = 60.0


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a record cannot be written. `refusal` None: the record itself is amiss, whatever the brokers are set up like."""

    message: str
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class _Target:
    partitions: int
    largest_batch_bytes: int
    writable: bool
    seen_at: float


class Targets:
    """A cache of what the committer writes to. Used by one thread."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[str, _Target] = {}
        self.smallest_batch_bytes = 1_000_000
        """No topic seen so far takes smaller batches than this."""

    def obstacle(self, wanted: Iterable[tuple[str, int | None]]) -> Obstacle | None:
        """What stands in the way of one of these (topic, partition or None for any); None: they can all be written to.

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
                    if error.refusal is not None:
                        return Obstacle(error.refusal.message, error.refusal)
                    if error.retriable:
                        raise
                    return Obstacle(str(error))  # no name for a topic
            if target is None:
                why = f"topic {topic!r} does not exist, and is never created by writing to it: create it first"
                return Obstacle(why, Refusal(topic, "Write", why))
            if partition is not None and not 0 <= partition < target.partitions:
                return Obstacle(f"topic {topic!r} has no partition {partition}: it has {target.partitions}")
            if not target.writable:
                del self._known[topic]  # it is looked at again each time
                why = f"Kafka refuses Write on topic {topic}: add an ACL for Write on the topic"
                return Obstacle(why, Refusal(topic, "Write", why))
        return None

    def forget(self) -> None:
        """Look everything up again: a record was refused."""
        self._known.clear()

    def _look(self, topic: str, now: float) -> _Target | None:
        known = self._known.pop(topic, None)
        try:
            info = self._cluster.topic(topic)
        except LogError as error:
            if known is not None and error.retriable and error.refusal is None:
                return known  # it was there a minute ago; the broker will say if that has changed
            raise
        if info is None:
            return None
        largest = int(info.config.get("max.message.bytes", 1_000_000))
        target = self._known[topic] = _Target(info.partitions, largest, info.writable, now)
        self.smallest_batch_bytes = min(self.smallest_batch_bytes, largest)
        return target
