"""An app whose own topics take 300 kB, and values of about that size."""

import os
from typing import Any

from odradek import App, State
from odradek_runtime.log.port import Output
from tests.engine.harness import Rig

LIMIT = 300_000
STRIDE = 53
SIZES = range(LIMIT - 3_000, LIMIT + 400, STRIDE)
"""Values of these sizes fit, or not, depending on what stands around them: none of them may end in a transaction that does not."""
held = State("held", bytes, default=b"")


def small(rig: Rig, app: App, *inputs: str, partitions: int = 1) -> None:
    """The app's own topics take LIMIT; inputs, and what else is named, take any size."""
    shards = app.shards or 1
    changelog = {"cleanup.policy": "compact", "max.message.bytes": str(LIMIT)}
    queue = {"retention.ms": "-1", "retention.bytes": "-1", "max.message.bytes": str(LIMIT)}
    rig.log.create_topic(f"{app.name}.commands", shards, queue)
    rig.log.create_topic(f"{app.name}.journal", shards, changelog)
    rig.log.create_topic(f"{app.name}.state", shards, changelog)
    rig.log.create_topic(f"{app.name}.dead-letters", 1, {"max.message.bytes": str(LIMIT)})
    for name in inputs:
        rig.log.create_topic(name, partitions, {"max.message.bytes": "20000000"})


def letters(rig: Rig, app: App) -> list[dict[str, Any]]:
    """The dead letters: their headers as text, with key and size of value."""
    found: list[dict[str, Any]] = []
    for message in rig.records(f"{app.name}.dead-letters"):
        told = {name: (value or b"").decode() for name, value in message.headers() or ()}
        value = message.value()
        found.append({**told, "key": message.key(), "size": None if value is None else len(value)})
    return found


def write(rig: Rig, *outputs: Output) -> None:
    publisher = rig.log.publisher(f"sizes-{len(rig.log.transactions)}-{os.urandom(4).hex()}")
    publisher.publish(outputs, len(outputs))
    publisher.close()


def sized(number: int, size: int) -> bytes:
    return (b"%d " % number).ljust(size, b"x")
