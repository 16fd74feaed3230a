"""An app that has nothing left to do has no lag, on any partition, in the eyes of whoever reads the group's offsets."""

import os
from dataclasses import replace
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

from odradek import App, ObjectContext
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.worker.worker import Worker
from tests.kafka.raw import eventually

PARTITIONS = 3


def make_app(name: str, topic: str) -> App:
    app = App(name, shards=PARTITIONS)
    orders = app.topic(topic, value=int)
    cell = app.object("cell")

    @cell.on(orders)
    async def taken(ctx: ObjectContext, amount: int) -> None:
        ctx.set("sum", ctx.get("sum", int, 0) + amount)
        ctx.send(noted, amount, key=f"other-{ctx.key}")  # to another shard: commands, and their markers

    @cell.handler
    async def noted(ctx: ObjectContext, amount: int) -> None:
        ctx.set("noted", amount)

    assert callable(taken)
    return app


def publish(servers: str, topic: str) -> None:
    """Committed records with a marker behind them in one partition, aborted ones alone in another, none in the third."""
    producer = Producer({"bootstrap.servers": servers, "transactional.id": f"{topic}-{os.urandom(3).hex()}"})
    producer.init_transactions()
    for partition, commits in ((0, True), (1, False), (0, False)):
        producer.begin_transaction()
        for n in range(5):
            producer.produce(topic, str(n), key=f"k{n}", partition=partition)
        producer.flush()
        if commits:
            producer.commit_transaction()
        else:
            producer.abort_transaction()


def group_lag(servers: str, app: str, topics: list[str]) -> dict[tuple[str, int], int]:
    """As `kafka-consumer-groups` shows it: the end minus what is committed; -1 where nothing is."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": app, "enable.auto.commit": False})
    try:
        wanted = [TopicPartition(topic, partition) for topic in topics for partition in range(PARTITIONS)]
        lag: dict[tuple[str, int], int] = {}
        for found in consumer.committed(wanted, 10.0):
            _, end = consumer.get_watermark_offsets(TopicPartition(found.topic, found.partition), 10.0)
            lag[found.topic, found.partition] = end - found.offset if found.offset >= 0 else -1
        return lag
    finally:
        consumer.close()


def test_an_idle_app_has_no_lag_on_any_partition(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    name, topic = f"{topic_prefix}lag", f"{topic_prefix}orders"
    log = KafkaLog(kafka)
    log.create_topic(topic, PARTITIONS, {})
    publish(kafka, topic)
    worker = Worker(make_app(name, topic), log, replace(Settings(), bootstrap_servers=kafka, data_dir=tmp_path))
    worker.start()
    try:
        topics = [topic, f"{name}.commands"]
        eventually(lambda: worker.ready and set(group_lag(kafka, name, topics).values()) == {0}, timeout_s=60)
    finally:
        worker.stop()
        log.close()
