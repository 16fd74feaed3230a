"""Records of an input that retention deleted before the app had read them: said with their offsets, and passed over."""

import logging
from concurrent.futures import Future
from typing import Protocol, cast

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from odradek_runtime.log.port import Partition
from tests.kafka.life import RECORDS, Life
from tests.kafka.raw import DEADLINE_S, eventually


class _Admin(Protocol):
    def delete_records(self, places: list[TopicPartition]) -> dict[TopicPartition, Future[object]]: ...


def empty(servers: str, partitions: list[Partition]) -> None:
    """As retention does to a topic whose reader was away for too long."""
    client = cast("_Admin", AdminClient({"bootstrap.servers": servers, "log_level": 0}))
    for deleted in client.delete_records([TopicPartition(*partition, -1) for partition in partitions]).values():
        deleted.result(DEADLINE_S)


@pytest.mark.parametrize("store", ["kept", "gone"])
def test_records_deleted_while_the_app_was_away_are_named_and_the_rest_is_read(
    life: Life, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    life.run_once()
    inputs = [Partition(life.entries, 0), Partition(life.entries, 1)]
    read = {partition: life.log.offsets(partition)[1] for partition in inputs}
    life.feed(RECORDS)
    empty(life.servers, inputs)
    first = {partition: life.log.offsets(partition)[0] for partition in inputs}
    life.feed(2 * RECORDS)
    if store == "gone":
        life.folder = life.folder / "elsewhere"

    worker = life.begin()
    eventually(lambda: worker.ready and life.counted() == 2 * RECORDS)

    said = sorted(record.message for record in caplog.records if record.levelno == logging.ERROR)
    assert len(said) == len(inputs)
    for partition, message in zip(inputs, said, strict=True):
        name, last = f"{partition.topic}[{partition.partition}]", first[partition] - 1
        begun = [
            f"{name}: records {at} to {last} were deleted before they were read" for at in (read[partition] - 1, read[partition])
        ]
        assert message.startswith(tuple(begun))  # the transaction's marker at the end may have been passed, or not
        assert message.endswith("raise the topic's retention.ms above the longest time that the app is away")
