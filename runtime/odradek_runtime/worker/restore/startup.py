"""Start-up: before a worker joins, every topic it relies on is there, as it must be, and N is known.

Internal topics are created with the right configuration, or checked and refused with what to change. Topics of the user that
are missing are named all at once; they are made on Kafka only if that was asked for. The embedded log, on a laptop, makes inputs.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from odradek import App
from odradek_runtime.core.records.dead_letter import letters
from odradek_runtime.core.topics.sizes import LEAST_BYTES
from odradek_runtime.core.topics.targets import limit_of
from odradek_runtime.log.port import Log, LogError, TopicInfo

from .internal import lost
from .internal import names as names_of
from .room import create, room_for, tell

logger = logging.getLogger("odradek")

Making = Literal["nothing", "inputs", "all"]
"""Which of the user's topics are made where they are missing; "inputs": outputs are made when they are written to."""
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


def prepare(app: App, log: Log, *, make: Making, stores: Path | None = None, max_record_bytes: int = 0) -> int:
    """Check and create topics; gives N. Raises StartupError, or LogError when the log cannot be reached.

    Args:
        make: which absent topics of the user.
        stores: where this worker keeps the app's stores: they show that it has run before.
        max_record_bytes: of a value that a handler makes.
    """
    names = sorted({subscription.topic.name for subscription in app.subscriptions()})
    found = {name: log.topic(name) for name in names}
    inputs = [topic for topic in found.values() if topic is not None]
    missing = [name for name, topic in found.items() if topic is None]
    existing = log.topic(f"{app.name}.commands")
    shards = _shards(app, inputs, existing)
    outputs = [] if make == "inputs" else _missing_outputs(app, log, names)
    if make == "nothing":
        _refuse_missing(app, log, missing, outputs, shards)
    if refusal := lost(app.name, log, shards, inputs, stores):
        raise StartupError(refusal)
    if make != "nothing":
        inputs += [_make(log, name, shards) for name in missing]
        for name in outputs:
            _make(log, name, shards)
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


def _missing_outputs(app: App, log: Log, inputs: list[str]) -> list[str]:
    """Topics that the app declares and does not read, as far as they are known not to be there. Raises LogError."""
    there = {*log.topics(), *inputs, *letters(app), *names_of(app.name)}
    return [name for name in app.topic_names() if name not in there and _absent(log, name)]


def _absent(log: Log, name: str) -> bool:
    """Topics that this worker may not describe are not listed, and are no reason to stop."""
    try:
        return log.topic(name) is None
    except LogError as error:
        if error.refusal is None:
            raise
        return False


def _refuse_missing(app: App, log: Log, inputs: list[str], outputs: list[str], shards: int) -> None:
    """Name all topics that are not there, with the ways out. Without its inputs the app does not start; outputs are waited for."""
    if not inputs and not outputs:
        return
    others = sorted({*log.topics()} - {*app.topic_names()})
    used = {**dict.fromkeys(inputs, "read"), **dict.fromkeys(outputs, "written")}
    named = ", ".join(f"{name} ({how}{_near(name, others)})" for name, how in used.items())
    said = (
        f"the app {app.name!r} declares topics that do not exist: {named}. Ways out: start it with --create-topics, which "
        f"makes each with {shards} partitions · make each with: odradek topics -b … --create NAME --partitions {shards} · "
        "your Kafka tools"
    )
    if inputs:
        raise StartupError(said)
    logger.warning("%s. What is published to them waits until they are there", said)


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    return f"; there is {', '.join(near)}" if near else ""


def _make(log: Log, name: str, partitions: int) -> TopicInfo:
    topic = log.create_topic(name, partitions, {})
    logger.info("created topic %s with %d partitions, replication factor %d", name, topic.partitions, topic.replicas)
    return topic


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
