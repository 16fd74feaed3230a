"""The group's offsets moved by somebody else on a real Kafka: said and not obeyed. Partitions added to an input: read soon."""

import logging
from concurrent.futures import Future
from typing import Protocol, cast

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions  # confluent_kafka.admin does not export it to type checkers

from odradek_runtime.log.port import Output, Partition
from tests.contract.station import values
from tests.kafka.life import RECORDS, Life
from tests.kafka.raw import DEADLINE_S, eventually


class _Admin(Protocol):
    def alter_consumer_group_offsets(self, wanted: list[ConsumerGroupTopicPartitions]) -> dict[str, Future[None]]: ...

    def create_partitions(self, wanted: list[NewPartitions]) -> dict[str, Future[None]]: ...


def admin(servers: str) -> _Admin:
    return cast("_Admin", AdminClient({"bootstrap.servers": servers, "log_level": 0}))


def move(servers: str, group: str, offsets: dict[Partition, int]) -> None:
    """As kafka-consumer-groups --reset-offsets does it, which takes a group without members."""
    places = [TopicPartition(*partition, offset) for partition, offset in offsets.items()]
    client = admin(servers)  # kept: what it was asked for ends with it
    for altered in client.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, places)]).values():
        altered.result(DEADLINE_S)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "offset was changed" in record.message]


def test_offsets_that_somebody_moved_are_said_once_and_not_obeyed(life: Life, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "odradek")
    life.run_once()
    first, second = Partition(life.entries, 0), Partition(life.entries, 1)
    ours = life.log.committed_offsets(life.prefix, [first, second])
    assert set(ours) == {first, second}
    assert warnings(caplog) == []

    move(life.servers, life.prefix, {first: 0, second: ours[second] + 1})
    worker = life.begin()
    eventually(lambda: worker.ready and len(warnings(caplog)) == 2)
    said = sorted(warnings(caplog))
    assert said[0].startswith(f"{life.entries}[0]: the group's offset was changed to 0 by somebody else; this app is at ")
    assert f"at {ours[first]}, goes on from there" in said[0]
    assert said[1].startswith(f"{life.entries}[1]: the group's offset was changed to ")
    life.feed(RECORDS)
    eventually(lambda: life.counted() == 2 * RECORDS)  # nothing twice, nothing left out
    eventually(lambda: life.log.committed_offsets(life.prefix, [first])[first] >= ours[first])
    life.stop()

    worker = life.begin()  # ours stand in the group again
    eventually(lambda: worker.ready)
    life.feed(2 * RECORDS)
    eventually(lambda: life.counted() == 3 * RECORDS)
    assert len(warnings(caplog)) == 2


def test_partitions_added_to_an_input_are_read_without_a_restart(life: Life) -> None:
    worker = life.begin()
    life.feed()
    eventually(lambda: life.counted() == RECORDS)

    client = admin(life.servers)
    for made in client.create_partitions([NewPartitions(life.entries, 4)]).values():
        made.result(DEADLINE_S)
    eventually(lambda: (found := life.log.topic(life.entries)) is not None and found.partitions == 4)
    publisher = life.log.publisher(f"{life.prefix}-added")
    publisher.publish([Output(life.entries, number, b"added%d" % number, b"1") for number in (2, 3)], 2)
    publisher.close()

    eventually(lambda: life.counted() == RECORDS + 2)
    assert worker.failed is None
    assert len(values(life.log, Partition(life.counts, 0))) == RECORDS + 2
