"""What an operator reads: each trouble in one sentence, with what to check, and not as a stack trace."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.kafka.trouble import REPEAT_S
from odradek_runtime.log.port import Committed, Log, LogError, Output, Partition, Trouble
from tests.broker import KafkaJars
from tests.broker.cluster import JVM_OPTIONS
from tests.broker.ports import PortLease
from tests.broker.process import BrokerProcess
from tests.conftest import ClusterFactory
from tests.contract.station import Station, values
from tests.kafka.conftest import make_app
from tests.kafka.raw import eventually

Join = Callable[[Log, str], Station]


def test_a_broker_that_is_not_there_is_named_with_the_remedy() -> None:
    lease = PortLease.take()
    with pytest.raises(LogError) as refused:
        KafkaLog(f"127.0.0.1:{lease.port}", request_timeout_s=1.0)
    lease.release()

    assert refused.value.retriable
    assert f"127.0.0.1:{lease.port}" in str(refused.value)
    assert "check that the brokers run" in str(refused.value)


def test_credentials_to_a_broker_that_wants_none_are_explained(kafka: str) -> None:
    options = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "u",
        "sasl.password": "secret",
    }
    with pytest.raises(LogError) as refused:
        KafkaLog(kafka, options=options, request_timeout_s=2.0)

    assert "security.protocol" in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.fixture
def sasl_broker(tmp_path: Path) -> Iterator[str]:
    """A broker that asks alice for the password "right"."""
    with ExitStack() as cleanup:
        ports = [PortLease.take() for _ in range(3)]
        for lease in ports:
            cleanup.callback(lease.release)
        plain, sasl, controller = (f"127.0.0.1:{lease.port}" for lease in ports)
        (tmp_path / "server.properties").write_text(
            SASL_PROPERTIES.format(plain=plain, sasl=sasl, controller=controller, data=tmp_path / "data")
        )
        process = BrokerProcess(
            KafkaJars.ensure(), tmp_path / "server.properties", tmp_path / "log", JVM_OPTIONS, outlives_parent=False
        )
        process.ended(process.format("AAAAAAAAAAAAAAAAAAAAAQ"))
        process.start()
        cleanup.callback(process.kill)
        eventually(lambda: answers(plain), 60.0)
        yield sasl


def answers(servers: str) -> bool:
    try:
        KafkaLog(servers, request_timeout_s=1.0).close()
    except LogError:
        return False
    return True


SASL_PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{controller}
controller.listener.names=CONTROLLER
listeners=PLAIN://{plain},CLIENT://{sasl},CONTROLLER://{controller}
advertised.listeners=PLAIN://{plain},CLIENT://{sasl}
listener.security.protocol.map=PLAIN:PLAINTEXT,CLIENT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAIN
sasl.enabled.mechanisms=PLAIN
listener.name.client.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
  user_alice="right";
log.dirs={data}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
"""


def test_a_wrong_password_is_told_from_an_absent_broker(sasl_broker: str) -> None:
    options = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "alice"}

    KafkaLog(sasl_broker, options={**options, "sasl.password": "right"}).close()
    with pytest.raises(LogError) as refused:
        KafkaLog(sasl_broker, options={**options, "sasl.password": "wrong"}, request_timeout_s=2.0)

    assert "refused our credentials" in str(refused.value)
    assert "sasl.password" in str(refused.value)
    assert "wrong" not in str(refused.value)


def test_tls_to_a_plain_listener_is_explained(kafka: str) -> None:
    with pytest.raises(LogError, match=r"TLS|security\.protocol"):
        KafkaLog(kafka, options={"security.protocol": "SSL"}, request_timeout_s=2.0)


@pytest.mark.parametrize("option", [{"no.such.option": "1"}, {"linger.ms": "soon"}])
def test_an_option_that_is_none_is_named(kafka: str, option: dict[str, str]) -> None:
    with pytest.raises(LogError) as refused:
        KafkaLog(kafka, options=option)

    assert not refused.value.retriable
    assert next(iter(option)) in str(refused.value)


@pytest.mark.parametrize("option", ["isolation.level", "transactional.id", "group.id"])
def test_options_that_exactly_once_stands_on_cannot_be_set(kafka: str, option: str) -> None:
    with pytest.raises(LogError, match=option):
        KafkaLog(kafka, options={option: "x"})


@pytest.mark.faults
def test_a_broker_restart_is_told_and_survived(kafka_cluster: ClusterFactory, topic_prefix: str, join: Join) -> None:
    cluster = kafka_cluster()
    log = KafkaLog(cluster.bootstrap_servers, session_timeout_s=30.0)
    topic = log.create_topic(f"{topic_prefix}-out", 1, {}).name
    station = join(log, make_app(log, topic_prefix)).own({0, 1})
    station.member.read({Partition(topic, 0): 0}, 1)
    station.committed(station.transaction([0], [Output(topic, 0, b"k", b"before")]))
    assert [message.value() for message in station.messages(1)] == [b"before"]

    cluster.kill(1)
    trouble = station.wait(Trouble)
    assert not trouble.fatal
    assert cluster.bootstrap_servers in trouble.message
    time.sleep(REPEAT_S + 2)
    assert len(station.drain(Trouble, 0.0)) <= 6  # a few kinds, each once in five seconds: no flood
    cluster.restart(1)

    station.own({0, 1})
    # Refused while the broker was coming back: not an error of this epoch, so it is sent anew.
    while not isinstance(station.commit(station.transaction([0], [Output(topic, 0, b"k", b"after")])), Committed):
        station.own({0, 1})
    assert [message.value() for message in station.messages(1)] == [b"after"]
    assert values(log, Partition(topic, 0)) == [b"before", b"after"]
    station.leave()
    log.close()
