"""The measurement: how many output records are committed, seen from outside and alike for every contender.

While a contender runs, the last stable offsets of its output topic are sampled: that is where a read_committed reader
stands, and it moves only when a transaction has committed. Afterwards the topic is read (read_committed), which turns
each sampled offset into a number of records and proves that the contender did the work: once, in order, all of it.
"""

import json
import threading
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from bench.workload import PARTITIONS, admin_client

SAMPLE_EVERY_S = 0.02
READ_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Sample:
    """Where the output stood at one moment."""

    at_s: float
    stable_offsets: tuple[int, ...]


class StableOffsets:
    """Samples the last stable offsets of a topic in a thread, from `start()` to `stop()`."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self.samples: list[Sample] = []
        self._admin = admin_client(bootstrap_servers)
        self._topic = topic
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stable-offsets", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    @property
    def total(self) -> int:
        """The sum of the latest offsets: records and transaction markers."""
        return sum(self.samples[-1].stable_offsets) if self.samples else 0

    @property
    def quiet_s(self) -> float:
        """For how long the offsets have not moved."""
        if not self.samples:
            return 0.0
        last = self.samples[-1]
        for sample in reversed(self.samples):
            if sample.stable_offsets != last.stable_offsets:
                return last.at_s - sample.at_s
        return last.at_s - self.samples[0].at_s

    def _run(self) -> None:
        while not self._stopping.wait(SAMPLE_EVERY_S):
            try:
                offsets = stable_offsets(self._admin, self._topic)
            except KafkaException:
                continue  # a topic just created may have no leader yet; who waits for progress sees a lasting failure
            self.samples.append(Sample(time.perf_counter(), offsets))


def stable_offsets(admin: AdminClient, topic: str) -> tuple[int, ...]:
    """Up to where a read_committed reader comes now, by partition. Raises KafkaException."""
    latest: Any = OffsetSpec.latest  # untyped in the client
    wanted = {TopicPartition(topic, partition): latest() for partition in range(PARTITIONS)}
    asked = admin.list_offsets(wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=10)
    found = {at.partition: future.result().offset for at, future in asked.items()}
    return tuple(found[partition] for partition in range(PARTITIONS))


@dataclass(slots=True)
class Output:
    """What a contender committed: per partition the offsets, per key the counts in order of appearance."""

    offsets: list[list[int]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    counts: dict[bytes, list[int]] = field(default_factory=lambda: defaultdict(list))

    @property
    def records(self) -> int:
        return sum(len(offsets) for offsets in self.offsets)

    def add(self, partition: int, message: Any) -> None:
        """Note one record: Kafka's own, or one of the embedded log's."""
        self.offsets[partition].append(message.offset())
        self.counts[message.key()].append(json.loads(message.value())["count"])

    def visible_at(self, sample: Sample) -> int:
        """How many records a read_committed reader could see at that moment."""
        return sum(bisect_left(at, end) for at, end in zip(self.offsets, sample.stable_offsets, strict=True))

    def mistakes(self, expected: Counter[bytes], *, counted: bool, complete: bool) -> list[str]:
        """Compare with the input; empty when everything is there exactly once and in order.

        Args:
            expected: the number of events of each key.
            counted: whether the output carries running counts (the bare loop's does not).
            complete: whether the contender was given the time to finish.
        """
        found: list[str] = []
        for key, counts in self.counts.items():
            if counted and counts != list(range(1, len(counts) + 1)):
                found.append(f"{key.decode()}: counts out of order, lost or doubled")
            if len(counts) > expected[key] or (complete and len(counts) != expected[key]):
                found.append(f"{key.decode()}: {len(counts)} outputs for {expected[key]} events")
        if complete:
            found.extend(f"{key.decode()}: no output" for key in expected.keys() - self.counts.keys())
        return found


def read_output(bootstrap_servers: str, topic: str) -> Output:
    """Read a topic from its start to its present end, committed records only.

    Raises:
        RuntimeError: the end was not reached in a minute, or Kafka reported an error.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"{topic}-audit",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    ends = stable_offsets(admin_client(bootstrap_servers), topic)
    output, ended, give_up_at = Output(), set[int](), time.perf_counter() + READ_TIMEOUT_S
    while len(ended) < PARTITIONS:
        if time.perf_counter() > give_up_at:
            raise RuntimeError(f"{topic} could not be read to its end in {READ_TIMEOUT_S} s")
        messages: list[Any] = consumer.consume(10_000, 0.1)  # Any: a consumed record has what the stub doubts
        for message in messages:
            error = message.error()
            if error is None and message.offset() < ends[message.partition()]:
                output.add(message.partition(), message)
            elif error is None or error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())  # one who still writes may be so quick that it never comes to the end
            else:
                raise RuntimeError(f"reading {topic}: {error}")
    consumer.close()
    return output


@dataclass(frozen=True, slots=True)
class Throughput:
    """Committed outputs per second, after the warm-up, and where they came from."""

    records: int
    start_s: float
    end_s: float
    commits_seen: int
    events_per_s_by_fifth: list[float]

    @property
    def events_per_s(self) -> float:
        return self.records / (self.end_s - self.start_s)


def throughput(samples: list[Sample], output: Output, warm_up_records: int) -> Throughput:
    """`throughput_of` an output topic that was sampled."""
    return throughput_of([(sample.at_s, output.visible_at(sample)) for sample in samples], warm_up_records)


def throughput_of(visible: list[tuple[float, int]], warm_up_records: int) -> Throughput:
    """From the first commit that completes the warm-up to the last commit.

    Both ends are commits, so neither long nor short transactions gain. Start-up and warm-up of an interpreter or a JIT
    are outside; every steady cost (commits, changelog, store) is inside.

    Args:
        visible: moments, and how many records a reader could see at each.
        warm_up_records: what is not measured.

    Raises:
        RuntimeError: there was no second commit after the warm-up to measure to.
    """
    steps = [visible[0], *(now for before, now in pairwise(visible) if now[1] > before[1])]
    after = [step for step in steps if step[1] >= max(warm_up_records, 1)]
    if len(after) < 2:
        raise RuntimeError(f"only {len(after)} commits seen after the warm-up of {warm_up_records}: run more events")
    (start_s, start), (end_s, end) = after[0], after[-1]
    return Throughput(end - start, start_s, end_s, len(after), by_fifth(steps))


def by_fifth(steps: list[tuple[float, int]]) -> list[float]:
    """The rate over each fifth of the records: shows whether a contender was still warming up."""
    last = steps[-1][1]
    marks = [next(step for step in steps if step[1] >= max(1, last * fifth // 5)) for fifth in range(6)]
    return [
        round((end - start) / (end_s - start_s)) if end_s > start_s else 0 for (start_s, start), (end_s, end) in pairwise(marks)
    ]
