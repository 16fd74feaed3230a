"""The broker fixture itself: what the fault tests lean on must do what it says.

Stands under every test that needs Kafka: a broker that comes back with its data, a proxy that really loses commits.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.broker import END_TXN, BrokerFailedError, KafkaCluster, KafkaJars, TcpProxy, create_topics
from tests.broker.ports import PortLease
from tests.conftest import ClusterFactory

QUIET: dict[str, str | int] = {"log_level": 0}


def produce(bootstrap_servers: str, topic: str, value: bytes, partition: int = 0) -> None:
    """Write one record and wait until it is acknowledged."""
    errors: list[object] = []
    producer = Producer({"bootstrap.servers": bootstrap_servers, **QUIET})
    producer.produce(topic, value, partition=partition, on_delivery=lambda error, _: errors.append(error))
    producer.flush(60)
    assert errors == [None]


def read_committed(bootstrap_servers: str, topic: str, partition: int = 0) -> list[bytes | None]:
    """All values that a read_committed reader sees."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": topic,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            **QUIET,
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0)])
    values: list[bytes | None] = []
    while True:
        message = consumer.poll(30)
        assert message is not None, f"nothing from {topic} in 30 s"
        if message.error() is not None:
            break
        values.append(message.value())
    consumer.close()
    return values


def transactional_producer(bootstrap_servers: str, transactional_id: str) -> Producer:
    settings = {"transactional.id": transactional_id, "linger.ms": 0, "retry.backoff.ms": 1}
    producer = Producer({"bootstrap.servers": bootstrap_servers, **settings, **QUIET})
    producer.init_transactions(30)
    return producer


def commit(producer: Producer, topic: str, value: bytes) -> None:
    producer.begin_transaction()
    producer.produce(topic, value, partition=0)
    producer.commit_transaction(30)


def eventually(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.05)


def gone(pid: int) -> bool:
    """Whether the process has ended; an unreaped one (its parent was killed) has."""
    shown = subprocess.run(["ps", "-p", str(pid), "-o", "stat="], capture_output=True, text=True, check=False)
    return shown.stdout.strip() in ("", "Z", "Zs", "Zl", "Zsl")


def test_the_shared_broker_carries_records(kafka: str, topic_prefix: str) -> None:
    create_topics(kafka, {topic_prefix: 1})
    produce(kafka, topic_prefix, b"one")
    assert read_committed(kafka, topic_prefix) == [b"one"]


def test_leased_ports_differ_between_processes() -> None:
    leases = [PortLease.take() for _ in range(20)]
    script = "from tests.broker.ports import PortLease; print(*[PortLease.take().port for _ in range(200)])"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root())
    ours = {lease.port for lease in leases}
    assert len(ours) == 20
    assert not ours & {int(port) for port in other.stdout.split()}
    for lease in leases:
        lease.release()


def test_without_java_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"java is not on the PATH: .*KAFKA_BOOTSTRAP_SERVERS"):
        KafkaJars.ensure()


def root() -> Path:
    return Path(__file__).resolve().parents[1]


@pytest.mark.faults
def test_a_killed_broker_comes_back_with_its_data(kafka_cluster: ClusterFactory) -> None:
    cluster = kafka_cluster()
    servers = cluster.bootstrap_servers
    create_topics(servers, {"t": 1})
    produce(servers, "t", b"before")
    before = cluster.pids[1]
    cluster.kill(1)
    assert cluster.pids == {}
    cluster.restart(1)
    assert cluster.pids[1] != before
    produce(servers, "t", b"after")
    assert read_committed(servers, "t") == [b"before", b"after"]


@pytest.mark.faults
def test_a_cluster_takes_properties_and_creates_topics_by_accident_as_brokers_do(kafka_cluster: ClusterFactory) -> None:
    servers = kafka_cluster(properties={"num.partitions": 3}).bootstrap_servers
    produce(servers, "nobody-created-this", b"one", partition=2)
    topics = AdminClient({"bootstrap.servers": servers, **QUIET}).list_topics(timeout=30).topics
    assert len(topics["nobody-created-this"].partitions) == 3


@pytest.mark.faults
def test_three_brokers_survive_the_loss_of_any_one(kafka_cluster: ClusterFactory) -> None:
    cluster = kafka_cluster(brokers=3)
    create_topics(cluster.bootstrap_servers, {"t": 3})
    for broker_id in (1, 2, 3):
        cluster.kill(broker_id)
        for partition in range(3):
            produce(cluster.bootstrap_servers, "t", b"without %d" % broker_id, partition)
        cluster.restart(broker_id)
    for partition in range(3):
        values = read_committed(cluster.bootstrap_servers, "t", partition)
        assert values == [b"without 1", b"without 2", b"without 3"]


