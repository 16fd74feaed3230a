"""The work: an input topic of keyed JSON events, loaded once and then processed by every contender from its start.

Stands before every measurement. The events are a function of the seed, so two runs of the benchmark do the same work.
"""

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

PARTITIONS = 4
VALUE_BYTES = 100
LOAD_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Workload:
    """How many events over how many keys, how their keys are spread over the partitions, and how long an event's step waits."""

    topic: str
    events: int
    keys: int
    partitioner: str = "murmur2_random"
    seed: int = 20130101
    step_s: float = 0.0

    def records(self) -> list[tuple[bytes, bytes]]:
        """Return every (key, value), in order."""
        choose = random.Random(self.seed)
        records: list[tuple[bytes, bytes]] = []
        for number in range(self.events):
            key = f"customer-{choose.randrange(self.keys)}"
            event: dict[str, object] = {"id": number, "customer": key, "amount": choose.randrange(10_000) / 100, "note": ""}
            if self.step_s:
                event["step_s"] = self.step_s
            padding = VALUE_BYTES - len(json.dumps(event, separators=(",", ":")))
            event["note"] = "x" * max(padding, 0)
            records.append((key.encode(), json.dumps(event, separators=(",", ":")).encode()))
        return records

    def expected(self) -> Counter[bytes]:
        """The number of events of each key."""
        return Counter(key for key, _ in self.records())

    def load(self, bootstrap_servers: str, loaded: Callable[[int], None]) -> Counter[bytes]:
        """Create the topic and write the events to it; returns the number of events of each key.

        Raises:
            RuntimeError: not everything could be written in two minutes.
        """
        create_topic(bootstrap_servers, self.topic)
        producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "partitioner": self.partitioner,
                "linger.ms": 20,
                "enable.idempotence": True,
                "log_level": 4,
                "queue.buffering.max.messages": 2_000_000,
                "batch.size": 1_000_000,
            }
        )
        expected: Counter[bytes] = Counter()
        for number, (key, value) in enumerate(self.records(), 1):
            producer.produce(self.topic, value, key)
            expected[key] += 1
            if number % 10_000 == 0:
                producer.poll(0)
                loaded(number)
        left = producer.flush(LOAD_TIMEOUT_S)
        if left:
            raise RuntimeError(f"{left} of {self.events} events were not written to {self.topic} in {LOAD_TIMEOUT_S} s")
        loaded(self.events)
        return expected


def admin_client(bootstrap_servers: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 4})  # warnings; a closing client is chatty


def create_topic(bootstrap_servers: str, name: str) -> None:
    admin = admin_client(bootstrap_servers)
    for created in admin.create_topics([NewTopic(name, PARTITIONS)]).values():
        created.result()


def delete_topics_of(bootstrap_servers: str, run: str) -> None:
    """Delete every topic whose name contains the run's id: outputs and what a contender made for itself."""
    admin = admin_client(bootstrap_servers)
    names = [name for name in admin.list_topics(timeout=10).topics if run in name]
    if names:
        for deleted in admin.delete_topics(names).values():
            deleted.result()
