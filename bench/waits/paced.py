"""Produce at a given rate, and read the outputs as they become visible to a read_committed reader; a process of its own.

Stands around a contender that counts the events of each key and publishes `{"count": n}` for every one: the n-th output
of a key answers its n-th event. One thread does both, so that no interpreter's lock stands between the two clocks.

    python -m bench.waits.paced '{"bootstrap_servers": "...", "input": "...", "output": "...", "phases": [...]}'
"""

import json
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.waits.load import percentiles_s
from bench.workload import PARTITIONS

KEYS = 10_000
START_TIMEOUT_S = 60.0
DRAIN_TIMEOUT_S = 60.0
AT_ONCE = 500
"""So many outputs are taken before the next input is due to be looked at."""


@dataclass(frozen=True, slots=True)
class Phase:
    """So many records a second for so long; what is sent in the first `warm_up_s` does not count."""

    per_s: int
    seconds: float
    warm_up_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Where, and the phases one after the other."""

    bootstrap_servers: str
    input: str
    output: str
    phases: list[Phase]


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a phase; moments are of `time.perf_counter()`."""

    per_s: int
    records: int
    sent_per_s: float
    p50_ms: float
    p99_ms: float
    start_s: float
    end_s: float


class Counted(msgspec.Struct):
    """An output."""

    count: int


@dataclass(slots=True)
class Pacing:
    """The producer, the reader, and what is under way between them."""

    plan: Plan
    sent: list[deque[float]] = field(default_factory=lambda: [deque[float]() for _ in range(KEYS)])
    expected: list[int] = field(default_factory=lambda: [0] * KEYS)
    number: int = 0
    under_way: int = 0
    counts_from_s: float = float("inf")
    taken_s: list[float] = field(default_factory=list[float])
    _producer: Producer = field(init=False)
    _consumer: Consumer = field(init=False)
    _decode: Callable[[bytes], Counted] = field(init=False)

    def __post_init__(self) -> None:
        servers = {"bootstrap.servers": self.plan.bootstrap_servers, "log_level": 4}
        self._producer = Producer({**servers, "linger.ms": 0, "partitioner": "murmur2_random", "enable.idempotence": True})
        self._consumer = Consumer(
            {**servers, "group.id": f"{self.plan.output}-paced", "enable.auto.commit": False,
             "isolation.level": "read_committed", "auto.offset.reset": "error"}
        )  # fmt: skip
        self._consumer.assign([TopicPartition(self.plan.output, partition, 0) for partition in range(PARTITIONS)])
        self._decode = msgspec.json.Decoder(Counted).decode

    def phase(self, phase: Phase) -> Seen:
        """Send at that rate, read meanwhile, wait for the last output.

        Raises:
            RuntimeError: outputs are missing, or not what they should be.
        """
        self.taken_s = []
        began_s = time.perf_counter()
        self.counts_from_s = began_s + phase.warm_up_s
        ends_s, period_s, due_s = self.counts_from_s + phase.seconds, 1 / phase.per_s, began_s
        first = 0
        while (now_s := time.perf_counter()) < ends_s:
            if not first and now_s >= self.counts_from_s:
                first = self.number
            while due_s <= now_s:
                self._send()
                due_s += period_s
            self._producer.poll(0)
            self._read(max(due_s - time.perf_counter(), 0))
        sent = self.number - first
        self._drain()
        p50_s, p99_s = percentiles_s(self.taken_s)
        return Seen(
            phase.per_s, len(self.taken_s), round(sent / phase.seconds, 1), round(p50_s * 1000, 3), round(p99_s * 1000, 3),
            self.counts_from_s, ends_s,
        )  # fmt: skip

    def begin(self) -> None:
        """Send one event and wait for its output: the contender is there.

        Raises:
            RuntimeError: it was not in a minute.
        """
        self._send()
        self._drain(START_TIMEOUT_S)

    def _send(self) -> None:
        number = self.number
        key = number % KEYS
        value = b'{"id":%d,"customer":"customer-%d","amount":%d.5,"note":"%s"}' % (number, key, key, b"x" * 40)
        self._producer.produce(self.plan.input, value, b"customer-%d" % key)
        self.sent[key].append(time.perf_counter())
        self.number, self.under_way = number + 1, self.under_way + 1

    def _read(self, timeout_s: float) -> None:
        first: Any = self._consumer.poll(timeout_s)
        if first is None:
            return
        self._take(first, time.perf_counter())
        for message in self._consumer.consume(AT_ONCE, 0):
            self._take(message, time.perf_counter())

    def _take(self, message: Any, now_s: float) -> None:
        if message.error() is not None:
            raise RuntimeError(f"reading {self.plan.output}: {message.error()}")
        key = int(message.key()[len("customer-") :])
        self.expected[key] += 1
        if self._decode(message.value()).count != self.expected[key]:
            raise RuntimeError(f"customer-{key}: {message.value()!r} where {self.expected[key]} was to come")
        sent_s = self.sent[key].popleft()
        self.under_way -= 1
        if sent_s >= self.counts_from_s:
            self.taken_s.append(now_s - sent_s)

    def _drain(self, timeout_s: float = DRAIN_TIMEOUT_S) -> None:
        give_up_at = time.perf_counter() + timeout_s
        while self.under_way:
            self._producer.poll(0)
            self._read(0.05)
            if time.perf_counter() > give_up_at:
                raise RuntimeError(f"{self.under_way} of {self.number} outputs did not come in {timeout_s:.0f} s")

    def close(self) -> None:
        self._consumer.close()


def main() -> None:
    """Read the plan from the command line, print what was seen in each phase as JSON; what went wrong goes to stderr."""
    pacing = Pacing(msgspec.json.decode(sys.argv[1], type=Plan))
    try:
        pacing.begin()
        print(json.dumps([asdict(pacing.phase(phase)) for phase in pacing.plan.phases]))
    except RuntimeError as failed:
        sys.exit(f"pacing failed: {failed}")
    finally:
        pacing.close()


if __name__ == "__main__":
    main()
