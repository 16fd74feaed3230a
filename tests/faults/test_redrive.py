"""A year's dead letters sent back after a fix, by workers that are restarted one after the other, and one that is killed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from odradek_runtime.log.port import Output, Partition
from tests.faults import feed
from tests.faults.conftest import PARTITIONS, MakePlace
from tests.faults.test_replay import ask, report
from tests.faults.truth import Departure, Names
from tests.faults.workers import count, until
from tests.records import committed

pytestmark = pytest.mark.faults


def test_the_years_dead_letters_after_a_fix_under_rolling_restarts(place: MakePlace, year: list[Departure], tmp_path: Path) -> None:
    """The flights without an aircraft, 2,512 in the year, sent under one: refused until the fix is deployed."""
    fixed = tmp_path / "fixed"
    here = place("kafka", {"FAULTS_FIXED": str(fixed), "ODRADEK_EPOCH_EVENTS": "25"})
    names = Names.of(here.app)
    lost = [row for row in year if not row.tail]
    letters = f"{here.app}.dead-letters"
    log = here.open()
    feed.create(log, names, PARTITIONS)
    publisher = log.publisher("lost")
    refused = [row._replace(late=-1) for row in lost]
    publisher.publish([Output(names.input, None, b"t%d" % (n % 97), row.value) for n, row in enumerate(refused)], 1)
    publisher.close()
    workers = [here.worker(name, "--session-timeout", "1").start() for name in ("one", "two")]
    until(lambda: count(log, letters) == len(lost), "a dead letter for each", every_s=0.2)
    fixed.touch()
    parts = [
        {"partition": n, "first": 0, "stop": log.offsets(Partition(letters, n))[1]}
        for n in range(PARTITIONS)
    ]
    order = {"id": "after-the-fix", "topic": letters, "parts": parts, "rate": 80}
    assert ask(workers[0], "POST", "/replays", order)["new"]
    for worker in workers:
        until(lambda: count(log, names.output) > 0, "the first")
        worker.stop()
        worker.start()
        worker.wait_ready()
    workers[0].kill()
    assert report(workers[1])["status"] == "running", "it was through before the kill: that proves little"
    until(lambda: report(workers[1])["status"] == "done", "the end", every_s=0.2)
    told = report(workers[1])
    assert [told[name] for name in ("started", "ended_well", "dead_letters")] == [len(lost), len(lost), 0]
    arrived = Counter(json.loads(message.value() or b"null")["flight"] for message in committed(log, names.output))
    assert arrived == Counter(row.name for row in lost)
    log.close()
