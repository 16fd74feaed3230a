"""One trial: three brokers, the driver, a choreography around three processors, the verdict; then the rest is read and judged.

Stands above the oracle, the processors and the choreography; `test_eos` and `__main__` run it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from confluent_kafka import Consumer, Producer, TopicPartition

from tests.broker import KafkaCluster, create_topics
from tests.eos.choreography import GROUP, Stage
from tests.eos.oracle import Oracle, Verdict
from tests.eos.processors import Odradek, Processor, Streams, left_of
from tests.eos.segments import longest_silence_s
from tests.faults.workers import until

OTHERS = ("data", "min", "sum", "repartition", "max", "cnt")
PARTITIONS = 5
Name = Literal["rebalance-simple", "rebalance-complex", "failure-simple", "failure-complex", "many", "storm"]
ORIGINAL: tuple[Name, ...] = ("rebalance-simple", "rebalance-complex", "failure-simple", "failure-complex")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. `children` False: a kill leaves the producers' processes alive, which must end by themselves."""

    name: Name
    impl: Literal["odradek", "streams"] = "odradek"
    drivers: int = 1
    seconds: float = 60.0
    seed: int = 1
    children: bool = True
    flags: Sequence[str] = ()
    overlay: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. `drained` judges what was there when one processor had read the rest."""

    verdict: Verdict
    drained: Verdict
    kills: int
    produced: int
    silence_s: float
    total_s: float
    story: Sequence[str]


class Trial:
    """One trial in a folder of its own. Run it once, then close it."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._cluster = KafkaCluster(folder / "kafka", brokers=3, properties={"auto.create.topics.enable": "false"})
        self._processors: list[Processor] = []
        self._oracle: Oracle | None = None
        self._complex = plan.name != "rebalance-simple" and plan.name != "failure-simple"

    def __enter__(self) -> Trial:
        self._cluster.start()
        return self

    def __exit__(self, *_: object) -> None:
        for processor in self._processors:
            processor.end()
        if self._oracle is not None:
            self._oracle.close()
        self._cluster.close()

    def run(self) -> Outcome:
        """Everything, from the topics to the second verdict."""
        began = time.monotonic()
        plan, servers = self._plan, self._cluster.bootstrap_servers
        self._make_topics(servers)
        oracle = self._oracle = Oracle(servers, self._folder, complex_=self._complex)
        self._processors = [self._processor(name, oracle, keep=name == "p1") for name in ("p1", "p2", "p3")]
        stage = Stage(servers, self._processors, random.Random(plan.seed), children=plan.children)
        oracle.drive(plan.drivers)
        self._perform(stage)
        produced, rested_ms = oracle.rest(), int(time.time() * 1000)
        verdict = oracle.verify()
        self._nothing_is_left()
        self._drain(stage)
        drained = oracle.verify("verify-drained")
        silence_s = longest_silence_s(self._folder / "kafka", "echo", PARTITIONS, rested_ms)
        return Outcome(verdict, drained, stage.kills, produced, silence_s, time.monotonic() - began, stage.story)

    def judge_a_double(self) -> Verdict:
        """A control: with one record of echo too many the verifier must not pass."""
        assert self._oracle is not None
        producer = Producer({"bootstrap.servers": self._cluster.bootstrap_servers})
        producer.produce("echo", key=b"1", value=b"\x00\x00\x00\x01", partition=0)
        producer.flush(10)
        return self._oracle.verify("verify-double")

    def _perform(self, stage: Stage) -> None:
        match self._plan.name.partition("-")[0]:
            case "rebalance":
                stage.rebalance()
            case "failure":
                stage.failure()
            case "many":
                stage.many()
            case _:
                stage.storm(self._plan.seconds)

    def _make_topics(self, servers: str) -> None:
        # echo's records carry the time of their arrival: silences are read from it.
        create_topics(servers, {"echo": PARTITIONS}, {"message.timestamp.type": "LogAppendTime"})
        create_topics(servers, dict.fromkeys(OTHERS, PARTITIONS))

    def _processor(self, name: str, oracle: Oracle, *, keep: bool) -> Processor:
        plan, servers = self._plan, self._cluster.bootstrap_servers
        if plan.impl == "streams":
            return Streams(name, self._folder, servers, oracle, keep=keep)
        return Odradek(name, self._folder, servers, keep=keep, complex_=self._complex, flags=plan.flags, overlay=plan.overlay)

    def _nothing_is_left(self) -> None:
        groups = {group for processor in self._processors for group in processor.orphans}
        until(lambda: not left_of(groups), "the end of producers' processes whose worker was killed", 30.0, every_s=0.1)

    def _drain(self, stage: Stage) -> None:
        """One processor reads what is left."""
        one = self._processors[0]
        one.start()
        until(lambda: stage.members() == 1, "a group of one", every_s=0.1)
        until(self._read, "the end of the backlog", every_s=0.5)
        one.stop()

    def _read(self) -> bool:
        """Whether nothing is left: what lies behind the committed offsets is the marker of a transaction, at most."""
        consumer = Consumer({"bootstrap.servers": self._cluster.bootstrap_servers, "group.id": GROUP})
        try:
            for topic in ("data", "repartition") if self._complex else ("data",):
                places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
                for place in consumer.committed(places, 20):
                    end = consumer.get_watermark_offsets(TopicPartition(topic, place.partition), 20)[1]
                    if end - max(place.offset, 0) > (topic == "repartition"):
                        return False
        finally:
            consumer.close()
        return True
