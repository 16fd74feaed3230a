"""SIGKILL at random moments, thirty times, under load: every flight counted once, one output each, in order, no step twice."""

from __future__ import annotations

import os
import random
import time
from collections import defaultdict
from pathlib import Path

import pytest

from tests.faults import feed
from tests.faults.conftest import PARTITIONS, MakePlace
from tests.faults.settled import settled
from tests.faults.truth import Departure, Names, tickets
from tests.faults.workers import Gauge, Place, Worker, until

pytestmark = pytest.mark.faults

KILLS = 30
FLIGHTS = 60_000
SMALL_EPOCHS = {"ODRADEK_EPOCH_EVENTS": "25"}
"""Many commits between two kills, so that they fall everywhere in an epoch's life."""


@pytest.mark.parametrize("where", ["embedded", "kafka"])
def test_thirty_kills_under_load(where: str, place: MakePlace, year: list[Departure]) -> None:
    seed = int(os.environ.get("FAULTS_SEED", "0")) or random.randrange(1, 10**6)
    here = place(where, SMALL_EPOCHS)
    runs = here.folder / "runs"
    here.env["FAULTS_RUNS"] = str(runs)
    names, rows = Names.of(here.app), year[:FLIGHTS]
    here.note(f"seed {seed}: FAULTS_SEED={seed} repeats the choices")
    worker = here.worker("w", *(["--session-timeout", "1"] if where == "kafka" else []))
    log = here.open()
    feed.create(log, names, PARTITIONS)
    log.close()
    began = time.monotonic()
    under_load = _kill_all_along(here, worker, names, rows, random.Random(seed))
    worker.start()
    settled(here, [worker], names, rows)
    took_s = time.monotonic() - began
    repeated = _runs_of_steps(here, names, runs)
    print(
        f"{where}: {KILLS} kills survived in {took_s:.0f} s, {len(rows) / took_s:,.0f} flights/s with restarts, "
        f"{under_load} kills between two commits of the load, {repeated} steps run again, seed {seed}"
    )
    assert under_load >= KILLS // 3, "the worker was through too often before it was killed: that proves little"


def _runs_of_steps(here: Place, names: Names, runs: Path) -> int:
    """A step runs again only if the crash fell between its start and its commit: what is recorded is its last run."""
    lives: dict[str, list[str]] = defaultdict(list)
    last: dict[str, str] = {}
    for line in runs.read_text().splitlines():
        life, flight, last[flight] = line.split(",")
        lives[flight].append(life)
    twice = [flight for flight, own in lives.items() if len(set(own)) < len(own)]
    assert not twice, f"steps that ran twice in one life of the worker: {twice[:3]}"
    log = here.open()
    recorded = tickets(log, names)
    log.close()
    late = [flight for flight, ticket in recorded.items() if last[flight] != ticket]
    assert not late, f"steps that ran again after their result was recorded: {late[:3]}"
    return sum(len(own) - 1 for own in lives.values())


def _kill_all_along(here: Place, worker: Worker, names: Names, rows: list[Departure], chance: random.Random) -> int:
    """Each life gets a share of the year. Most end when some of it is done, a fifth at any moment of the start."""
    gauge = Gauge(here, [names.output, f"{names.app}.dead-letters"])
    share = len(rows) // (KILLS + 1)
    under_load = 0
    for number in range(1, KILLS + 1):
        log = here.open()
        feed.publish(log, names.input, rows[: number * share])
        log.close()
        worker.start()
        before = gauge.read()
        if chance.random() < 0.2:
            time.sleep(chance.uniform(0.2, 4.0))
        else:
            wanted = before + chance.uniform(0.0, 0.5) * share
            until(lambda wanted=wanted: gauge.read() > wanted, f"progress to {wanted:,.0f} before kill {number}", every_s=0.001)
        worker.kill()
        under_load += gauge.last < number * share
        here.note(f"kill {number} at about {gauge.last:,} of {number * share:,}")
        gauge.close()
    log = here.open()
    feed.publish(log, names.input, rows)
    log.close()
    return under_load
