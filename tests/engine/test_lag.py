"""Lag: in records and in seconds, of what waits in memory, of what is not read while the inputs are paused, and of nothing."""

import threading
from collections.abc import Iterable

from odradek import App, Context
from odradek_runtime.log.port import Output, Partition
from odradek_runtime.worker.upkeep import lag
from odradek_runtime.worker.worker import Worker
from tests.engine.harness import Rig

HOUR_S = 3600.0
PARTITIONS = 20


def make_app(held: threading.Event) -> App:
    app = App("lag", shards=PARTITIONS)
    numbers = app.topic("numbers", value=int)

    @app.on(numbers)
    async def works(ctx: Context, n: int) -> None:
        await ctx.run(held.wait, 60, name="held")

    assert callable(works)
    return app


def seconds(worker: Worker) -> dict[int, float]:
    """Of each partition of the input."""
    found = worker.snapshot().get("lag_seconds", {})
    return {partition: age_s for (topic, partition), age_s in found.items() if topic == "numbers"}


def write(rig: Rig, partitions: Iterable[int], age_s: float) -> None:
    """One record into each, all at once."""
    numbers = list(partitions)
    publisher = rig.log.publisher(f"{numbers}-{age_s}")
    publisher.publish([Output("numbers", n, b"k", b"1", None, int(rig.clock() - age_s * 1000)) for n in numbers], len(numbers))
    publisher.close()


def test_the_age_of_the_oldest_record_that_is_not_processed(rig: Rig) -> None:
    held = threading.Event()
    worker = rig.start(make_app(held), steps_queued=4, topics_watch_s=0.2)
    rig.until(lambda: seconds(worker) == dict.fromkeys(range(PARTITIONS), 0.0))
    write(rig, range(8), 0)  # one batch: the inputs pause behind it, not within it
    rig.until(lambda: worker.snapshot().get("inputs_paused"))
    rig.settled(worker.app)
    scans = dict(rig.log.scanned)

    for partition in range(PARTITIONS):
        write(rig, [partition], (partition + 1) * HOUR_S)
        write(rig, [partition], 0)
    rig.until(lambda: all(seconds(worker).get(n, 0.0) >= (n + 1) * HOUR_S for n in range(PARTITIONS)))
    assert all(seconds(worker)[n] < (n + 1) * HOUR_S + 600 for n in range(PARTITIONS))
    lag_records = worker.snapshot().get("lag_records", {})
    assert {lag_records["numbers", n] for n in range(PARTITIONS)} == {2}
    assert rig.log.scanned == scans

    held.set()
    rig.settled(worker.app)
    rig.until(lambda: seconds(worker) == dict.fromkeys(range(PARTITIONS), 0.0))


def test_the_log_is_asked_for_few_partitions_a_round_and_once_for_each(rig: Rig) -> None:
    held = threading.Event()
    worker = rig.start(make_app(held), steps_queued=4, topics_watch_s=0.2)
    write(rig, range(8), 0)  # one batch: the inputs pause behind it, not within it
    rig.until(lambda: worker.snapshot().get("inputs_paused"))
    rig.settled(worker.app)
    rig.until(lambda: seconds(worker) == dict.fromkeys(range(PARTITIONS), 0.0))
    rig.log.timed.clear()
    write(rig, range(PARTITIONS), HOUR_S)
    rig.until(lambda: len([age_s for age_s in seconds(worker).values() if age_s >= HOUR_S]) == PARTITIONS)
    asked = [sorted(partitions) for partitions in rig.log.timed]
    assert max(map(len, asked)) <= lag.ASKED
    assert sorted(partition for partitions in asked for partition in partitions) == [
        Partition("numbers", number) for number in range(PARTITIONS)
    ]
    held.set()
