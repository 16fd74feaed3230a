"""Targets: the topics that an app writes to, and what each takes; asked before a record enters an epoch (invariants 2, 9 and 12).

One bad record would abort the whole transaction, and a producer would create a missing topic by accident: so existence,
partition, size, time and key are checked here, against what a client that cannot create topics has seen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from odradek import TerminalError
from odradek._port import Headers
from odradek_runtime.log.port import Log, LogError, Partition, Refusal, TopicInfo
from odradek_runtime.log.sizes import BARE_BYTES, LIMIT_BYTES, record_bytes

from .unavailable import Unavailable, Unavailables

logger = logging.getLogger("odradek")

AGAIN_MS = 1_000.0
"""A topic that is absent, or took too little, is looked up again at most so often."""
PRODUCER_BYTES = 64 * 1024 * 1024
"""What a producer takes unless told otherwise (librdkafka's message.max.bytes, before compression)."""
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class _Target:
    """A topic as it was last seen. `past_ms`, `future_ms`: how far a record's time may be from now."""

    partitions: int
    limit_bytes: int
    compacted: bool
    past_ms: int
    future_ms: int
    seen_ms: float


class Targets:
    """A cache of topics; those that could not be found are looked up again at most once a second.

    `letters`: the topics that take the app's dead letters. `max_record_bytes`: of a value that a handler makes.
    `producer_bytes`: what the producers take, whatever the topics do.
    """

    def __init__(
        self,
        log: Log,
        *,
        max_record_bytes: int,
        absent: Callable[[str], TopicInfo | None] | None = None,
        letters: Iterable[str] = (),
        producer_bytes: int = PRODUCER_BYTES,
    ) -> None:
        self._log = log
        self._letters = tuple(letters)
        self._max_record_bytes = max_record_bytes
        self._absent = absent
        self._producer_bytes = producer_bytes
        self._known: dict[str, _Target] = {}
        self._limits: dict[str, int] = {}
        """How large a record each topic took when it was last seen: it holds while the topic cannot be looked up."""
        self.plain: dict[str, int] = {}
        """Topics that take a record by its size alone (key and value, bytes): nothing else to check, the hot path looks here."""
        self.unavailable = Unavailables()
        self._unanswered: dict[str, tuple[float, LogError]] = {}

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
        """Raises TerminalError when the log would refuse the record, Unavailable while its topic takes none, LogError."""
        known = self._known.get(topic) or self._look(topic, steady_ms)
        size, limit = record_bytes(key, value, headers), min(known.limit_bytes, self._max_record_bytes + BARE_BYTES)
        if size > limit:
            known = self._look_again(topic, known, steady_ms)
            limit = min(known.limit_bytes, self._max_record_bytes + BARE_BYTES)
        if size > limit:
            raise TerminalError(f"a record of {size} bytes is over the limit of {topic}, {limit} bytes", code=413)
        if partition is not None and not 0 <= partition < known.partitions:
            raise TerminalError(f"{topic} has partitions 0 to {known.partitions - 1}, not {partition}", code=400)
        if timestamp_ms is not None and not now_ms - known.past_ms <= timestamp_ms <= now_ms + known.future_ms:
            raise TerminalError(f"timestamp {timestamp_ms} ms: {topic} takes {_span(known)}", code=400)
        if known.compacted and not key:
            raise TerminalError(f"{topic} is compacted: every record needs a key", code=400)

    def limit(self, topic: str, steady_ms: float, wanted: int = 0) -> int:
        """How large a record the topic takes, in bytes as `record_bytes` counts them.

        `wanted`: for a record of so many bytes; if they are too many the topic may have been altered, and is looked up again.
        One that cannot be looked up takes what it took before; of one that was never seen nothing is refused: the brokers will say.
        """
        known = self._known.get(topic)
        try:
            if known is None:
                known = self._look(topic, steady_ms)
            elif wanted > known.limit_bytes:
                known = self._look_again(topic, known, steady_ms)
        except (LookupError, LogError):
            return self._limits.get(topic, self._producer_bytes)
        return known.limit_bytes

    def end(self, partition: Partition) -> int:
        """Where a partition ends now. Raises LogError."""
        return self._log.offsets(partition)[1]

    def renew(self, shards: int) -> None:
        """A record was refused, perhaps because its topic has gone: what is known of topics is looked up again.

        Dead-letter topics that have gone are made again, as at the start: without them one bad record would stop everything.
        """
        self._known.clear()
        self.plain.clear()
        self.renew_letters(shards)

    def writes_to(self, topic: str) -> bool:
        """Whether this is a topic that handlers, or the dead letters, are written to."""
        return topic in self._known or topic in self._letters or self.unavailable.shut_now(topic)

    def renew_letters(self, shards: int) -> None:
        """Make dead-letter topics again that have gone, to take as large records as they did."""
        for topic in self._letters:
            try:
                if self._log.topic(topic) is None:
                    config = {"max.message.bytes": str(self._limits[topic])} if topic in self._limits else {}
                    self._log.create_topic(topic, shards, config)
                    logger.error("topic %s was deleted while the app runs; it has been made again", topic)
            except LogError as error:
                logger.warning("topic %s could not be looked up: %s", topic, error)

    def refused(self, refusal: Refusal, steady_ms: float) -> None:
        """The log has refused an epoch for this topic's sake, as it is set up: nothing more is written to it for a while."""
        self._known.pop(refusal.resource, None)
        self.plain.pop(refusal.resource, None)
        self.unavailable.shut(refusal, steady_ms)

    def barred(self, topic: str, steady_ms: float) -> Unavailable | None:
        """Why a topic that was refused still is; None if it takes records, or was never refused."""
        if not self.unavailable.shut_now(topic):
            return None
        try:
            self._look(topic, steady_ms)
        except Unavailable as error:
            return error
        return None

    def partitions(self, topic: str, steady_ms: float) -> int:
        """How many partitions another app's commands topic has: that app alone makes it.

        Raises AbsentTopic when it does not exist, Unavailable or LogError when that cannot be known.
        """
        return (self._known.get(topic) or self._look(topic, steady_ms, make=False)).partitions

    def _look_again(self, topic: str, known: _Target, steady_ms: float) -> _Target:
        """Before a record is refused for its size, if that was not a moment ago: somebody may have raised the topic's limit."""
        return known if steady_ms - known.seen_ms < AGAIN_MS else self._look(topic, steady_ms)

    def _look(self, topic: str, steady_ms: float, *, make: bool = True) -> _Target:
        self.unavailable.check(topic, steady_ms)
        looked_ms, unanswered = self._unanswered.get(topic, (-AGAIN_MS, None))
        if unanswered is not None and steady_ms - looked_ms < AGAIN_MS:
            raise unanswered
        try:
            info = self._log.topic(topic)
            if info is None and make and self._absent is not None:
                info = self._absent(topic)
        except LogError as error:
            if error.refusal is not None:
                raise self.unavailable.shut(error.refusal._replace(resource=topic), steady_ms) from error
            unknown = LogError(f"topic {topic} could not be looked up: {error}", retriable=error.retriable)
            self._unanswered[topic] = steady_ms, unknown
            raise unknown from error
        self._unanswered.pop(topic, None)
        if info is None:
            raise self.unavailable.shut(Refusal(topic, "Write", absent(topic)), steady_ms, absent=True)
        self._limits[topic] = min(limit_of(info), self._producer_bytes)
        if not info.writable:
            raise self.unavailable.shut(Refusal(topic, "Write", forbidden(topic)), steady_ms)
        self.unavailable.open(topic)
        known = self._known[topic] = _target(info, self._limits[topic], steady_ms)
        if not known.compacted:
            self.plain[topic] = min(known.limit_bytes - BARE_BYTES, self._max_record_bytes)
        return known


def limit_of(info: TopicInfo) -> int:
    """How large a record a topic takes, in bytes as `record_bytes` counts them."""
    return int(info.config.get("max.message.bytes", LIMIT_BYTES))


def _target(info: TopicInfo, limit_bytes: int, steady_ms: float) -> _Target:
    past_ms = int(info.config.get("message.timestamp.before.max.ms", 2**63 - 1))
    future_ms = int(info.config.get("message.timestamp.after.max.ms", 3_600_000))
    compacted = "compact" in info.config.get("cleanup.policy", "")
    return _Target(info.partitions, limit_bytes, compacted, past_ms, future_ms, steady_ms)


def _span(known: _Target) -> str:
    """Which times a topic takes, in words."""
    since = "any time" if known.past_ms > 100_000 * _DAY_MS else f"{known.past_ms} ms before now"
    ahead = "one hour" if known.future_ms == 3_600_000 else f"{known.future_ms} ms"
    return f"{since} up to {ahead} from now"


def forbidden(topic: str) -> str:
    """Say that a topic may not be written to, and what to do."""
    return f"Kafka refuses Write on topic {topic}: add an ACL for Write on the topic"


def absent(topic: str) -> str:
    """Say that a topic is not there, and what to do."""
    app = topic.removesuffix(".commands")
    theirs = "" if app == topic else f"start the app {app}, which makes its own topics; if it is none of an app, "
    way_out = f"{theirs}create it (odradek topics --create NAME, or your Kafka tools)"
    return f"topic {topic} does not exist: {way_out}; it is looked for again"
