"""Holds the log on Kafka against the contract: one log per test on the run's shared broker."""

from collections.abc import Generator
from contextlib import contextmanager

import pytest

from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.kafka.member import KafkaMember
from odradek_runtime.log.port import Log, Member
from tests.contract.station import LogHarness
from tests.kafka.eviction import evict


class KafkaHarness:
    """A log on the shared Kafka."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._log = KafkaLog(bootstrap_servers)

    def open(self) -> Log:
        return self._log

    def evict(self, member: Member) -> None:
        assert isinstance(member, KafkaMember)
        evict(self._bootstrap_servers, member.owner.app, member.owner.incarnation)

    def close(self) -> None:
        self._log.close()


@contextmanager
def kafka(request: pytest.FixtureRequest) -> Generator[LogHarness]:
    """For the contract suite's list of logs."""
    harness = KafkaHarness(request.getfixturevalue("kafka"))
    yield harness
    harness.close()
