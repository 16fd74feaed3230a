"""Which logs the contract is held against. To add one, add an entry to `HARNESSES` (see `embedded`)."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

import pytest

from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.embedded.member import EmbeddedMember
from odradek_runtime.log.port import Log, Member
from tests.contract.station import HarnessFactory, LogHarness, Station
from tests.kafka.harness import kafka
from tests.simulation.live import simulated

SHARDS = 4


class EmbeddedHarness:
    """The embedded log in a temporary folder."""

    def __init__(self) -> None:
        self._log = EmbeddedLog(None)

    def open(self) -> Log:
        return self._log

    def evict(self, member: Member) -> None:
        assert isinstance(member, EmbeddedMember)
        member.evict()

    def close(self) -> None:
        self._log.close()


@contextmanager
def embedded(_: pytest.FixtureRequest) -> Generator[LogHarness]:
    harness = EmbeddedHarness()
    yield harness
    harness.close()


HARNESSES: dict[str, HarnessFactory] = {"embedded": embedded, "simulated": simulated, "kafka": kafka}


@pytest.fixture(params=list(HARNESSES))
def log_factory(request: pytest.FixtureRequest) -> Iterator[LogHarness]:
    """Each log under test in turn."""
    with HARNESSES[request.param](request) as harness:
        yield harness


@pytest.fixture
def log(log_factory: LogHarness) -> Log:
    return log_factory.open()


@pytest.fixture
def app(log: Log, topic_prefix: str) -> str:
    """An app with its internal topics."""
    log.create_topic(f"{topic_prefix}.commands", SHARDS, {"retention.ms": "-1", "cleanup.policy": "delete"})
    log.create_topic(f"{topic_prefix}.journal", SHARDS, {"cleanup.policy": "compact"})
    log.create_topic(f"{topic_prefix}.state", SHARDS, {"cleanup.policy": "compact"})
    return topic_prefix


@pytest.fixture
def topic(log: Log, topic_prefix: str) -> str:
    """An input topic of two partitions."""
    return log.create_topic(f"{topic_prefix}-in", 2, {}).name


@pytest.fixture
def join(log: Log, app: str) -> Iterator[Callable[..., Station]]:
    """`join()` or `join(url)`: a member of the app, which leaves at the end of the test."""
    stations: list[Station] = []

    def make(url: str | None = None) -> Station:
        stations.append(Station(log, app, SHARDS, url).join())
        return stations[-1]

    yield make
    for station in stations:
        station.leave()


@pytest.fixture
def station(join: Callable[..., Station]) -> Station:
    """The only member of the app, with every shard."""
    return join().own(set(range(SHARDS)))
