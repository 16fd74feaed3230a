"""What the simulation has found, each as the shortest way to see it (`test_simulation.FOUND` has seeds for the rest)."""

import pytest

from odradek import App, ObjectContext
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.core.handler_loop import handler_loop
from odradek_runtime.core.machine import Machine
from odradek_runtime.core.metrics import Metrics
from odradek_runtime.core.records.formats import COMMAND, Command, StorePosition
from odradek_runtime.core.shard import Shard
from odradek_runtime.core.topics.targets import Targets
from odradek_runtime.log.port import LogError, Output, Partition
from odradek_runtime.log.simulated import SimulatedLog
from odradek_runtime.log.simulated.brokers import Brokers
from odradek_runtime.log.simulated.partition import SimulatedMessage
from odradek_runtime.log.simulated.scheduler import Scheduler
from odradek_runtime.routing import shard_of
from odradek_runtime.store.store import MemoryStore
from odradek_runtime.store.store_folder import MemoryStores
from odradek_runtime.worker.restore.progress import Progress
from odradek_runtime.worker.restore.takeover import Takeover

HOUR_MS = 3_600_000.0


def cluster() -> SimulatedLog:
    """A log without faults, with the topics of the app `found`."""
    log = SimulatedLog(Brokers(Scheduler(0, 0.0)))
    for name, config in (("commands", {}), ("journal", {"cleanup.policy": "compact"}), ("state", {"cleanup.policy": "compact"})):
        log.create_topic(f"found.{name}", 1, config)
    return log


def test_a_barrier_that_was_asked_for_earlier_does_not_vouch_for_a_later_one() -> None:
    machine = Machine(App("found", shards=1), 1, Settings(), Targets(cluster(), max_record_bytes=1_000), Metrics(), handler_loop())
    shard = machine.shards[0] = Shard(0, 1, 1, 0, MemoryStore(), StorePosition("", "", 0, 0, 0))
    barriers: list[str] = []
    for _ in range(2):
        machine.outward.request_barrier(shard)
        machine.close()
        barriers.append(shard.barrier)
    machine.outward.request_barrier(shard)

    def read_back(barrier: str) -> bool:
        output = Output("found.commands", 0, None, COMMAND.encode(Command(kind="barrier", id=barrier)))
        machine.command(shard, SimulatedMessage(Partition("found.commands", 0), 0, output, 0, None))
        return shard.local

    assert not any(read_back(barrier) for barrier in barriers)
    machine.close()
    assert read_back(shard.barrier)


def test_a_store_is_as_old_as_the_question_where_its_changelogs_end() -> None:
    log = cluster()
    asked = log.offsets

    def slow(partition: Partition) -> tuple[int, int]:
        ends = asked(partition)
        log.brokers.scheduler.now_ms += HOUR_MS
        return ends

    log.offsets = slow  # type: ignore[method-assign]
    takeover = Takeover("found", 1, log, log.member("found", 1, None), [], MemoryStores())

    shard = takeover.run(0, 1, lambda: log.brokers.scheduler.now_ms, Progress())

    assert log.brokers.scheduler.now_ms >= HOUR_MS
    assert shard.at.time_ms == 0


def test_a_forwarded_record_is_of_the_topic_that_its_reader_knew() -> None:
    """Whatever its key's shard knows when it comes, or comes again: made again, the topic has another record at that offset."""
    app = App("found", shards=2)
    seen: list[str] = []

    @app.object("some").on(app.topic("in", value=int))
    async def see(ctx: ObjectContext, _: int) -> None:
        seen.append(str(ctx.uuid()))  # follows from the id

    machine = Machine(app, 2, Settings(), Targets(cluster(), max_record_bytes=1_000), Metrics(), handler_loop())
    reader, home = (Shard(number, 1, 1, 0, MemoryStore(), StorePosition("", "", 0, 0, 0)) for number in range(2))
    machine.shards.update({0: reader, 1: home})
    key = next(key for key in (b"a", b"b", b"c", b"d") if shard_of(key, 2) == 1)
    for read in ("old", "new"):
        reader.topic_ids["in"] = read
        machine.record(reader, SimulatedMessage(Partition("in", 0), 0, Output("in", 0, key, b"1"), 0, None))
        (command,) = map(Output._make, machine.epoch.outputs)
        for known in ("old", "new"):
            home.topic_ids["in"] = known
            machine.command(home, SimulatedMessage(Partition("found.commands", 1), 0, command, 0, None))
        machine.close()

    old, old_again, new, new_again = seen
    assert (old, new) == (old_again, new_again)
    assert old != new


def take_over(log: SimulatedLog) -> Shard:
    """Of the one shard, by an app that reads `in`."""
    app = App("found", shards=1)

    @app.object("some").on(app.topic("in", value=int))
    async def see(ctx: ObjectContext, _: int) -> None: ...

    takeover = Takeover("found", 1, log, log.member("found", 1, None), app.subscriptions(), MemoryStores())
    return takeover.run(0, 1, lambda: log.brokers.scheduler.now_ms, Progress())


@pytest.mark.parametrize("absent", [False, True])
def test_an_input_made_again_amid_a_take_over_gets_no_position_under_its_old_id(absent: bool) -> None:
    """It would be read on from there, and from its beginning once somebody notices: what came meanwhile twice."""
    log = cluster()
    old = log.create_topic("in", 1, {})
    asked = log.offsets

    def made_again_just_before(partition: Partition) -> tuple[int, int]:
        if partition.topic == "in" and (known := log.topic("in")) is not None and known.id == old.id:
            log.brokers.make_anew("in")
            if absent:
                raise LogError("in[0]: there is no such partition", retriable=False)
        return asked(partition)

    log.offsets = made_again_just_before  # type: ignore[method-assign]

    with pytest.raises(LogError, match="in was made again") as refused:
        take_over(log)
    shard = take_over(log)

    new = log.topic("in")
    assert refused.value.retriable
    assert new is not None
    assert shard.topic_ids["in"] == new.id != old.id
    assert shard.positions[Partition("in", 0)] == 0


def test_a_partition_that_is_not_there_ends_the_worker_if_nobody_made_its_topic_again() -> None:
    log = cluster()
    log.create_topic("in", 1, {})
    asked = log.offsets

    def absent(partition: Partition) -> tuple[int, int]:
        if partition.topic == "in":
            raise LogError("in[0]: there is no such partition", retriable=False)
        return asked(partition)

    log.offsets = absent  # type: ignore[method-assign]

    with pytest.raises(LogError, match="no such partition") as refused:
        take_over(log)

    assert not refused.value.retriable
