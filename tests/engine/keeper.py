"""An app whose records are replayed: what it notes, how a replay of them is ordered, and what its journal says of it."""

from typing import Any

import msgspec

from odradek import App, Context, ObjectContext, State, TerminalError
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import COMMAND, REPLAY, REPLAY_TALLY, Command, Replay, ReplayTally
from odradek_runtime.log.port import Partition
from tests.engine.harness import Rig

RECORDS = 60
SHARDS = 2


class Rules:
    """What the handlers of an app do with a value."""

    bad: frozenset[int] = frozenset()
    waits = False


def keeper(rules: type[Rules] = Rules) -> App:
    """Notes each record under its key with what delivered it; one that is bad becomes a dead letter."""
    app = App("keeper", shards=SHARDS)
    entries, notes = app.topic("entries", value=int), app.topic("notes", value=list[Any])
    count, keeping, plain = State("count", int, default=0), app.object("keeping"), app.service("plain")

    @keeping.on(entries)
    async def kept(ctx: ObjectContext, value: int) -> None:
        if rules.waits:
            await ctx.sleep(0.001)
        if value in rules.bad:
            raise TerminalError("bad", code=422)
        ctx.set(count, ctx.get(count) + 1)
        redriven = ctx.headers.get("odradek-redriven", "")
        ctx.publish(notes, ["kept", ctx.key, value, ctx.record.replay, redriven], key=ctx.key)

    @plain.on(entries)
    async def seen(ctx: Context, value: int) -> None:
        ctx.publish(notes, ["seen", "", value, ctx.record.replay, ""], key="any")

    return app


def fed(rig: Rig, records: int = RECORDS) -> None:
    for number in range(records):
        rig.publish("entries", (f"k{number % 7}", number), partition=number % 3)


def order(rig: Rig, id_: str, topic: str = "entries", **fields: Any) -> None:
    """Begin a replay of all that is in the topic, or of a part of it."""
    for partition in range(rig.partitions(topic)):
        first, stop = rig.log.offsets(Partition(topic, partition))
        part = Replay(id_, topic, partition, first, first, stop, asked_by="ann@laptop", parts=rig.partitions(topic))
        for name, value in fields.items():
            setattr(part, name, value)
        part.next = part.first
        give(rig, Command(kind="replay", id=id_, payload=REPLAY.encode(part)), partition % SHARDS)


def give(rig: Rig, command: Command, shard: int) -> None:
    rig.publish("keeper.commands", (None, COMMAND.encode(command)), partition=shard)


def notes(rig: Rig, replay: str | None, what: str = "kept") -> list[tuple[str, int]]:
    """(key, value) of what has been noted of this replay's records."""
    found = [msgspec.json.decode(message.value() or b"[]") for message in rig.records("notes")]
    return [(key, value) for of, key, value, by, _ in found if of == what and by == replay]


def rows(rig: Rig) -> list[tuple[bytes, bytes]]:
    assert rig.worker._engine is not None
    shards = list(rig.worker._engine.machine.shards.values())
    return [row for shard in shards for row in list(shard.replay_rows.items())]


def tally(rig: Rig, id_: str) -> ReplayTally:
    whole = ReplayTally(id_)
    for one in [REPLAY_TALLY.decode(value) for key, value in rows(rig) if key == keys.replay_tally(id_)]:
        for name in ("started", "ended_well", "dead_letters", "left_out"):
            setattr(whole, name, getattr(whole, name) + getattr(one, name))
    return whole


def parts(rig: Rig, id_: str) -> list[Replay]:
    return [part for key, value in rows(rig) if key[:1] == b"r" and (part := REPLAY.decode(value)).id == id_]


def ended(rig: Rig, id_: str) -> bool:
    whole, own = tally(rig, id_), parts(rig, id_)
    done = len(own) >= max((part.parts for part in own), default=1) and all(part.status != "running" for part in own)
    return done and whole.started == whole.ended_well + whole.dead_letters + whole.left_out
