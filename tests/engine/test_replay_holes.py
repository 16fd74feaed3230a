"""Replays over ranges with holes on the embedded log: compacted, deleted before or meanwhile. What is missing is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from odradek_runtime.core.records.formats import Command
from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.port import Partition
from odradek_runtime.recovery.replay_report import ReplayReport, reports
from tests.engine.harness import Rig
from tests.engine.keeper import RECORDS, SHARDS, ended, fed, give, keeper, notes, order, rows

COMPACTED = {"cleanup.policy": "compact,delete", "retention.ms": "-1", "min.compaction.lag.ms": "0"}
FIRST = Partition("entries", 0)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(EmbeddedLog(tmp_path / "log", fsync=False, clean_interval_s=0), tmp_path, 1)
    made.log.create_topic("entries", 3, {})
    yield made
    made.close()


def report(rig: Rig) -> ReplayReport:
    (found,) = reports(rows(rig))
    return found


def delivered(rig: Rig) -> int:
    """Records of the first partition, so far."""
    return sum(part.records for each in reports(rows(rig)) for part in each.parts if part.partition == 0)


def counts(rig: Rig) -> list[tuple[int, int, int]]:
    """Of each partition: records delivered, offsets deleted, offsets without a record."""
    return [(part.records, part.gone, part.empty) for part in report(rig).parts]


def test_a_range_that_is_compacted_is_delivered_as_far_as_it_is_there(rig: Rig) -> None:
    rig.log.delete_topic("entries")
    rig.log.create_topic("entries", 3, COMPACTED)
    rig.start(keeper())
    fed(rig)
    rig.until(lambda: len(notes(rig, None)) == RECORDS)
    while rig.log.inner.clean():
        pass
    rig.log.trim(FIRST, 10)
    left = [len(list(rig.partition("entries", number))) for number in range(3)]
    assert left == [7, 7, 7], "one of each key"
    order(rig, "holes", first=0)
    rig.until(lambda: ended(rig, "holes"))
    assert counts(rig) == [(7, 10, 3), (7, 0, 13), (7, 0, 13)]
    assert report(rig).offsets == (RECORDS, RECORDS)
    there = [((message.key() or b"").decode(), int(message.value() or b"")) for message in rig.records("entries")]
    assert Counter(notes(rig, "holes")) == Counter(there)


@pytest.mark.parametrize("crash", [False, True])
def test_what_was_gone_is_still_known_after_a_restart_in_the_middle(rig: Rig, crash: bool) -> None:
    rig.start(keeper())
    fed(rig)
    rig.until(lambda: len(notes(rig, None)) == RECORDS)
    rig.log.trim(FIRST, 5)
    order(rig, "late", first=0, rate=20.0)
    rig.until(lambda: delivered(rig) > 2)
    rig.restart(keeper(), crash=crash)
    rig.until(lambda: ended(rig, "late"))
    assert counts(rig) == [(15, 5, 0), (20, 0, 0), (20, 0, 0)]


def test_what_is_deleted_while_it_runs_is_counted(rig: Rig) -> None:
    rig.start(keeper())
    fed(rig)
    rig.until(lambda: len(notes(rig, None)) == RECORDS)
    order(rig, "slow", rate=20.0)
    rig.until(lambda: delivered(rig) > 2)
    rig.stop()
    rig.log.trim(FIRST, 18)
    rig.start(keeper())
    rig.until(lambda: ended(rig, "slow"))
    found, *others = counts(rig)
    assert found[0] + found[1] == 20 and found[1] > 2, "of twenty offsets each was delivered or is gone"
    assert others == [(20, 0, 0), (20, 0, 0)]
    assert len(notes(rig, "slow")) == found[0] + 40


def test_one_that_is_cancelled_says_what_was_gone(rig: Rig) -> None:
    rig.start(keeper())
    fed(rig)
    rig.until(lambda: len(notes(rig, None)) == RECORDS)
    rig.log.trim(FIRST, 5)
    order(rig, "late", first=0, rate=5.0)
    rig.until(lambda: delivered(rig) > 0)
    for shard in range(SHARDS):
        give(rig, Command(kind="cancel_replay", id="late"), shard)
    rig.until(lambda: ended(rig, "late"))
    (records, gone, empty), *_ = counts(rig)
    assert 0 < records < 15 and (gone, empty) == (5, 0)
