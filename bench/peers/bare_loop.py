"""The ceiling: consume, produce, commit in transactions, and nothing else (no decoding, no state, no framework).

It is what a Python process can move through Kafka exactly once. Tuned as far as the client goes: batches of records
from one call, a small constant output, two transactional producers taking turns so that the next transaction fills
while the last one commits in a second thread. Contract of every peer: process the input from its start until SIGTERM.
"""

import argparse
import signal
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

OUTPUT = b'{"count":1}'
FETCH_RECORDS = 5_000
POLL_S = 0.01
COMMIT_TIMEOUT_S = 30


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--bootstrap-servers", "--input", "--output", "--group"):
        parser.add_argument(name, required=True)
    parser.add_argument("--commit-interval-s", type=float, default=0.1)
    return parser.parse_args()


def transactional_producer(options: argparse.Namespace, number: int) -> Producer:
    producer = Producer(
        {
            "bootstrap.servers": options.bootstrap_servers,
            "transactional.id": f"{options.group}-{number}",
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "retry.backoff.ms": 1,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 2_000_000,
        }
    )
    producer.init_transactions(COMMIT_TIMEOUT_S)
    return producer


def commit(producer: Producer, group_metadata: Any, topic: str, positions: dict[int, int]) -> None:
    offsets = [TopicPartition(topic, partition, position) for partition, position in positions.items()]
    producer.send_offsets_to_transaction(offsets, group_metadata, COMMIT_TIMEOUT_S)
    producer.commit_transaction(COMMIT_TIMEOUT_S)


def fill(consumer: Consumer, producer: Producer, output: str, until: float) -> dict[int, int]:
    """Copy records into the producer's open transaction until the clock says so; returns the next offsets."""
    positions: dict[int, int] = {}
    produce = producer.produce
    while time.perf_counter() < until:
        messages: list[Any] = consumer.consume(FETCH_RECORDS, POLL_S)  # Any: a consumed record has what the stub doubts
        for message in messages:
            error = message.error()
            if error is not None:
                raise RuntimeError(f"consuming failed: {error}")
            produce(output, OUTPUT, message.key())
            positions[message.partition()] = message.offset() + 1
    return positions


def run(options: argparse.Namespace, stopping: threading.Event) -> None:
    producers = [transactional_producer(options, number) for number in range(2)]
    consumer = Consumer(
        {
            "bootstrap.servers": options.bootstrap_servers,
            "group.id": options.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe([options.input])
    committing: Future[None] | None = None
    turn = 0
    with ThreadPoolExecutor(1) as committer:
        while not stopping.is_set():
            producer = producers[turn % 2]
            producer.begin_transaction()
            positions = fill(consumer, producer, options.output, time.perf_counter() + options.commit_interval_s)
            if committing is not None:
                committing.result()
                committing = None
            if positions:
                group_metadata = consumer.consumer_group_metadata()
                committing = committer.submit(commit, producer, group_metadata, options.input, positions)
                turn += 1
            else:
                producer.abort_transaction(COMMIT_TIMEOUT_S)
        if committing is not None:
            committing.result()
    consumer.close()


def main() -> None:
    sys.setswitchinterval(0.001)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    run(arguments(), stopping)


if __name__ == "__main__":
    main()
