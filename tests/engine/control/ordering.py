"""Gives orders as the admin API does, and looks at what is left of what they were about."""

import os

from odradek import App
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import INVOCATION, Command, Stored
from odradek_runtime.core.records.order import order
from odradek_runtime.recovery.orders import give
from odradek_runtime.routing import id_hash
from tests.engine.harness import Rig


def tell(rig: Rig, app: App, *commands: Command) -> None:
    """Write these into the commands topic, in one transaction."""
    shards = rig.partitions(f"{app.name}.commands")
    orders = [(id_hash(command.id) % shards, command) for command in commands]
    assert give(rig.log, app.name, os.urandom(6).hex(), orders)


def ordered(rig: Rig, app: App, kind: str, *ids: str, ref: int = -1, becomes: str = "") -> None:
    """Have it done, and wait until the order has been read."""
    tell(rig, app, *(order(kind, id_, "ann@desk", ref=ref, becomes=becomes) for id_ in ids))
    rig.settled(app)


def entry(rig: Rig, app: App, id_: str) -> Stored | None:
    raw = rig.journal(app).get(keys.invocation(id_))
    return INVOCATION.decode(raw) if raw is not None else None


def left(rig: Rig, app: App) -> list[bytes]:
    """What the journal keeps but completions, and the timers that forget them."""
    ended = {keys.invocation(each.id) for each in rig.invocations(app) if each.status in ("completed", "failed")}
    timers = {key for key in rig.journal(app) if key[:1] == b"t" and keys.split_timer(key)[2] == keys.REF_PURGE}
    return sorted(key for key in rig.journal(app) if key not in ended | timers)
