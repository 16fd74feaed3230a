"""An answer that got lost is asked for again, never made up: the admin client gives offset -1001 for it, and no error."""

from __future__ import annotations

from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.port import Output, Partition
from tests.conftest import ClusterFactory
from tests.kafka.raw import eventually

LIST_OFFSETS = 2


def test_a_lost_question_for_offsets_is_asked_again(kafka_cluster: ClusterFactory, topic_prefix: str) -> None:
    cluster = kafka_cluster(proxied=True)
    log = KafkaLog(cluster.proxied_bootstrap_servers)
    partition = Partition(log.create_topic(topic_prefix, 1, {}).name, 0)
    publisher = log.publisher(topic_prefix)
    publisher.publish([Output(*partition, b"k", b"v")], 1)
    publisher.close()
    bounds = (0, 2)
    eventually(lambda: log.offsets(partition) == bounds)  # the record, and its transaction's marker some time after the commit

    for lose in (cluster.proxies[1].hold, cluster.proxies[1].lose_answer):
        held = lose(LIST_OFFSETS)
        assert log.offsets(partition) == bounds
        assert held.caught
    held = cluster.proxies[1].hold(LIST_OFFSETS)
    assert log.offset_at(partition, 0) == bounds[0]
    assert held.caught
    log.close()
