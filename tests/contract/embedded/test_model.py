"""The embedded log against the simplest thing that could be right: lists in a dictionary, through random histories."""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from odradek_runtime.log.embedded import EmbeddedLog
from odradek_runtime.log.embedded.partitioner import partition_of
from odradek_runtime.log.port import Committed, Output, Partition, Refused
from tests.contract.embedded.conftest import Clock, make_app
from tests.contract.station import Station, content

SHARDS = 2
TOPICS = ("queue", "table", "app.state", "app.journal")
KEYS = st.sampled_from([b"a", b"b", b"c", b"d\x00"])
VALUES = st.none() | st.binary(max_size=3)
PAIRS = st.lists(st.tuples(KEYS, VALUES), max_size=4)
PARTITIONS = st.builds(Partition, st.sampled_from(TOPICS), st.integers(0, SHARDS - 1))
TOMBSTONE_S = 60


@dataclass
class ModelPartition:
    """What a partition holds, as one would write it down by hand."""

    first: int = 0
    end: int = 0
    rows: dict[int, tuple[bytes, bytes | None]] = field(default_factory=dict[int, tuple[bytes, bytes | None]])

    def append(self, key: bytes, value: bytes | None) -> None:
        self.rows[self.end] = (key, value)
        self.end += 1

    def trim(self, before: int) -> None:
        self.first = max(self.first, before)
        self.rows = {offset: row for offset, row in self.rows.items() if offset >= self.first}

    def compact(self) -> None:
        newest = {key: offset for offset, (key, _) in self.rows.items()}
        self.rows = {offset: row for offset, row in self.rows.items() if newest[row[0]] == offset}

    def bury(self) -> None:
        self.rows = {offset: row for offset, row in self.rows.items() if row[1] is not None}


class LogAgainstModel(RuleBasedStateMachine):
    """Appends, commits, refusals, trims, scans, cleaning, restarts."""

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.model = {Partition(topic, p): ModelPartition() for topic in TOPICS for p in range(SHARDS)}
        self.committed: dict[int, int] = {}
        self.published = 0
        self.start()
        make_app(self.log, "app", SHARDS)
        self.log.create_topic("queue", SHARDS, {"retention.ms": "-1"})
        self.log.create_topic("table", SHARDS, {"cleanup.policy": "compact", "delete.retention.ms": str(TOMBSTONE_S * 1000)})
        self.join()

    def start(self) -> None:
        self.log = EmbeddedLog(self.folder, fsync=False, clock=self.clock, clean_interval_s=0)

    def join(self) -> None:
        self.station = Station(self.log, "app", SHARDS).join().own(set(range(SHARDS)))

    @rule(outputs=PAIRS, state=PAIRS, journal=PAIRS, shard=st.integers(0, SHARDS - 1), topic=st.sampled_from(TOPICS[:2]))
    def commit(
        self,
        outputs: list[tuple[bytes, bytes | None]],
        state: list[tuple[bytes, bytes | None]],
        journal: list[tuple[bytes, bytes | None]],
        shard: int,
        topic: str,
    ) -> None:
        offset = self.committed.get(shard, 0) + 1
        transaction = self.station.transaction(
            [shard],
            [Output(topic, None, key, value) for key, value in outputs],
            offsets={Partition("app.commands", shard): offset},
        )
        transaction.state[shard], transaction.journal[shard] = state, journal
        done = self.station.commit(transaction)
        assert isinstance(done, Committed)
        for key, value in outputs:
            self.model[Partition(topic, partition_of(key, SHARDS))].append(key, value)
        for name, rows in (("app.state", state), ("app.journal", journal)):
            for key, value in rows:
                self.model[Partition(name, shard)].append(key, value)
        position = done.positions[shard]
        assert position.state == (self.model[Partition("app.state", shard)].end if state else None)
        assert position.journal == (self.model[Partition("app.journal", shard)].end if journal else None)
        self.committed[shard] = offset

    @rule(state=PAIRS, shard=st.integers(0, SHARDS - 1))
    def commit_as_a_zombie(self, state: list[tuple[bytes, bytes | None]], shard: int) -> None:
        transaction = self.station.transaction([shard], [Output("queue", 0, b"k", b"zombie")])
        transaction.stamps = {shard: self.station.stamps[shard] - 1}
        transaction.state[shard] = state
        assert isinstance(self.station.commit(transaction), Refused)

    @rule(rows=PAIRS, partition=PARTITIONS)
    def publish(self, rows: list[tuple[bytes, bytes | None]], partition: Partition) -> None:
        self.published += 1
        outputs = [Output(partition.topic, partition.partition, key, value) for key, value in rows]
        self.log.publisher("p").publish(outputs, self.published)
        for key, value in rows:
            self.model[partition].append(key, value)

    @rule(partition=st.builds(Partition, st.just("queue"), st.integers(0, SHARDS - 1)), back=st.integers(0, 6))
    def trim(self, partition: Partition, back: int) -> None:
        before = max(0, self.model[partition].end - back)
        self.log.trim(partition, before)
        self.model[partition].trim(before)

    @rule(partition=PARTITIONS, start=st.integers(0, 9), length=st.integers(0, 9))
    def scan(self, partition: Partition, start: int, length: int) -> None:
        model = self.model[partition]
        start = min(model.first + start, model.end)
        stop = min(start + length, model.end)
        found = {m.offset(): (m.key(), m.value()) for batch in self.log.scan(partition, start, stop) for m in batch}
        assert found == {offset: row for offset, row in model.rows.items() if start <= offset < stop}

    @rule(wait=st.booleans())
    def clean(self, wait: bool) -> None:
        """Twice, so that tombstones which the first pass has dated fall due."""
        for model in self.compacted():
            model.compact()
        self.clean_all()
        if wait:
            self.clock.now_s += 2 * 24 * 3600
            for model in self.compacted():
                model.bury()
            self.clean_all()

    def clean_all(self) -> None:
        while self.log.clean():
            pass

    def compacted(self) -> list[ModelPartition]:
        return [model for partition, model in self.model.items() if partition.topic != "queue"]

    @rule()
    def restart(self) -> None:
        self.station.leave()
        self.log.close()
        self.start()
        self.join()

    @invariant()
    def the_log_holds_what_the_model_holds(self) -> None:
        for partition, model in getattr(self, "model", {}).items():
            assert self.log.offsets(partition) == (model.first, model.end)
            assert {m.offset(): (m.key(), m.value()) for m in content(self.log, partition)} == model.rows
        if hasattr(self, "log"):
            assert {s: self.station.member.settle(s) for s in range(SHARDS)} == {s: self.committed.get(s) for s in range(SHARDS)}
            assert self.log.publisher("p").position() == self.published

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.station.leave()
            self.log.close()
            shutil.rmtree(self.folder)


LogAgainstModel.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLogAgainstModel = LogAgainstModel.TestCase
