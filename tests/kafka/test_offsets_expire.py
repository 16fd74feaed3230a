"""Kafka expires a live group's offsets of topics to which it does not subscribe: positions in the journal are the authority.

Stands behind the rule that input positions are ours: the group's copy of them is a mirror, and may be gone.
"""

import time
from collections.abc import Callable

import pytest

from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.kafka.clients import Clients
from odradek_runtime.log.kafka.cluster import Cluster
from odradek_runtime.log.port import Log, Output, Partition
from tests.conftest import ClusterFactory
from tests.contract.station import Station
from tests.kafka.conftest import make_app
from tests.kafka.raw import eventually

Join = Callable[[Log, str], Station]


@pytest.mark.faults
def test_the_fence_stays_and_the_mirror_expires(kafka_cluster: ClusterFactory, topic_prefix: str, join: Join) -> None:
    retention: dict[str, str | int | bool] = {
        "offsets.retention.minutes": 1,
        "offsets.retention.check.interval.ms": 5000,
    }
    cluster = kafka_cluster(properties=retention)
    log = KafkaLog(cluster.bootstrap_servers)
    app = make_app(log, topic_prefix)
    inputs = Partition(log.create_topic(f"{app}-in", 1, {}).name, 0)
    station = join(log, app).own({0, 1})
    commands = Partition(f"{app}.commands", 0)
    offsets = {commands: 3, inputs: 7}
    station.committed(station.transaction([0], [Output(inputs.topic, 0, b"k", b"v")], offsets=offsets))
    admin = Cluster(Clients(cluster.bootstrap_servers, {}), 0, 10.0)

    def committed() -> dict[Partition, int]:
        return {p: found.offset for p, found in admin.committed(app, [commands, inputs], stable=True).items()}

    assert committed() == {commands: 3, inputs: 7}
    began_at = time.monotonic()
    eventually(lambda: committed() == {commands: 3}, timeout_s=150)

    assert time.monotonic() - began_at > 50
    assert station.member.settle(0) == 3
    station.leave()
    log.close()
