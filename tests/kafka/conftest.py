"""What the tests of the log on Kafka share: an app with its topics, and members that leave at the end."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.port import Log
from tests.contract.station import Station
from tests.kafka.life import Life

SHARDS = 2


def make_app(log: Log, name: str, shards: int = SHARDS) -> str:
    """An app's internal topics."""
    log.create_topic(f"{name}.commands", shards, {"retention.ms": "-1", "cleanup.policy": "delete"})
    log.create_topic(f"{name}.journal", shards, {"cleanup.policy": "compact"})
    log.create_topic(f"{name}.state", shards, {"cleanup.policy": "compact"})
    return name


@pytest.fixture
def log(kafka: str) -> Iterator[KafkaLog]:
    """A log on the shared Kafka."""
    opened = KafkaLog(kafka)
    yield opened
    opened.close()


@pytest.fixture
def app(log: Log, topic_prefix: str) -> str:
    """An app of two shards."""
    return make_app(log, topic_prefix)


@pytest.fixture
def topic(log: Log, topic_prefix: str) -> str:
    """A topic of two partitions."""
    return log.create_topic(f"{topic_prefix}-in", 2, {}).name


@pytest.fixture
def join() -> Iterator[Callable[[Log, str], Station]]:
    """`join(log, app)`: a member of the app, which leaves at the end of the test."""
    stations: list[Station] = []

    def make(log: Log, app: str) -> Station:
        stations.append(Station(log, app, SHARDS).join())
        return stations[-1]

    yield make
    for station in stations:
        station.leave()


@pytest.fixture
def life(kafka: str, log: KafkaLog, topic_prefix: str, tmp_path: Path) -> Iterator[Life]:
    """An app of two shards that is run, stopped and run again."""
    made = Life(kafka, log, topic_prefix, tmp_path)
    yield made
    made.stop()
