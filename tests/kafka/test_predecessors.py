"""A publisher and the producers that it had before: none of them takes its name away, however late it acts.

Stands between a publisher and the transaction coordinator, which obeys a request to initialise whenever it arrives.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.kafka.producer import TransactionalProducer
from odradek_runtime.log.port import Log, LogError, Output, Partition
from tests.broker import KafkaCluster
from tests.conftest import ClusterFactory
from tests.contract.station import Station, values
from tests.kafka.conftest import make_app
from tests.kafka.raw import eventually

INIT_PRODUCER_ID = 22


def in_the_next_transaction(monkeypatch: pytest.MonkeyPatch, log: Log, written: Partition, happen: Callable[[], None]) -> None:
    """Let it happen when the next transaction has written to this partition, and see it aborted by that."""
    write_offsets: Callable[[TransactionalProducer], None] = TransactionalProducer.__dict__["_write_offsets"]
    before = log.offsets(written)[1]

    def write(producer: TransactionalProducer) -> None:
        monkeypatch.setattr(TransactionalProducer, "_write_offsets", write_offsets)
        write_offsets(producer)
        eventually(lambda: log.offsets(written)[1] == before + 1)
        happen()
        eventually(lambda: log.offsets(written)[1] == before + 2)  # the marker of its end
        write_offsets(producer)

    monkeypatch.setattr(TransactionalProducer, "_write_offsets", write)


def opened(cluster: KafkaCluster, topic_prefix: str) -> tuple[KafkaLog, Partition]:
    """A log and an empty topic of one partition; the coordinator is up, so that what is asked of it is asked once."""
    log = KafkaLog(cluster.proxied_bootstrap_servers, transaction_timeout_s=5.0, producer_processes=False)
    log.publisher(topic_prefix).close()
    return log, Partition(log.create_topic(topic_prefix, 1, {}).name, 0)


def test_a_producer_that_was_given_up_while_it_was_initialised_does_nothing_more(
    kafka_cluster: ClusterFactory, topic_prefix: str
) -> None:
    cluster = kafka_cluster(proxied=True)
    log, partition = opened(cluster, topic_prefix)
    asked = cluster.proxies[1].requests_seen(INIT_PRODUCER_ID)
    cluster.proxies[1].blackhole()
    with pytest.raises(LogError, match="cannot be reached") as unanswered:
        log.publisher(topic_prefix)
    cluster.proxies[1].heal()

    publisher = log.publisher(topic_prefix)
    for number in range(100):
        publisher.publish([Output(*partition, b"k", b"%d" % number)], number + 1)

    assert unanswered.tb is not None, "whoever handles an error keeps it, with all that its frames hold"
    assert cluster.proxies[1].requests_seen(INIT_PRODUCER_ID) == asked + 1
    publisher.close()
    log.close()


def test_a_publisher_goes_on_after_a_late_request_of_its_own(
    kafka_cluster: ClusterFactory, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = kafka_cluster(proxied=True)
    log, partition = opened(cluster, topic_prefix)
    held = cluster.proxies[1].hold(INIT_PRODUCER_ID)
    publisher = log.publisher(topic_prefix)
    publisher.publish([Output(*partition, b"k", b"a")], 1)
    eventually(lambda: log.offsets(partition) == (0, 2))

    in_the_next_transaction(monkeypatch, log, partition, held.deliver)
    with pytest.raises(LogError, match="fenced") as fenced:
        publisher.publish([Output(*partition, b"k", b"b")], 2)

    assert fenced.value.retriable
    assert publisher.position() == 1
    publisher.publish([Output(*partition, b"k", b"b")], 2)
    assert values(log, partition) == [b"a", b"b"]
    newer = log.publisher(topic_prefix)  # its one late request has come: a fence means another publisher again
    with pytest.raises(LogError, match="another one has taken this name over"):
        publisher.publish([Output(*partition, b"k", b"twice")], 3)
    for each in (newer, publisher):
        each.close()
    log.close()


def test_a_late_request_of_its_own_is_no_excuse_when_another_one_has_published(
    kafka_cluster: ClusterFactory, topic_prefix: str
) -> None:
    cluster = kafka_cluster(proxied=True)
    log, partition = opened(cluster, topic_prefix)
    cluster.proxies[1].hold(INIT_PRODUCER_ID)
    older = log.publisher(topic_prefix)
    older.publish([Output(*partition, b"k", b"a")], 1)
    newer = log.publisher(topic_prefix)
    newer.publish([Output(*partition, b"k", b"b"), Output(*partition, b"k", b"c")], 3)

    for _ in range(2):
        with pytest.raises(LogError, match="another one has taken this name over") as refused:
            older.publish([Output(*partition, b"k", b"twice")], 2)
        assert not refused.value.retriable
    with pytest.raises(LogError, match="another one has taken this name over"):
        older.position()

    assert values(log, partition) == [b"a", b"b", b"c"]
    for each in (newer, older):
        each.close()
    log.close()


def test_a_worker_that_is_fenced_by_its_own_late_request_starts_over(
    kafka_cluster: ClusterFactory, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = kafka_cluster(proxied=True)
    log, partition = opened(cluster, topic_prefix)
    app = make_app(log, f"{topic_prefix}-app")
    held = cluster.proxies[1].hold(INIT_PRODUCER_ID)
    station = Station(log, app, 2).join().own({0, 1})
    held.wait()

    in_the_next_transaction(monkeypatch, log, partition, held.deliver)
    assert station.refused(station.transaction([0, 1], [Output(*partition, b"k", b"dropped")])).reason == "fenced"

    station.own({0, 1})
    station.committed(station.transaction([0, 1], [Output(*partition, b"k", b"kept")]))
    assert values(log, partition) == [b"kept"]
    station.leave()
    log.close()
