"""Inputs that do not fit the shards: another partitioner, another partition count. Everything is forwarded, in order."""

from __future__ import annotations

import random
import zlib

import pytest

from tests.faults import feed
from tests.faults.conftest import MakePlace
from tests.faults.settled import settled
from tests.faults.truth import Departure, Names
from tests.faults.workers import Gauge, until

pytestmark = pytest.mark.faults

PARTITIONS = 7
SHARDS = 4
FLIGHTS = 20_000
KILLS = 4


def by_crc32(row: Departure) -> int:
    """As librdkafka's default partitioner does, which is not Java's."""
    return zlib.crc32(row.tail.encode()) % PARTITIONS if row.tail else 0


@pytest.mark.parametrize("where", ["embedded", "kafka"])
def test_foreign_partitions_are_forwarded_in_order_past_kills(where: str, place: MakePlace, year: list[Departure]) -> None:
    here = place(where, {"FAULTS_SHARDS": str(SHARDS), "ODRADEK_EPOCH_EVENTS": "100"})
    names, rows = Names.of(here.app), year[:FLIGHTS]
    quick = ["--session-timeout", "1"] if where == "kafka" else []
    chance = random.Random(7)
    worker = here.worker("w", *quick)
    # On Kafka a second worker owns half of the shards: there is forwarding within a worker and between two.
    others = [here.worker("other", *quick)] if where == "kafka" else []
    log = here.open()
    feed.create(log, names, PARTITIONS)
    log.close()
    gauge = Gauge(here, [names.output])
    for other in others:
        other.start()
    for number in range(1, KILLS + 1):
        if where == "kafka" or number == 1:
            log = here.open()
            feed.publish(log, names.input, rows[: len(rows) * number // KILLS if others else None], by_crc32)
            log.close()
        worker.start()
        goal = gauge.read() + chance.uniform(100, FLIGHTS / KILLS / 2)
        until(lambda goal=goal: gauge.read() >= goal, f"progress before kill {number}", every_s=0.002)
        gauge.close()
        worker.kill()
        here.note(f"kill {number} at {gauge.last:,}")
    worker.start()
    settled(here, [worker, *others], names, rows)
