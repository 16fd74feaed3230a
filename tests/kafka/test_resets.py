"""Positions moved on a real Kafka: of an app that stands still, and of one that runs."""

import logging
from collections import Counter

import pytest

from odradek_runtime.log.port import LogError, Partition
from odradek_runtime.recovery.clearing import objects_in
from odradek_runtime.recovery.orders import give
from odradek_runtime.recovery.repositioning import reposition
from odradek_runtime.recovery.reset_plan import Carried, Move, plan
from tests.contract.station import values
from tests.kafka.life import RECORDS, Life
from tests.kafka.raw import eventually

BY = "ann@laptop"


def everything_again(life: Life) -> list[Move]:
    return plan(life.log, life.prefix, life.entries, None, lambda log, partition: log.offsets(partition)[0])


def positions(life: Life) -> dict[Partition, int]:
    entries = [Partition(life.entries, number) for number in (0, 1)]
    return dict(life.log.committed_offsets(life.prefix, entries))


def test_an_app_that_stands_still_reads_all_of_it_again(life: Life, caplog: pytest.LogCaptureFixture) -> None:
    life.run_once()
    before = positions(life)
    caplog.set_level(logging.WARNING, "odradek")
    reposition(life.log, life.prefix, "reset-a", everything_again(life), BY)
    assert positions(life) == dict.fromkeys(before, 0)
    worker = life.begin()
    eventually(lambda: life.counted() == 2 * RECORDS)
    life.feed(RECORDS)
    eventually(lambda: life.counted() == 3 * RECORDS)
    assert worker.failed is None
    assert not [message for message in caplog.messages if "somebody else" in message]
    with pytest.raises(LogError, match="workers of the app"):
        reposition(life.log, life.prefix, "reset-b", everything_again(life), BY)


def test_what_is_read_again_counts_from_the_beginning_where_state_is_cleared(life: Life) -> None:
    life.run_once()
    first = Counter(values(life.log, Partition(life.counts, 0)))
    reposition(life.log, life.prefix, "reset-a", everything_again(life), BY, cleared=["account"])
    assert objects_in(life.log, life.prefix).total() == 0
    life.begin()
    eventually(lambda: life.counted() == 2 * RECORDS)
    assert Counter(values(life.log, Partition(life.counts, 0))) == first + first


def test_an_app_that_runs_goes_where_it_is_told_without_a_restart(life: Life) -> None:
    worker = life.begin()
    life.feed()
    eventually(lambda: life.counted() == RECORDS)
    for id_, times in (("reset-a", 2), ("reset-b", 3)):
        moves = everything_again(life)
        orders = [move.order(id_, BY) for move in moves]
        assert give(life.log, life.prefix, id_, orders)
        assert not give(life.log, life.prefix, id_, orders)
        carried = Carried(life.log, life.prefix, id_, moves)
        eventually(carried.done)
        eventually(lambda times=times: life.counted() == times * RECORDS)
    life.feed(RECORDS)
    eventually(lambda: life.counted() == 4 * RECORDS)
    assert worker.failed is None
    eventually(lambda: {move.partition: move.end for move in everything_again(life)} == positions(life))
