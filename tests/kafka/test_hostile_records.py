"""Input records of any bytes, as a client in C may write them: each is handled or becomes a dead letter, and no worker ends."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.parts import UNREADABLE, headers_of
from odradek_runtime.log.port import Partition
from tests.hostile_records import HOW, everything, handling, hostile_records
from tests.kafka.c_client import CProducer
from tests.kafka.raw import eventually
from tests.kafka.running import running

NUMBER = 150
BAD = [(b"ok", b"1"), (b"\xff\xfea", b"x"), (b"after", None)]


@pytest.fixture
def unreadable(log: KafkaLog, kafka: str, topic: str) -> Partition:
    """A partition with three records, the one in the middle with a header whose name is not UTF-8."""
    with CProducer(kafka) as producer:
        for headers in ([(b"ok", b"1")], BAD, []):
            producer.produce(topic, b"1", key=b"k", headers=headers, partition=0)
    return Partition(topic, 0)


def test_they_are_not_trusted_where_the_interpreter_has_grown_quick(log: KafkaLog, kafka: str, topic: str) -> None:
    """Called often enough, a method in C that gives both a result and an error is not noticed by CPython."""
    with CProducer(kafka) as producer:
        for n in range(2_000):
            producer.produce(topic, b"1", headers=BAD if n > 1_000 else [], partition=0)
    found = [headers_of(message) for batch in log.scan(Partition(topic, 0), 0, 2_000) for message in batch]
    assert [len(headers) for headers in found] == [0] * 1_001 + [1] * 999
    assert {name for headers in found for name, _ in headers} == {UNREADABLE}


def test_headers_that_the_client_cannot_read_are_one_header_that_says_so(log: KafkaLog, unreadable: Partition) -> None:
    first, second, third = [message for batch in log.scan(unreadable, 0, 3) for message in batch]
    for _ in range(3):  # asked again the client would give a list with a hole in it
        assert headers_of(first) == [("ok", b"1")]
        ((name, said),) = headers_of(second)
        assert name == UNREADABLE
        assert b"0xff" in (said or b"")
        assert list(headers_of(third)) == []
        gc.collect()


def test_consume_shows_them(unreadable: Partition, kafka: str) -> None:
    command = ["consume", unreadable.topic, "--bootstrap-servers", kafka, "--headers", "--from", "earliest"]
    shown = subprocess.run(
        [sys.executable, "-m", "odradek_runtime.cli", *command], capture_output=True, text=True, check=False, timeout=120
    )
    assert shown.returncode == 0, shown.stderr
    assert len(shown.stdout.splitlines()) >= 3
    assert UNREADABLE in shown.stdout


def test_records_of_any_bytes_end_no_worker_and_are_lost_to_nobody(
    log: KafkaLog, kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    name = f"{topic_prefix}-hostile"
    for how in HOW:
        log.create_topic(f"{name}-{how}", 2, {"retention.ms": "-1"})
    log.create_topic(f"{name}-seen", 1, {})
    for run in (1, 2):
        with running(handling(name), KafkaLog(kafka), kafka, tmp_path, epoch_linger_s=0.01):
            with CProducer(kafka) as producer:
                for how in HOW:
                    for each in hostile_records(run, NUMBER):
                        producer.produce(
                            f"{name}-{how}", each.value, key=each.key, headers=each.headers, timestamp_ms=each.timestamp_ms
                        )
            eventually(lambda run=run: everything(log, name, run * NUMBER))
