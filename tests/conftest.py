"""What every test may ask for: a Kafka shared by the run, a cluster of one's own, names that nobody else uses.

Stands before all tests. The broker is started by the first test that asks for one; none to be had is a failure.
What a failed test says reaches its reader whatever it holds.
"""

import uuid
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.broker import KafkaCluster, running_broker


class ClusterFactory(Protocol):
    """What the `kafka_cluster` fixture gives: `kafka_cluster(brokers=3, properties={...}, proxied=True)`."""

    def __call__(
        self, *, brokers: int = 1, properties: dict[str, str | int | bool] | None = None, proxied: bool = False
    ) -> KafkaCluster:
        """Return a started cluster, killed when the test ends."""
        ...


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """The bootstrap servers of the single-node Kafka shared by the run: use `topic_prefix`, harm nothing."""
    # Members of the consumer protocol hear of each change with their next heartbeat: five seconds by default.
    beats = {"group.consumer.min.heartbeat.interval.ms": 500, "group.consumer.heartbeat.interval.ms": 500}
    with running_broker(properties=beats) as bootstrap_servers:
        yield bootstrap_servers


@pytest.fixture
def kafka_cluster(tmp_path: Path) -> Iterator[ClusterFactory]:
    """Makes clusters that belong to one test, which may kill, freeze and cut off their brokers."""
    with ExitStack() as clusters:

        def start(
            *, brokers: int = 1, properties: dict[str, str | int | bool] | None = None, proxied: bool = False
        ) -> KafkaCluster:
            directory = tmp_path / f"kafka-{uuid.uuid4().hex[:8]}"
            cluster = KafkaCluster(directory, brokers=brokers, properties=properties, proxied=proxied)
            return clusters.enter_context(cluster)

        yield start


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for topics, groups and app names that no other test, run or machine uses."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Escape what is no text in a report: a lone surrogate in it ends the process that tests, and the report is lost."""
    return _as_text((yield))


def _as_text(part: Any) -> Any:
    if isinstance(part, str):
        return part.encode(errors="backslashreplace").decode()
    if isinstance(part, dict):
        return {_as_text(key): _as_text(value) for key, value in part.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(part, list | tuple):
        return type(part)(map(_as_text, part))  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
    return part
