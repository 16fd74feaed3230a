"""An unknown outcome starts over, and a silent one is noticed: the coordinator's connection is cut in the middle of a commit.

Stands between a producer and its coordinator, where a request may arrive late.
"""

import time
from collections.abc import Callable

import pytest

from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.port import Committed, Log, Output, Partition, Refused
from tests.broker import END_TXN
from tests.conftest import ClusterFactory
from tests.contract.station import Station, values
from tests.kafka.conftest import make_app
from tests.kafka.raw import committed_values, eventually, transactional

Join = Callable[[Log, str], Station]
INIT_PRODUCER_ID = 22


def test_without_care_a_late_commit_tears_the_next_transaction(kafka_cluster: ClusterFactory, topic_prefix: str) -> None:
    """The experiment behind the rule: success is returned, and a first half becomes visible."""
    cluster = kafka_cluster(proxied=True)
    log = KafkaLog(cluster.bootstrap_servers)
    topic = log.create_topic(topic_prefix, 1, {}).name
    producer = transactional(cluster.proxied_bootstrap_servers, topic_prefix, linger_ms=0)
    held = cluster.proxies[1].hold(END_TXN)
    producer.begin_transaction()
    producer.produce(topic, b"first")
    producer.commit_transaction(20)  # no exception: it was sent again, silently

    producer.begin_transaction()
    producer.produce(topic, b"half")
    held.wait()
    eventually(lambda: log.offsets(Partition(topic, 0))[1] >= 3 and producer.poll(0) >= 0)
    held.deliver()

    eventually(lambda: b"half" in committed_values(cluster.bootstrap_servers, topic))
    log.close()


def test_a_silent_unknown_outcome_gets_a_new_producer(kafka_cluster: ClusterFactory, topic_prefix: str, join: Join) -> None:
    cluster = kafka_cluster(proxied=True)
    log = KafkaLog(cluster.proxied_bootstrap_servers)
    topic = log.create_topic(f"{topic_prefix}-out", 1, {}).name
    station = join(log, make_app(log, topic_prefix)).own({0, 1})

    def epoch(number: int) -> Committed:
        return station.committed(station.transaction([0, 1], [Output(topic, 0, b"k", b"%d" % number)]))

    for number in range(4):
        epoch(number)
    initialised = cluster.proxies[1].requests_seen(INIT_PRODUCER_ID)
    held = cluster.proxies[1].hold(END_TXN)
    epoch(4)
    assert held.caught
    for number in range(5, 8):
        epoch(number)
    held.deliver()
    for number in range(8, 16):
        epoch(number)

    assert cluster.proxies[1].requests_seen(INIT_PRODUCER_ID) > initialised
    assert values(log, Partition(topic, 0)) == [b"%d" % number for number in range(16)]
    station.leave()
    log.close()


def test_a_connection_lost_between_commits_costs_nothing(kafka_cluster: ClusterFactory, topic_prefix: str, join: Join) -> None:
    cluster = kafka_cluster(proxied=True)
    log = KafkaLog(cluster.proxied_bootstrap_servers)
    topic = log.create_topic(f"{topic_prefix}-out", 1, {}).name
    station = join(log, make_app(log, topic_prefix)).own({0, 1})

    for number in range(6):
        station.committed(station.transaction([0], [Output(topic, 0, b"k", b"%d" % number)]))
        assert cluster.proxies[1].cut() > 0

    eventually(lambda: values(log, Partition(topic, 0)) == [b"%d" % number for number in range(6)])
    station.leave()
    log.close()


@pytest.mark.faults
def test_connections_cut_at_random_lose_and_double_nothing(kafka_cluster: ClusterFactory, topic_prefix: str, join: Join) -> None:
    """Each epoch is sent again until it is known to be there: what is there, is there once and in order."""
    cluster = kafka_cluster(proxied=True)
    direct = KafkaLog(cluster.bootstrap_servers)
    log = KafkaLog(cluster.proxied_bootstrap_servers, transaction_timeout_s=3.0)
    topic = direct.create_topic(f"{topic_prefix}-out", 1, {}).name
    station = join(log, make_app(direct, topic_prefix)).own({0, 1})
    sent: list[bytes] = []
    began_at = time.monotonic()
    number = 0
    while time.monotonic() < began_at + 12 or (len(sent) <= 10 and time.monotonic() < began_at + 120):
        number += 1
        value = b"%d" % number
        station.own({0, 1})
        transaction = station.transaction([0, 1], [Output(topic, 0, b"k", value)])
        if number % 7 == 0:
            cluster.proxies[1].hold(END_TXN)
        elif number % 3 == 0:
            cluster.proxies[1].cut()
        event = station.commit(transaction)
        if isinstance(event, Committed):
            sent.append(value)
        else:
            assert not event.poison, event
            if event.reason == "unknown" and value in values(direct, Partition(topic, 0)):
                sent.append(value)

    assert len(sent) > 10
    assert committed_values(cluster.bootstrap_servers, topic) == sent
    station.leave()
    log.close()
    direct.close()


@pytest.mark.faults
def test_a_commit_nobody_answers_is_unknown_and_settled(kafka_cluster: ClusterFactory, topic_prefix: str, join: Join) -> None:
    cluster = kafka_cluster(proxied=True)
    direct = KafkaLog(cluster.bootstrap_servers)
    log = KafkaLog(cluster.proxied_bootstrap_servers, transaction_timeout_s=3.0, session_timeout_s=30.0)
    topic = direct.create_topic(f"{topic_prefix}-out", 1, {}).name
    station = join(log, make_app(direct, topic_prefix)).own({0, 1})
    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"before")]))
    transaction = station.transaction([0], [Output(topic, 0, b"k", b"unknown")])
    held = cluster.proxies[1].hold(END_TXN, then_silent=True)

    station.member.commit(transaction)
    held.wait()
    time.sleep(6)  # the outage itself: longer than the commit's own timeout
    cluster.proxies[1].heal()
    refused = station.wait(Refused)

    assert (refused.epoch, refused.reason) == (transaction.epoch, "unknown")
    # Settled means: what a reader sees now is final, whatever it is.
    seen = committed_values(cluster.bootstrap_servers, topic)
    assert seen in ([b"before"], [b"before", b"unknown"])
    held.deliver()
    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"after")]))
    assert committed_values(cluster.bootstrap_servers, topic) == [*seen, b"after"]
    station.leave()
    log.close()
    direct.close()
