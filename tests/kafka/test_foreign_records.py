"""On Kafka: what strangers write into an app's own topics ends no worker, and no work of the app is lost or done twice."""

import random
import threading
from collections import Counter
from pathlib import Path

import msgspec

from odradek import App, ObjectContext
from odradek_runtime.core.records.formats import COMMAND, SLOT, Command, Header
from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.port import Output, Partition
from odradek_runtime.routing import fresh_id, id_hash, shard_of
from tests.contract.station import values
from tests.invariants.strangers import plausible, spoilt
from tests.kafka.raw import eventually
from tests.kafka.running import publish, running
from tests.records import committed

SHARDS = 2
HELD, QUEUED = 1_000, 1_001
"""The first waits for a step until the gate opens; the second waits for the first, in the inbox of their key."""


class Gate:
    """An app that sums by key; what is under way when it stops goes on where it starts again."""

    def __init__(self, name: str) -> None:
        self.opened = threading.Event()
        self.app = App(name, shards=SHARDS)
        out, numbers = self.app.topic(f"{name}-out", value=int), self.app.topic(f"{name}-in", value=int)
        account = self.app.object("account")

        def opened() -> None:
            self.opened.wait(60.0)

        @account.on(numbers)
        async def book(ctx: ObjectContext, n: int) -> None:
            if n == HELD:
                await ctx.run(opened, name="opened")
            ctx.set("total", ctx.get("total", int, 0) + n)
            ctx.publish(out, n, key=ctx.key)

        @account.handler
        async def total(ctx: ObjectContext) -> int:
            return ctx.get("total", int, 0)


def done(log: KafkaLog, name: str) -> Counter[int]:
    return Counter(msgspec.json.decode(v) for n in range(SHARDS) for v in values(log, Partition(f"{name}-out", n)) if v)


def plant(log: KafkaLog, name: str) -> int:
    """Ten thousand records in each changelog; gives how many are in the journal."""
    rng = random.Random(11)
    wild = [(rng.randrange(SHARDS), rng.randbytes(rng.randrange(12)), rng.randbytes(rng.randrange(20))) for _ in range(7_000)]
    journal, state = list(committed(log, f"{name}.journal")), list(committed(log, f"{name}.state"))
    mixed = [each for each in wild + [spoilt(rng, rng.choice(journal)) for _ in range(4_000)] if not plausible(*each)][:10_000]
    mixed += [(0, b"lx", b"\xff"), (1, b"", b"x")]
    publish(log, f"{name}-stranger-1", *(Output(f"{name}.journal", *each) for each in mixed))
    copies = wild + [spoilt(rng, rng.choice(state)) for _ in range(3_000)]
    publish(log, f"{name}-stranger-2", *(Output(f"{name}.state", *each) for each in copies))
    return len(mixed)


def hostile(name: str, queued: str) -> list[Output]:
    """Commands that each ended the worker, or might have; and a record whose headers no client makes."""
    forward = Command("forward", target="account/book", key=b"k1", payload=b"{", topic=f"{name}-in", partition=0, offset=9)
    forward.headers = [Header("a\0b\n", b"\xff"), Header("", None)]
    caller, target = fresh_id(b"c", b"abcdefghijkl"), "account/total"
    there = [
        Command("complete", id=queued, ref=0, payload=b"null"),
        Command("invoke", id=fresh_id(b"a", b"1" * 12), target=target, key=b"a", caller_app="a b", caller_id=caller, ref=0),
        Command("invoke", id=fresh_id(b"a", b"2" * 12), target=target, key=b"a", caller_app="x" * 300, caller_id=caller),
        Command("invoke", id=fresh_id(b"a", b"3" * 12), target=target, key=b"a", at_ms=2**63 - 1),
        forward,
    ]
    homes = [id_hash(each.id) % SHARDS if each.id else shard_of(b"k1", SHARDS) for each in there]
    return [Output(f"{name}.commands", home, None, COMMAND.encode(each)) for home, each in zip(homes, there, strict=True)]


def queued_id(log: KafkaLog, name: str) -> str:
    """Of the invocation in the inbox of the key; "" while there is none."""
    found = [m.value() for m in committed(log, f"{name}.journal") if (m.key() or b"").startswith(b"qaccount/a/")]
    return SLOT.decode(found[0]).id if found and found[0] else ""


def test_what_strangers_write_into_an_apps_topics_harms_nobody(
    kafka: str, log: KafkaLog, topic_prefix: str, tmp_path: Path
) -> None:
    name, gate = topic_prefix, Gate(topic_prefix)
    for topic in (f"{name}-in", f"{name}-out"):
        log.create_topic(topic, SHARDS, {})
    with running(gate.app, log, kafka, tmp_path / "first") as worker:
        publish(log, f"{name}-feed-1", *(Output(f"{name}-in", None, b"k%d" % n, b"%d" % n) for n in range(200)))
        publish(log, f"{name}-feed-2", *(Output(f"{name}-in", None, b"a", b"%d" % n) for n in (HELD, QUEUED)))
        eventually(lambda: len(done(log, name)) == 200)
        eventually(lambda: queued_id(log, name) != "")
        publish(log, f"{name}-stranger", *hostile(name, queued_id(log, name)))
        eventually(lambda: worker.metrics.dead_letters == 5)
    journaled = plant(log, name)

    gate.opened.set()
    with running(gate.app, log, kafka, tmp_path / "second") as worker:  # without a store: all of it is read
        eventually(lambda: worker.ready)
        publish(log, f"{name}-feed-3", *(Output(f"{name}-in", None, b"k%d" % n, b"%d" % (2_000 + n)) for n in range(200)))
        eventually(lambda: len(done(log, name)) == 402)
        assert worker.metrics.foreign_records == {f"{name}.journal": journaled, f"{name}.state": 10_000}
    numbers = [*range(200), HELD, QUEUED, *range(2_000, 2_200)]
    assert done(log, name) == Counter(numbers)
    letters = list(committed(log, f"{name}.dead-letters"))
    assert len(letters) == 5
    assert all(dict(letter.headers() or ())["odradek-error"] for letter in letters)
