"""The secret that an app's workers share stands in its own topic: one for all of them, whoever comes first, and at once."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.port import Log, Output, Partition

KILLED = """
import os, signal, sys
from odradek_runtime.log.kafka import KafkaLog, secret

class Dying(secret.SharedSecret):
    def _make(self):
        producer = self._clients.producer(self._writer, {"transaction.timeout.ms": 10000}, self._trouble.error)
        producer.init_transactions(10)
        producer.begin_transaction()
        producer.produce(self._at.topic, b"of one that was killed", secret.KEY, 0)
        producer.flush(10)
        os.kill(os.getpid(), signal.SIGKILL)

secret.SharedSecret = Dying
sys.modules["odradek_runtime.log.kafka.log"].SharedSecret = Dying
KafkaLog(sys.argv[1]).shared_secret(sys.argv[2])
"""


@pytest.fixture
def app(topic_prefix: str) -> str:
    return topic_prefix.rstrip(".-_")


def written(log: KafkaLog, app: str) -> list[bytes]:
    at = Partition(f"{app}.secret", 0)
    return [message.value() or b"" for batch in log.scan(at, *log.offsets(at)) for message in batch]


def write(log: KafkaLog, app: str, *values: bytes | None) -> None:
    publisher = log.publisher(f"{app}-operator")
    publisher.publish([Output(f"{app}.secret", 0, b"secret", value) for value in values], publisher.position() + 1)
    publisher.close()


def test_workers_that_start_at_once_have_one_secret(kafka: str, log: KafkaLog, app: str) -> None:
    logs = [KafkaLog(kafka) for _ in range(6)]
    with ThreadPoolExecutor(6) as workers:
        found = list(workers.map(lambda one: one.shared_secret(app), logs))
    for one in logs:
        one.close()
    assert written(log, app) == [found[0]]
    assert set(found) == {found[0]}
    assert len(found[0]) == 64
    assert log.shared_secret(app) == found[0]
    topic = log.topic(f"{app}.secret")
    assert topic is not None
    assert (topic.partitions, topic.config["cleanup.policy"]) == (1, "compact")


def test_each_app_has_its_own(log: KafkaLog, app: str) -> None:
    assert log.shared_secret(app) != log.shared_secret(f"{app}-2")


def test_the_newest_counts_and_what_is_none_is_left_out(log: KafkaLog, app: str) -> None:
    first = log.shared_secret(app)
    write(log, app, b"", None, b"short")
    assert log.shared_secret(app) == first
    write(log, app, b"one that an operator made", b"\xff" * 15)
    assert log.shared_secret(app) == b"one that an operator made"


def test_one_that_dies_while_it_writes_leaves_nothing(kafka: str, log: KafkaLog, app: str) -> None:
    died = subprocess.run([sys.executable, "-c", KILLED, kafka, app], check=False, timeout=60)
    assert died.returncode == -9
    found = log.shared_secret(app)
    assert written(log, app) == [found]
    assert found != b"of one that was killed"


def test_where_one_process_has_all_workers_there_is_none() -> None:
    log: Log = EmbeddedLog(None, fsync=False, clean_interval_s=0)
    assert log.shared_secret("app") is None
    assert log.topics() == []
    log.close()