@pytest.mark.faults
def test_a_suspended_broker_answers_nothing_until_resumed(kafka_cluster: ClusterFactory) -> None:
    cluster = kafka_cluster()
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, **QUIET})
    admin.list_topics(timeout=30)
    cluster.suspend(1)
    with pytest.raises(KafkaException):
        admin.list_topics(timeout=1)
    cluster.resume(1)
    assert admin.list_topics(timeout=30).brokers is not None


@pytest.mark.faults
def test_the_proxy_loses_a_commit_and_delivers_it_late(kafka_cluster: ClusterFactory) -> None:
    """The probe behind invariant 8: the commit seems to succeed, and its first request tears the next transaction."""
    cluster = kafka_cluster(proxied=True)
    servers, (proxy,) = cluster.proxied_bootstrap_servers, cluster.proxies.values()
    create_topics(servers, {"t": 1})
    producer = transactional_producer(servers, "p")
    commit(producer, "t", b"n-1")
    held = proxy.hold(END_TXN)
    commit(producer, "t", b"n")
    held.wait()
    assert proxy.requests_seen(END_TXN) >= 3  # n-1, the lost one, its retry
    producer.begin_transaction()
    producer.produce("t", b"n+1, first half", partition=0)
    producer.flush(30)
    assert read_committed(servers, "t") == [b"n-1", b"n"]
    held.deliver()
    eventually(lambda: read_committed(servers, "t") == [b"n-1", b"n", b"n+1, first half"])
    with pytest.raises(RuntimeError, match="only once"):
        held.deliver()


@pytest.mark.faults
def test_the_proxy_loses_an_answer_cuts_and_blacks_out(kafka_cluster: ClusterFactory) -> None:
    cluster = kafka_cluster(proxied=True)
    servers, (proxy,) = cluster.proxied_bootstrap_servers, cluster.proxies.values()
    create_topics(servers, {"t": 1})
    producer = transactional_producer(servers, "p")
    lost = proxy.lose_answer(END_TXN)
    commit(producer, "t", b"one")
    assert lost.caught
    assert proxy.requests_seen(END_TXN) >= 2
    assert proxy.cut() > 0
    commit(producer, "t", b"two")
    assert read_committed(servers, "t") == [b"one", b"two"]
    admin = AdminClient({"bootstrap.servers": servers, **QUIET})
    proxy.blackhole()
    with pytest.raises(KafkaException):
        admin.list_topics(timeout=1)
    proxy.heal()
    assert "t" in admin.list_topics(timeout=30).topics


@pytest.mark.faults
def test_a_failed_start_shows_the_end_of_the_broker_log(tmp_path: Path) -> None:
    with (
        pytest.raises(BrokerFailedError, match=r"no\.such.assignor"),
        KafkaCluster(tmp_path, properties={"group.consumer.assignors": "no.such.assignor"}),
    ):
        pytest.fail("a broker came up with settings that make no sense")


@pytest.mark.faults
def test_brokers_die_with_the_process_that_started_them(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from tests.broker import KafkaCluster\n"
        "cluster = KafkaCluster(pathlib.Path(sys.argv[1])); cluster.start()\n"
        "print(cluster.pids[1], flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=root(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    broker = int(owner.stdout.readline())
    assert not gone(broker)
    os.kill(owner.pid, signal.SIGKILL)
    owner.communicate()
    eventually(lambda: gone(broker))


def test_a_proxy_refuses_nothing_but_ends_connections_when_its_broker_is_down() -> None:
    nobody = PortLease.take()
    proxy = TcpProxy("127.0.0.1", nobody.port)
    with pytest.raises(KafkaException):
        AdminClient({"bootstrap.servers": f"127.0.0.1:{proxy.port}", **QUIET}).list_topics(timeout=0.5)
    proxy.close()
    nobody.release()


def test_a_broker_from_the_shell_keeps_its_address_and_data(tmp_path: Path) -> None:
    def shell(word: str) -> str:
        command = [sys.executable, "-m", "tests.broker", word, "--dir", str(tmp_path / "broker")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root(), timeout=180)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    try:
        address = shell("start")
        assert shell("start") == address
        create_topics(address, {"kept": 1})
        produce(address, "kept", b"before")
        shell("stop")
        assert shell("start") == address
        assert read_committed(address, "kept") == [b"before"]
    finally:
        shell("stop")
