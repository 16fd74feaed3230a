"""Positions are ours: committed before the first read and again every hour, restored from the journal; old commands go."""

import threading

import pytest

from odradek import App, ObjectContext, State
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import COMMAND, POSITIONS, Command
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Output, Partition
from odradek_runtime.routing import fresh_id, shard_of
from odradek_runtime.worker.restore.ownership import Restored
from odradek_runtime.worker.upkeep import housekeeping
from odradek_runtime.worker.upkeep.housekeeping import Housekeeping
from tests.invariants.conftest import MakeStage
from tests.invariants.counting import counting
from tests.invariants.stage import of_topic
from tests.kafka.raw import eventually

IN = Partition("counting-in", 0)
COMMANDS = Partition("counting.commands", 0)
HOUR_MS = 3_600_000


def test_start_positions_are_committed_before_the_first_read(stage: MakeStage) -> None:
    here = stage(counting())
    here.publish(IN.topic, ("k", 1), ("k", 2))
    first = here.held()
    for _ in range(5):
        here.turn()
    assert here.member.reads == [], "nothing is read before the start positions are durable"
    assert first.offsets[IN] == 0
    (record,) = [value for key, value in first.journal[0] if key == keys.POSITIONS]
    assert {Partition(at.topic, at.partition): at.offset for at in POSITIONS.decode(record or b"").inputs}[IN] == 0

    here.until(lambda: here.values("counting-out") == ["k=1", "k=3"])


def test_the_journal_is_the_authority_for_input_positions(stage: MakeStage) -> None:
    """Whatever a group may have forgotten: nothing in it is asked for, and nothing is processed twice."""
    first = stage(counting()).open()
    first.publish(IN.topic, ("k", 1), ("k", 2))
    first.until(lambda: len(first.values("counting-out")) == 2)
    first.until(lambda: first.quiet)
    first.close()

    second = stage(counting()).open()
    assert second.member.reads[0][IN] == 2
    second.publish(IN.topic, ("k", 4))
    second.until(lambda: len(second.values("counting-out")) == 3)
    assert second.values("counting-out") == ["k=1", "k=3", "k=7"]


def test_every_owned_offset_is_committed_again_within_the_hour(stage: MakeStage) -> None:
    here = stage(counting(shards=2)).open()
    here.until(lambda: here.quiet)
    here.member.sent.clear()
    for _ in range(5):
        here.turn()
    assert here.member.sent == [], "nothing to do"

    here.later(HOUR_MS)
    sent = here.held()
    assert {partition.topic for partition in sent.offsets} == {IN.topic, COMMANDS.topic}
    assert {partition.partition for partition in sent.offsets if partition.topic == IN.topic} == {0, 1}


def test_commands_are_deleted_below_a_committed_position_alone(
    stage: MakeStage, log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = stage(counting()).open()
    done = log.offsets(COMMANDS)[1]
    publisher = log.publisher("commands")
    command = Command(kind="invoke", id=fresh_id(b"k", b"123456789012"), target="counter/add", key=b"k", payload=b"1")
    publisher.publish([Output(*COMMANDS, None, COMMAND.encode(command))], 1)
    publisher.close()
    here.held()
    assert here.position(COMMANDS) == done + 1, "it has been processed, and is not committed"

    monkeypatch.setattr(housekeeping, "TURN_S", 0.02)
    stopping = threading.Event()
    keeper = Housekeeping(log, here.engine, stopping)
    keeper.start()
    eventually(lambda: keeper.lag.records != {})  # a round is over
    assert log.offsets(COMMANDS) == (done, done + 1)

    here.let_through()
    eventually(lambda: log.offsets(COMMANDS)[0] == done + 1)
    stopping.set()
    keeper.join()


def ordering(shards: int) -> App:
    """Each record of `order-in` is sent on to target/c, which keeps what it has seen."""
    app = App("order", shards=shards)
    numbers = app.topic("order-in", value=int)
    source, target = app.object("source"), app.object("target")
    seen = State("seen", list[int], default=[])

    @target.handler
    async def take(ctx: ObjectContext, n: int) -> None:
        ctx.set(seen, [*ctx.get(seen), n])

    @source.on(numbers)
    async def told(ctx: ObjectContext, n: int) -> None:
        ctx.send(take, n, key="c")

    return app


def send_early(log: EmbeddedLog, commands: Partition) -> None:
    """A command that another owner wrote and nobody has read: target/c takes 1."""
    early = Command(kind="invoke", id=fresh_id(b"c", b"123456789012"), target="target/take", key=b"c", payload=b"1")
    publisher = log.publisher("predecessor")
    publisher.publish([Output(*commands, None, COMMAND.encode(early))], 1)
    publisher.close()


def test_a_local_call_does_not_overtake_a_command_that_was_there_before(stage: MakeStage, log: EmbeddedLog) -> None:
    """A new owner reads an input first, and only then the commands that its predecessor had left unread."""
    here = stage(ordering(shards=1))
    commands = Partition("order.commands", 0)
    send_early(log, commands)
    here.publish("order-in", ("s", 2))

    here.deaf = of_topic(commands.topic)
    here.until(lambda: here.machine.shards and here.position(Partition("order-in", 0)) == 1)
    here.deaf = lambda _: False
    here.until(lambda: here.quiet and b"2" in (here.machine.shards[0].read(b"starget/c/seen") or b""))

    assert here.machine.shards[0].read(b"starget/c/seen") == b"[1,2]"


def test_a_call_from_a_shard_just_gained_does_not_overtake_what_its_last_owner_sent(stage: MakeStage, log: EmbeddedLog) -> None:
    """One shard has been ours for long; the last owner of the other has written to its commands, and they are not read yet."""
    assert (shard_of(b"c", 2), shard_of(b"s", 2)) == (0, 1)
    here = stage(ordering(shards=2))
    commands = Partition("order.commands", 0)
    here.deaf = lambda event: isinstance(event, Restored) and event.shard.number == 1
    here.until(lambda: 0 in here.machine.shards and here.machine.shards[0].local and here.engine.idle)
    send_early(log, commands)
    here.publish("order-in", ("s", 2), partition=1)
    here.deaf = of_topic(commands.topic)
    here.until(lambda: here.position(Partition("order-in", 1)) == 1)
    here.deaf = lambda _: False
    here.until(lambda: here.quiet and b"2" in (here.machine.shards[0].read(b"starget/c/seen") or b""))

    assert here.machine.shards[0].read(b"starget/c/seen") == b"[1,2]"
