"""Whatever Kafka there is: a given one, else a container, else the jars. Having none is an error, never a skip.

Stands before every test, demo and bench that needs a broker and does not care which.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.broker.cluster import JVM_OPTIONS, KafkaCluster
from tests.broker.jars import KAFKA_VERSION
from tests.broker.ports import PortLease


@contextmanager
def running_broker(
    directory: Path | None = None,
    *,
    properties: Mapping[str, str | int | bool] | None = None,
    jvm_options: Sequence[str] = JVM_OPTIONS,
) -> Generator[str]:
    """Give the bootstrap servers of a Kafka: `KAFKA_BOOTSTRAP_SERVERS`, else a container, else a broker of our own.

    Args:
        directory: where a broker of our own keeps its data; a temporary folder, removed at the end, by default.
        properties: server.properties of a broker of our own; a given Kafka keeps its settings.
        jvm_options: of a broker of our own.

    Raises:
        BrokerFailedError, RuntimeError: there is none, and none could be started; says why.
    """
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if given:
        yield given
    elif _docker_runs():
        with _container(properties or {}) as bootstrap_servers:
            yield bootstrap_servers
    else:
        with tempfile.TemporaryDirectory(prefix="odradek-kafka-", ignore_cleanup_errors=True) as temporary:
            cluster = KafkaCluster(directory or Path(temporary), properties=properties, jvm_options=jvm_options)
            with cluster:
                yield cluster.bootstrap_servers


def _docker_runs() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        return subprocess.run([docker, "info"], capture_output=True, check=False, timeout=10).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@contextmanager
def _container(properties: Mapping[str, str | int | bool]) -> Generator[str]:
    # Imported here: whoever has no Docker needs no testcontainers either.
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    lease = PortLease.take()  # fixed before the start, because the broker must advertise it
    container = DockerContainer(f"apache/kafka:{KAFKA_VERSION}").with_bind_ports(9092, lease.port)
    settings: dict[str, str | int | bool] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": "1@localhost:9093",
        "controller.listener.names": "CONTROLLER",
        "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{lease.port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
        **properties,
    }
    for name, value in settings.items():
        container = container.with_env("KAFKA_" + name.upper().replace(".", "_"), str(value))
    try:
        with container.waiting_for(LogMessageWaitStrategy("Kafka Server started")):
            yield f"127.0.0.1:{lease.port}"
    finally:
        lease.release()
