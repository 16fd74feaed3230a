"""Room: how large a record the app's own topics take. Decided when they are made, looked at at every start.

What an input holds may be far larger than the input's own limit, which counts compressed batches; and it is written on with more
around it: forwarded, kept while its invocation waits, as a dead letter. So these topics take several times as much.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from odradek_runtime.core.topics.targets import PRODUCER_BYTES, limit_of
from odradek_runtime.log.port import Log, LogError, TopicInfo
from odradek_runtime.log.sizes import LIMIT_BYTES

logger = logging.getLogger("odradek")

ROOM_BYTES = 8 * 1024 * 1024
"""The least that is wanted; hosted Kafka often allows no more."""
AROUND_BYTES = 65_536
"""What may stand around a value: keys, headers, names."""


def room_for(inputs: Iterable[TopicInfo], max_record_bytes: int) -> int:
    """`max.message.bytes` of the topics that the app makes."""
    largest = max((limit_of(topic) for topic in inputs), default=LIMIT_BYTES)
    return min(max(ROOM_BYTES, 2 * largest, max_record_bytes + AROUND_BYTES), PRODUCER_BYTES)


def create(log: Log, name: str, partitions: int, config: Mapping[str, str], room: int) -> TopicInfo:
    """Make a topic that takes such records; one as the brokers make them where they allow no more."""
    try:
        return log.create_topic(name, partitions, {**config, "max.message.bytes": str(room)})
    except LogError as error:
        if error.retriable:
            raise
        logger.warning("topic %s cannot be made with max.message.bytes=%d (%s): it is made without", name, room, error)
        return log.create_topic(name, partitions, config)


def tell(topics: Iterable[TopicInfo], room: int) -> None:
    """Say which topics, made by an older version or by hand, take less than is wanted, and what that means."""
    small = {topic.name: limit_of(topic) for topic in topics if limit_of(topic) < room}
    if small:
        logger.warning(
            "%s: max.message.bytes is less than %d. A record that is larger once it is decompressed goes to the dead letters if it "
            "has to be forwarded or kept, without its value if they do not take it either. To take it: kafka-configs --alter "
            "--entity-type topics --entity-name TOPIC --add-config max.message.bytes=%d",
            ", ".join(f"{name} ({limit})" for name, limit in small.items()), room, room,
        )  # fmt: skip
