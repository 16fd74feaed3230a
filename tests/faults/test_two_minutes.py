"""Kafka: two minutes of load on three brokers and three workers, all of them killed and frozen as a seed decides."""

from __future__ import annotations

import os
import random
import time

import pytest

from tests.conftest import ClusterFactory
from tests.faults import feed
from tests.faults.conftest import SHORT_SESSIONS, MakePlace
from tests.faults.feed import Feed
from tests.faults.schedule import BrokerVictim, Victim, WorkerVictim, carry_out, line_up
from tests.faults.settled import settled
from tests.faults.truth import Departure, Names, Tally, longest_silence_s, tally
from tests.faults.workers import until

pytestmark = pytest.mark.faults

LOAD_S = 120.0
PER_SECOND = 300
PARTITIONS = 6
BROKERS = (1, 2, 3)
FLAGS = ("--session-timeout", "2")


def test_two_minutes_of_kills_and_freezes(place: MakePlace, year: list[Departure], kafka_cluster: ClusterFactory) -> None:
    seed = int(os.environ.get("FAULTS_SEED", "0")) or random.randrange(1, 10**6)
    chance = random.Random(seed)
    cluster = kafka_cluster(brokers=len(BROKERS), properties=dict(SHORT_SESSIONS))
    here = place(cluster.bootstrap_servers, {"ODRADEK_EPOCH_EVENTS": "50"})
    here.note(f"seed {seed}")
    names = Names.of(here.app)
    log = here.open()
    feed.create(log, names, PARTITIONS)
    log.close()
    workers = [here.worker(name, *FLAGS).start() for name in ("a", "b", "c")]
    victims: dict[str, Victim] = {worker.name: WorkerVictim(worker) for worker in workers}
    tracks = [line_up(chance, [worker.name], 24.0, 6.0, LOAD_S) for worker in workers]
    # Brokers one at a time: with two of three gone nothing can be written, which is Kafka's affair.
    tracks.append(line_up(chance, [f"broker {number}" for number in BROKERS], 12.0, 8.0, LOAD_S))
    victims |= {f"broker {number}": BrokerVictim(cluster, number, here) for number in BROKERS}
    for track in tracks:
        here.note("; ".join(str(fault) for fault in track))
    until(lambda: all(worker.shards() for worker in workers), "shards at each of three workers", every_s=0.1)

    began = time.monotonic()
    flow = Feed(here.open, names.input, year, PER_SECOND)
    done = carry_out(tracks, victims, lambda: time.monotonic() > began + LOAD_S)
    time.sleep(max(0.0, began + LOAD_S - time.monotonic()))
    sent = flow.stop()
    load_s = time.monotonic() - began
    settled(here, workers, names, year[:sent])

    log = here.open()
    counted = tally(log, names, year[:sent])
    silence_s = longest_silence_s(log, names)
    log.close()
    print(
        f"seed {seed}: {done} of {sum(len(track) for track in tracks)} faults in {load_s:.0f} s, {sent} flights: {counted}; "
        f"longest silence of a partition {silence_s:.1f} s"
    )
    assert counted == Tally(0, 0, 0, 0)
    assert done >= 10, "too few faults to prove anything"
