"""Kafka: workers that freeze, die, join and go home under load. Totals equal, per-key order kept, one writer per shard."""

from __future__ import annotations

import os
import random
import time

import pytest

from odradek_runtime.log.port import Log
from tests.faults import feed
from tests.faults.conftest import PARTITIONS, MakePlace
from tests.faults.feed import Feed
from tests.faults.settled import settled
from tests.faults.truth import Departure, Names, longest_silence_s
from tests.faults.workers import Gauge, Place, Worker, until

pytestmark = pytest.mark.faults

SMALL_EPOCHS = {"ODRADEK_EPOCH_EVENTS": "50"}
SESSION_S = 6.0
"""The default: a silent worker counts as dead after it."""
QUICK = ("--session-timeout", "2")


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_frozen_worker_commits_nothing_when_it_wakes(protocol: str, place: MakePlace, year: list[Departure]) -> None:
    here, names, log = _made(place)
    # The consumer protocol takes its session timeout from the broker, two seconds here as well.
    flags = ("--group-protocol", protocol, *(QUICK if protocol == "classic" else ()))
    a, b = here.worker("a", *flags), here.worker("b", *flags)
    _both_own(a.start(), b.start())
    flow = Feed(here.open, names.input, year, 1_000)
    gauge = Gauge(here, [names.output])
    for frozen, other in ((a, b), (b, a), (a, b)):
        _progress(gauge, 500)
        frozen.freeze()
        moved_s = _all_at(other)
        here.note(f"all shards moved to {other.name} in {moved_s:.1f} s")
        _progress(gauge, 500)
        frozen.thaw()
        back_s = until(lambda: _owned(log, here.app) == [PARTITIONS // 2] * 2, f"{frozen.name} back as a member")
        _both_own(a, b)
        here.note(f"{frozen.name} is a member again after {back_s:.1f} s")
    sent = flow.stop()
    gauge.close()
    log.close()
    settled(here, [a, b], names, year[:sent])


def test_three_workers_join_and_leave_under_load(place: MakePlace, year: list[Departure]) -> None:
    seed = int(os.environ.get("FAULTS_SEED", "0")) or random.randrange(1, 10**6)
    chance = random.Random(seed)
    here, names, log = _made(place)
    here.note(f"seed {seed}")
    workers = [here.worker(name, *QUICK) for name in ("a", "b", "c")]
    for worker in workers:
        worker.start()
    flow = Feed(here.open, names.input, year, 600)
    gauge = Gauge(here, [names.output])
    joined = left = killed = 0
    for _ in range(14):
        _progress(gauge, 200)
        time.sleep(chance.uniform(0.0, 3.0))
        worker = chance.choice(workers)
        others = [other for other in workers if other is not worker and other.running]
        if not worker.running:
            worker.start()
            joined += 1
        elif not others or chance.random() < 0.5:
            worker.kill()
            killed += 1
        else:
            worker.stop()
            left += 1
        if not any(one.running for one in workers):
            worker.start()
    for worker in workers:
        if not worker.running:
            worker.start()
    sent = flow.stop()
    gauge.close()
    log.close()
    settled(here, workers, names, year[:sent])
    print(f"{joined} joined, {left} left, {killed} killed")


def test_a_kill_costs_one_session_at_the_default_settings(place: MakePlace, year: list[Departure]) -> None:
    here, names, log = _made(place)
    a, b = here.worker("a"), here.worker("b")
    _both_own(a.start(), b.start())
    flow = Feed(here.open, names.input, year, 400)
    gauge = Gauge(here, [names.output])
    _progress(gauge, 500)
    a.kill()
    moved_s = _all_at(b)
    _progress(gauge, 1_000)
    sent = flow.stop()
    gauge.close()
    settled(here, [b], names, year[:sent])
    gap_s = longest_silence_s(log, names)
    log.close()
    print(f"takeover after kill -9: shards served {moved_s:.1f} s after it, longest silence of a partition {gap_s:.1f} s")
    assert gap_s < SESSION_S + 10.0, "a takeover takes its session timeout and little more"


def test_a_rolling_restart_waits_for_no_session_timeout(place: MakePlace, year: list[Departure]) -> None:
    here, names, log = _made(place)
    workers = [here.worker("a"), here.worker("b")]
    _both_own(*(worker.start() for worker in workers))
    flow = Feed(here.open, names.input, year, 400)
    gauge = Gauge(here, [names.output])
    handed_s: list[float] = []
    for worker, other in (workers, workers[::-1]):
        _progress(gauge, 500)
        stopped_s = worker.stop()
        handed_s.append(stopped_s + _all_at(other))
        _progress(gauge, 500)
        worker.start()
        until(lambda worker=worker: len(worker.shards() or []) == PARTITIONS // 2, f"{worker.name} back")
    _progress(gauge, 500)
    sent = flow.stop()
    gauge.close()
    settled(here, workers, names, year[:sent])
    gap_s = longest_silence_s(log, names)
    log.close()
    shown = ", ".join(f"{seconds:.1f} s" for seconds in handed_s)
    print(f"rolling restart: SIGTERM to served elsewhere {shown}; longest silence of a partition {gap_s:.2f} s")
    assert gap_s < SESSION_S - 1.0, "somebody waited for a session timeout"


def _made(place: MakePlace) -> tuple[Place, Names, Log]:
    here = place("kafka", SMALL_EPOCHS)
    names = Names.of(here.app)
    log = here.open()
    feed.create(log, names, PARTITIONS)
    return here, names, log


def _all_at(worker: Worker) -> float:
    """Seconds until it has restored every shard."""
    return until(lambda: len(worker.shards() or []) == PARTITIONS, f"all shards at {worker.name}")


def _both_own(a: Worker, b: Worker) -> None:
    half = PARTITIONS // 2
    until(lambda: len(a.shards() or []) == len(b.shards() or []) == half, "two shards at each of two workers", every_s=0.1)


def _owned(log: Log, app: str) -> list[int]:
    """How many shards each live member has, those without left out."""
    return sorted(len(peer.shards) for peer in log.peers(app) if peer.shards)


def _progress(gauge: Gauge, offsets: int) -> None:
    start = gauge.read()
    until(lambda: gauge.read() >= start + offsets, f"{offsets} more outputs than {start}")
