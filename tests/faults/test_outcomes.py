"""Kafka: a transaction whose outcome nobody knows, and brokers that die. The workers go on by themselves, totals equal."""

from __future__ import annotations

import pytest

from tests.broker import END_TXN, HeldFrame, KafkaCluster
from tests.conftest import ClusterFactory
from tests.faults import feed
from tests.faults.conftest import PARTITIONS, MakePlace
from tests.faults.feed import Feed
from tests.faults.settled import settled
from tests.faults.truth import Departure, Names, longest_silence_s
from tests.faults.workers import Gauge, Place, until

pytestmark = pytest.mark.faults

SMALL_EPOCHS = {"ODRADEK_EPOCH_EVENTS": "50"}


def test_a_broker_killed_in_the_commit(place: MakePlace, year: list[Departure], kafka_cluster: ClusterFactory) -> None:
    """The request to commit is on its way, or arrived and unanswered, when the broker dies, twice each."""
    cluster = kafka_cluster(proxied=True)
    here, names = _made(place, cluster)
    worker = here.worker("w").start()
    worker.wait_ready(PARTITIONS)
    flow = Feed(here.open, names.input, year, 500)
    gauge = Gauge(here, [names.output])
    for arrives in (True, False) * 2:
        _progress(gauge, 300)
        caught = cluster.proxies[1].lose_answer(END_TXN) if arrives else cluster.proxies[1].hold(END_TXN)
        caught.wait()
        cluster.kill(1)
        here.note(f"broker killed in a commit that {'arrived' if arrives else 'did not arrive'}")
        gauge.close()
        cluster.restart(1)
        here.note("broker back")
    _progress(gauge, 300)
    sent = flow.stop()
    gauge.close()
    settled(here, [worker], names, year[:sent])


def test_a_commit_request_that_arrives_late(place: MakePlace, year: list[Departure], kafka_cluster: ClusterFactory) -> None:
    """Held back by the network, delivered when the worker has long gone on: it must not end a later transaction."""
    cluster = kafka_cluster(proxied=True)
    here, names = _made(place, cluster)
    worker = here.worker("w").start()
    worker.wait_ready(PARTITIONS)
    flow = Feed(here.open, names.input, year, 500)
    gauge = Gauge(here, [names.output])
    for _ in range(8):
        _progress(gauge, 200)
        held: HeldFrame = cluster.proxies[1].hold(END_TXN)
        held.wait()
        here.note("a commit is held back")
        _progress(gauge, 300)
        held.deliver()
        here.note("and delivered late")
    sent = flow.stop()
    gauge.close()
    settled(here, [worker], names, year[:sent])


def test_a_network_that_cuts_connections(place: MakePlace, year: list[Departure], kafka_cluster: ClusterFactory) -> None:
    """Every connection cut at once, and a minute's worth of silence in small pieces, while the load goes on."""
    cluster = kafka_cluster(proxied=True)
    here, names = _made(place, cluster)
    worker = here.worker("w").start()
    worker.wait_ready(PARTITIONS)
    flow = Feed(here.open, names.input, year, 500)
    gauge = Gauge(here, [names.output])
    proxy = cluster.proxies[1]
    for _ in range(10):
        _progress(gauge, 200)
        here.note(f"{proxy.cut()} connections cut")
    for _ in range(3):
        _progress(gauge, 200)
        proxy.blackhole()
        here.note("nothing passes")
        until(lambda began=flow.published: flow.published > began + 1_000, "two seconds of load")
        proxy.heal()
    sent = flow.stop()
    gauge.close()
    settled(here, [worker], names, year[:sent])


def test_one_of_three_brokers_dies_and_comes_back(place: MakePlace, year: list[Departure], kafka_cluster: ClusterFactory) -> None:
    cluster = kafka_cluster(brokers=3)
    here = place(cluster.bootstrap_servers, SMALL_EPOCHS)
    names = Names.of(here.app)
    log = here.open()
    feed.create(log, names, PARTITIONS)
    log.close()
    workers = [here.worker("a").start(), here.worker("b").start()]
    until(lambda: all(len(w.shards() or []) == PARTITIONS // 2 for w in workers), "two shards at each of two workers", every_s=0.1)
    flow = Feed(here.open, names.input, year, 400)
    gauge = Gauge(here, [names.output])
    for broker in (1, 2, 3):
        _progress(gauge, 300)
        cluster.kill(broker)
        here.note(f"broker {broker} killed")
        _progress(gauge, 1_000)
        cluster.restart(broker)
        here.note(f"broker {broker} back")
    _progress(gauge, 500)
    sent = flow.stop()
    gauge.close()
    settled(here, workers, names, year[:sent])
    log = here.open()
    print(f"three brokers killed in turn: longest silence of a partition {longest_silence_s(log, names):.1f} s")
    log.close()


def _made(place: MakePlace, cluster: KafkaCluster) -> tuple[Place, Names]:
    """The feed and the auditor go straight to the broker, the worker through the proxy."""
    here = place(cluster.bootstrap_servers, SMALL_EPOCHS)
    here.worker_servers = cluster.proxied_bootstrap_servers
    names = Names.of(here.app)
    log = here.open()
    feed.create(log, names, PARTITIONS)
    log.close()
    return here, names


def _progress(gauge: Gauge, offsets: int) -> None:
    start = gauge.read()
    until(lambda: gauge.read() >= start + offsets, f"{offsets} more outputs than {start}", every_s=0.05)
