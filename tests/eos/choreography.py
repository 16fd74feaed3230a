"""Who comes, goes and is killed when: the four tests of Kafka's `streams_eos_test.py`, and two that are harder.

A step of the original waits until the group is stable and each processor has told of records; so does each step here. kill -9 comes
up to 0.4 s after such a line, for odradek's transactions are short and the line is printed between two of them.
"""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable, Sequence

from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

from tests.eos.processors import Processor
from tests.faults.workers import until

STEP_S = 240.0
GROUP = "EosTest"


class Stage:
    """The three processors and what was done to them. `children`: a kill takes producers' processes along."""

    def __init__(self, servers: str, processors: Sequence[Processor], chance: random.Random, *, children: bool) -> None:
        self.kills = 0
        self.story: list[str] = []
        self._processors = processors
        self._chance = chance
        self._children = children
        self._admin = AdminClient({"bootstrap.servers": servers})
        self._began_s = time.monotonic()

    def rebalance(self) -> None:
        """Come, go and come again."""
        one, two, three = self._processors
        self._all_come()
        self._stop(one, two, three)
        self._add(one, two, three)
        self._stop(two, one, three)
        self._stop(three, one)
        self._stop(one)

    def failure(self) -> None:
        """Three kills."""
        one, two, three = self._processors
        self._all_come()
        self._kill(one, two, three)
        self._add(one, two, three)
        self._kill(one, two, three)
        self._add(one, two, three)
        self._kill(two, one, three)
        self._stop(three, one)
        self._stop(one)

    def many(self, kills: int = 8) -> None:
        """As `failure`, with more kills of any of the three."""
        self._all_come()
        for _ in range(kills):
            gone = self._chance.choice(self._processors)
            others = [processor for processor in self._processors if processor is not gone]
            self._kill(gone, *others)
            self._add(gone, *others)
        self._all_go()

    def storm(self, seconds: float) -> None:
        """Nobody waits: kills, stops and starts every 0.3 to 4 s, amid rebalances and restores too."""
        for processor in self._processors:
            self._note("starts", processor)
            processor.start()
        ends_s = time.monotonic() + seconds
        time.sleep(4.0)  # the first must have begun: what dies before that is a start that never was
        while time.monotonic() < ends_s:
            self._strike(self._chance.choice(self._processors))
            time.sleep(self._chance.uniform(0.3, 4.0))
        for processor in self._processors:
            if not processor.running:
                processor.start()
        self.settled(*self._processors)
        self._all_go()

    def settled(self, *live: Processor) -> None:
        """Wait until the group is stable with these alone, and each of them has processed records since."""
        until(lambda: self.members() == len(live), f"a stable group of {len(live)}", STEP_S, every_s=0.1)
        marks = {processor: processor.mark() for processor in live}
        for processor in live:
            told: Callable[[], bool] = lambda p=processor: p.processed_since(marks[p])  # noqa: E731
            until(told, f"records processed by {processor.name}", STEP_S, every_s=0.05)
        self._note("settled", *live)

    def members(self) -> int:
        """How many members the stable group has; -1 while it is not stable."""
        try:
            with warnings.catch_warnings():  # describe_consumer_groups, which it names, ends the process on a fresh cluster:
                warnings.simplefilter("ignore", DeprecationWarning)  # an assertion of librdkafka's (rdkafka_queue.h:1086)
                groups = self._admin.list_groups(GROUP, timeout=5)
            state = str(groups[0].state) if groups else ""
            if state == "Dead":  # also one of the consumer protocol: that is not told here
                return self._members_of_consumer_protocol()
            return len(groups[0].members) if state == "Stable" else -1
        except KafkaException:
            return -1

    def _members_of_consumer_protocol(self) -> int:
        group = self._admin.describe_consumer_groups([GROUP], request_timeout=5)[GROUP].result()
        return len(group.members) if group.state == ConsumerGroupState.STABLE else -1

    def _all_come(self) -> None:
        for number, processor in enumerate(self._processors):
            self._add(processor, *self._processors[:number])

    def _all_go(self) -> None:
        for number in reversed(range(len(self._processors))):
            self._stop(self._processors[number], *self._processors[:number])

    def _add(self, new: Processor, *others: Processor) -> None:
        self._note("starts", new)
        new.start()
        self.settled(new, *others)

    def _stop(self, gone: Processor, *others: Processor) -> None:
        self._note("is told to stop", gone)
        gone.stop()
        if others:
            self.settled(*others)

    def _kill(self, gone: Processor, *others: Processor) -> None:
        time.sleep(self._chance.uniform(0.0, 0.4))
        self._strike_dead(gone)
        self.settled(*others)

    def _strike(self, processor: Processor) -> None:
        if not processor.running:
            self._note("starts", processor)
            processor.start()
        elif self._chance.random() < 0.75:
            self._strike_dead(processor)
        else:
            self._note("is told to stop", processor)
            processor.stop()

    def _strike_dead(self, processor: Processor) -> None:
        self._note("is killed", processor)
        processor.kill(children=self._children)
        self.kills += 1

    def _note(self, what: str, *who: Processor) -> None:
        names = ", ".join(processor.name for processor in who)
        self.story.append(f"{time.monotonic() - self._began_s:7.2f} s  {names} {what}")
