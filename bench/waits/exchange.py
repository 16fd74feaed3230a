"""Records sent to a contender that counts, and its outputs as a read_committed reader sees them.

The n-th output of a key answers its n-th event. Stands between a load (`bench.waits.paced`, `bench.waits.in_flight`) and the
broker. One thread sends and reads, so that no interpreter's lock stands between the two clocks.
"""

import json
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.workload import PARTITIONS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

P = TypeVar("P")
KEYS = 10_000
START_TIMEOUT_S = 60.0
DRAIN_TIMEOUT_S = 60.0
AT_ONCE = 500
"""So many outputs are taken before the next input is due to be looked at."""
PREFIX = b"customer-"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the events go and where their outputs appear."""

    bootstrap_servers: str
    input: str
    output: str
    counted: bool = True
    """The outputs of a key carry its running count, which is looked at."""


@dataclass(frozen=True, slots=True)
class Plan(Generic[P]):
    """Where, and the phases one after the other."""

    place: Place
    phases: list[P]


class Counted(msgspec.Struct):
    """An output."""

    count: int


@dataclass(slots=True)
class Exchange:
    """The producer, the reader, and what is under way between them."""

    place: Place
    number: int = 0
    under_way: int = 0
    counts_from_s: float = float("inf")
    """The time of an event that was sent earlier is not noted."""
    taken_s: list[float] = field(default_factory=list[float])
    _sent_s: list[deque[float]] = field(default_factory=lambda: [deque[float]() for _ in range(KEYS)])
    _seen: list[int] = field(default_factory=lambda: [0] * KEYS)
    _producer: Producer = field(init=False)
    _consumer: Consumer = field(init=False)
    _decode: Callable[[bytes], Counted] = field(init=False)

    def __post_init__(self) -> None:
        servers = {"bootstrap.servers": self.place.bootstrap_servers, "log_level": 4}
        self._producer = Producer({**servers, "linger.ms": 0, "partitioner": "murmur2_random", "enable.idempotence": True})
        self._consumer = Consumer(
            {**servers, "group.id": f"{self.place.output}-reader", "enable.auto.commit": False,
             "isolation.level": "read_committed", "auto.offset.reset": "error"}
        )  # fmt: skip
        self._consumer.assign([TopicPartition(self.place.output, partition, 0) for partition in range(PARTITIONS)])
        self._decode = msgspec.json.Decoder(Counted).decode

    def begin(self) -> None:
        """Send one event and wait for its output: the contender is there.

        Raises:
            RuntimeError: it was not in a minute.
        """
        self.send(0)
        self.drain(START_TIMEOUT_S)

    def send(self, key: int, more: bytes = b"") -> None:
        """Send an event of that key; `more` are fields of it in JSON, with a comma before them."""
        value = b'{"id":%d,"customer":"customer-%d","amount":%d.5,"note":"%s"%s}' % (self.number, key, key, b"x" * 40, more)
        self._producer.produce(self.place.input, value, PREFIX + b"%d" % key)
        self._sent_s[key].append(time.perf_counter())
        self.number, self.under_way = self.number + 1, self.under_way + 1

    def read(self, timeout_s: float) -> int:
        """Take the outputs that are there, or wait so long for a first one; how many there were.

        Raises:
            RuntimeError: an output is not what it should be.
        """
        self._producer.poll(0)
        first: Any = self._consumer.poll(timeout_s)
        if first is None:
            return 0
        self._take(first, time.perf_counter())
        more: list[Any] = self._consumer.consume(AT_ONCE, 0)
        for message in more:
            self._take(message, time.perf_counter())
        return 1 + len(more)

    def drain(self, timeout_s: float = DRAIN_TIMEOUT_S) -> None:
        """Wait for the last output.

        Raises:
            RuntimeError: outputs are missing, or not what they should be.
        """
        give_up_at = time.perf_counter() + timeout_s
        while self.under_way:
            self.read(0.05)
            if time.perf_counter() > give_up_at:
                raise RuntimeError(f"{self.under_way} of {self.number} outputs did not come in {timeout_s:.0f} s")

    def close(self) -> None:
        self._consumer.close()

    def _take(self, message: Any, now_s: float) -> None:
        if message.error() is not None:
            raise RuntimeError(f"reading {self.place.output}: {message.error()}")
        key = int(message.key()[len(PREFIX) :])
        self._seen[key] += 1
        if not self._sent_s[key]:
            raise RuntimeError(f"customer-{key}: {self._seen[key]} outputs, and fewer events")
        if self.place.counted and self._decode(message.value()).count != self._seen[key]:
            raise RuntimeError(f"customer-{key}: {message.value()!r} where {self._seen[key]} was to come")
        sent_s = self._sent_s[key].popleft()
        self.under_way -= 1
        if sent_s >= self.counts_from_s:
            self.taken_s.append(now_s - sent_s)


def carry_out(plan_type: type[Plan[P]], seen: "Callable[[Exchange, P], DataclassInstance]", what: str) -> None:
    """Read the plan from the command line, print what was seen in each phase as JSON; what went wrong goes to stderr."""
    plan = msgspec.json.decode(sys.argv[1], type=plan_type)
    exchange = Exchange(plan.place)
    try:
        exchange.begin()
        print(json.dumps([asdict(seen(exchange, phase)) for phase in plan.phases]))
    except RuntimeError as failed:
        sys.exit(f"{what} failed: {failed}")
    finally:
        exchange.close()
