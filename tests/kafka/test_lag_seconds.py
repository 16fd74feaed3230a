"""Lag in seconds on Kafka: the age of the oldest record that is not processed, also where an input is paused."""

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

from confluent_kafka import Producer

from odradek import App, Context
from odradek_runtime.configuration.settings import Settings
from odradek_runtime.log.kafka import KafkaLog
from odradek_runtime.log.port import Partition
from odradek_runtime.worker.worker import Worker
from tests.kafka.raw import eventually

HOUR_S = 3600


def make_app(name: str, topic: str, held: threading.Event) -> App:
    app = App(name, shards=4)
    orders = app.topic(topic, value=int)

    @app.on(orders)
    async def works(ctx: Context, n: int) -> None:
        await ctx.run(held.wait, 60, name="held")

    assert callable(works)
    return app


def write(servers: str, topic: str, partition: int, *ages_s: float, commits: bool = True) -> None:
    """Records so old, in one transaction."""
    producer = Producer({"bootstrap.servers": servers, "transactional.id": f"{topic}-{os.urandom(3).hex()}"})
    producer.init_transactions()
    producer.begin_transaction()
    for age_s in ages_s:
        producer.produce(topic, b"1", partition=partition, timestamp=int((time.time() - age_s) * 1000))
    producer.flush()
    if commits:
        producer.commit_transaction()
    else:
        producer.abort_transaction()


def test_the_time_of_the_next_record_behind_markers_and_aborted_ones(kafka: str, topic_prefix: str) -> None:
    log = KafkaLog(kafka)
    log.create_topic(topic_prefix, 4, {})
    write(kafka, topic_prefix, 0, 5 * HOUR_S, commits=False)
    write(kafka, topic_prefix, 0, 3 * HOUR_S, HOUR_S)
    write(kafka, topic_prefix, 1, 5 * HOUR_S, commits=False)
    open_ = Producer({"bootstrap.servers": kafka, "transactional.id": f"{topic_prefix}-open"})
    open_.init_transactions()
    open_.begin_transaction()
    open_.produce(topic_prefix, b"1", partition=2)
    open_.flush()
    try:
        positions = {Partition(topic_prefix, number): 0 for number in range(4)}
        found = log.times_at(positions)
        assert list(found) == [Partition(topic_prefix, 0)], "of aborted records, of an open transaction, of nothing: no time"
        assert abs(time.time() - found[Partition(topic_prefix, 0)] / 1000 - 3 * HOUR_S) < 600
        behind = log.times_at({Partition(topic_prefix, 0): 3})[Partition(topic_prefix, 0)]  # 0 aborted, 1 its marker
        assert abs(time.time() - behind / 1000 - HOUR_S) < 600
    finally:
        open_.abort_transaction()
        log.close()


def test_a_paused_input_tells_how_long_its_records_have_waited(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    name, topic, held = f"{topic_prefix}lag", f"{topic_prefix}orders", threading.Event()
    log = KafkaLog(kafka)
    log.create_topic(topic, 4, {})
    write(kafka, topic, 3, *[0.0] * 20)
    settings = replace(Settings(), bootstrap_servers=kafka, data_dir=tmp_path, steps_queued=8, topics_watch_s=1.0)
    worker = Worker(make_app(name, topic, held), log, settings)

    def seconds() -> list[float]:
        found = worker.snapshot().get("lag_seconds", {})
        return [found.get((topic, partition), -1.0) for partition in range(4)]

    def records() -> list[int]:
        found = worker.snapshot().get("lag_records", {})
        return [found.get((topic, partition), -1) for partition in range(4)]

    def paused() -> bool:
        return worker.ready and worker.snapshot().get("inputs_paused", False)

    worker.start()
    try:
        eventually(lambda: paused() and seconds() == [0] * 4, timeout_s=60)
        write(kafka, topic, 0, 3 * HOUR_S, HOUR_S)
        write(kafka, topic, 1, 5 * HOUR_S, commits=False)
        write(kafka, topic, 1, 2 * HOUR_S)
        write(kafka, topic, 2, 5 * HOUR_S, commits=False)
        eventually(lambda: all(number > 0 for number in records()[:3]), timeout_s=60)
        eventually(lambda: [int(age_s // HOUR_S) for age_s in seconds()] == [3, 2, 0, 0], timeout_s=60)
        held.set()
        eventually(lambda: seconds() == [0] * 4 and records() == [0] * 4, timeout_s=60)
    finally:
        held.set()
        worker.stop()
        log.close()
