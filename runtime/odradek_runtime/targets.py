"""Targets: the topics that handlers write to, checked before a record enters an epoch (invariants 2 and 12).

One bad record would abort the whole transaction, and a producer would create a missing topic by accident: so existence,
partition, size, time and key are checked here, against what a client that cannot create topics has seen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from odradek import TerminalError
from odradek._port import Headers

from .log.port import Log, LogError, TopicInfo

logger = logging.getLogger("odradek")

OVERHEAD_BYTES = 200
"""What the log adds to a record, at the most: batch header, varints."""
FUTURE_MS = 3_600_000
"""Kafka's default message.timestamp.after.max.ms."""
AGAIN_MS = 1_000.0


class Targets:
    """A cache of topics; those that could not be found are looked up again at most once a second.

    `letters`: the topics that take the app's dead letters.
    """

    def __init__(
        self,
        log: Log,
        *,
        max_record_bytes: int,
        absent: Callable[[str], TopicInfo | None] | None = None,
        letters: Iterable[str] = (),
    ) -> None:
        self._log = log
        self._letters = tuple(letters)
        self._max_record_bytes = max_record_bytes
        self._absent = absent
        self._known: dict[str, tuple[int, int, bool]] = {}
        self.plain: dict[str, int] = {}
        """Topics that take a record by its size alone (key and value, bytes): nothing else to check, the hot path looks here."""
        self._failed: dict[str, tuple[float, LookupError | LogError]] = {}

    def check(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        partition: int | None,
        timestamp_ms: int | None,
        now_ms: float,
        steady_ms: float,
    ) -> None:
        """Raises TerminalError when the log would refuse the record, LookupError while its topic does not exist, LogError."""
        known = self._known.get(topic) or self._look(topic, steady_ms)
        partitions, limit, compacted = known
        size = (len(value) if value else 0) + (len(key) if key else 0) + OVERHEAD_BYTES
        if headers:
            size += sum(len(name) + len(text or b"") + 4 for name, text in headers)
        if size > limit:
            raise TerminalError(f"a record of {size} bytes is over the limit of {topic}, {limit} bytes", code=413)
        if partition is not None and not 0 <= partition < partitions:
            raise TerminalError(f"{topic} has partitions 0 to {partitions - 1}, not {partition}", code=400)
        if timestamp_ms is not None and not 0 <= timestamp_ms <= now_ms + FUTURE_MS:
            raise TerminalError(f"timestamp {timestamp_ms} ms: {topic} takes 0 up to one hour from now", code=400)
        if compacted and not key:
            raise TerminalError(f"{topic} is compacted: every record needs a key", code=400)

    def renew(self, shards: int) -> None:
        """A record was refused, perhaps because its topic has gone: what is known of topics is looked up again.

        Dead-letter topics that have gone are made again, as at the start: without them one bad record would stop everything.
        """
        self._known.clear()
        self.plain.clear()
        self._failed.clear()
        for topic in self._letters:
            try:
                if self._log.topic(topic) is None:
                    self._log.create_topic(topic, shards, {})
                    logger.error("topic %s was deleted while the app runs; it has been made again", topic)
            except LogError as error:
                logger.warning("topic %s could not be looked up: %s", topic, error)

    def partitions(self, topic: str, steady_ms: float) -> int:
        """How many partitions the topic has. Raises LookupError when it does not exist, LogError when that cannot be known."""
        return (self._known.get(topic) or self._look(topic, steady_ms))[0]

    def _look(self, topic: str, steady_ms: float) -> tuple[int, int, bool]:
        looked_ms, failure = self._failed.get(topic, (-AGAIN_MS, None))
        if failure is not None and steady_ms - looked_ms < AGAIN_MS:
            raise failure
        try:
            info = self._log.topic(topic)
            if info is None and self._absent is not None:
                info = self._absent(topic)
        except LogError as error:
            unknown = LogError(f"topic {topic} could not be looked up: {error}", retriable=error.retriable)
            self._failed[topic] = steady_ms, unknown
            raise unknown from error
        if info is None:
            missing = LookupError(absent(topic))
            self._failed[topic] = steady_ms, missing
            raise missing
        self._failed.pop(topic, None)
        limit = min(int(info.config.get("max.message.bytes", 1_048_588)), self._max_record_bytes + OVERHEAD_BYTES)
        known = self._known[topic] = (info.partitions, limit, "compact" in info.config.get("cleanup.policy", ""))
        if not known[2]:
            self.plain[topic] = limit - OVERHEAD_BYTES
        return known


def absent(topic: str) -> str:
    """Say that a topic is not there, and what to do."""
    return (
        f"topic {topic} does not exist: create it (odradek publish --create makes one, or your Kafka tools); "
        "it is looked for again"
    )
