"""Start-up: before a worker joins, every topic it relies on is there, as it must be, and N is known.

Internal topics are created with the right configuration, or checked and refused with what to change. Topics of the user are
never created on Kafka; the embedded log, on a laptop, makes those that are missing.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from pathlib import Path

from odradek import App

from .internal import lost
from .log.port import Log, TopicInfo
from .room import create, room_for, tell
from .sizes import LEAST_BYTES
from .targets import limit_of

logger = logging.getLogger("odradek")

DEFAULT_SHARDS = 8
_COMMANDS = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
_CHANGELOG = {"cleanup.policy": "compact"}
INTERNAL: Mapping[str, Mapping[str, str]] = {
    "journal": _CHANGELOG,
    "state": _CHANGELOG,
    "commands": _COMMANDS,
}
"""What these topics must be configured with, in the order in which they are made (`internal.NAMES`)."""
CHANGELOG_KEPT = {"min.compaction.lag.ms": "600000"}
"""So long no record is compacted: the value before a torn epoch must still be there when the next owner puts that right."""
_MADE_WITH: Mapping[str, Mapping[str, str]] = {"journal": CHANGELOG_KEPT, "state": CHANGELOG_KEPT}
"""What they are made with besides."""


class StartupError(Exception):
    """The app cannot run on this log as it is; the message says what to change."""


def prepare(app: App, log: Log, *, create_inputs: bool, stores: Path | None = None, max_record_bytes: int = 0) -> int:
    """Check and create topics; gives N. Raises StartupError, or LogError when the log cannot be reached.

    Args:
        create_inputs: make absent topics of the user (the embedded log).
        stores: where this worker keeps the app's stores: they show that it has run before.
        max_record_bytes: of a value that a handler makes.
    """
    inputs = _inputs(app, log, create_inputs)
    existing = log.topic(f"{app.name}.commands")
    shards = _shards(app, inputs, existing)
    if refusal := lost(app.name, log, shards, inputs, stores):
        raise StartupError(refusal)
    room = room_for(inputs, max_record_bytes)
    own = [_ensure(log, f"{app.name}.{name}", shards, config, _MADE_WITH.get(name, {}), room) for name, config in INTERNAL.items()]
    for name in letters(app):
        topic = log.topic(name) or create(log, name, shards, {}, room)
        if "compact" in topic.config.get("cleanup.policy", ""):
            raise StartupError(
                f"topic {name} takes dead letters and is compacted: it would refuse those without a key, and keep one of each key. "
                f"Use another topic, or: kafka-configs --alter --entity-type topics --entity-name {name} "
                "--add-config cleanup.policy=delete"
            )
        own.append(topic)
    tell(own, room)
    return shards


def letters(app: App) -> list[str]:
    """The topics that take the app's dead letters."""
    named = {subscription.dead_letter for subscription in app.subscriptions() if subscription.dead_letter is not None}
    return [f"{app.name}.dead-letters", *sorted(named)]


def _inputs(app: App, log: Log, create: bool) -> list[TopicInfo]:
    found: list[TopicInfo] = []
    for name in sorted({subscription.topic.name for subscription in app.subscriptions()}):
        topic = log.topic(name)
        if topic is None and create:
            topic = log.create_topic(name, app.shards or DEFAULT_SHARDS, {})
            logger.info("created topic %s with %d partitions", name, topic.partitions)
        if topic is None:
            near = difflib.get_close_matches(name, log.topics(), n=3)
            hint = f"; there is {', '.join(near)}" if near else ""
            raise StartupError(
                f"the app subscribes to topic {name!r}, which does not exist{hint}. Create it, for example with: "
                f"odradek publish {name} FILE --create --partitions 8, or with your Kafka tools"
            )
        found.append(topic)
    return found


def _shards(app: App, inputs: list[TopicInfo], existing: TopicInfo | None) -> int:
    if existing is None:
        return app.shards or max((topic.partitions for topic in inputs), default=DEFAULT_SHARDS)
    if app.shards is not None and app.shards != existing.partitions:
        raise StartupError(
            f"App({app.name!r}, shards={app.shards}), but {existing.name} has {existing.partitions} partitions: the number of "
            f"shards of an app never changes; use shards={existing.partitions}, or a new app name"
        )
    return existing.partitions


def _ensure(
    log: Log, name: str, shards: int, config: Mapping[str, str], made_with: Mapping[str, str], room: int
) -> TopicInfo:
    topic = log.topic(name)
    if topic is None:
        topic = create(log, name, shards, {**config, **made_with}, room)
    if topic.partitions != shards:
        raise StartupError(
            f"topic {name} has {topic.partitions} partitions and must have {shards}: it was not made by this app, or was altered"
        )
    for option, wanted in config.items():
        is_ = topic.config.get(option, wanted)
        if is_ != wanted:
            raise StartupError(
                f"topic {name} has {option}={is_} and must have {option}={wanted}, else the app would lose data: "
                f"kafka-configs --alter --entity-type topics --entity-name {name} --add-config {option}={wanted}"
            )
    if limit_of(topic) < LEAST_BYTES:
        raise StartupError(
            f"topic {name} takes records of {limit_of(topic)} bytes and must take {LEAST_BYTES}, better {room}: "
            f"kafka-configs --alter --entity-type topics --entity-name {name} --add-config max.message.bytes={room}"
        )
    return topic
