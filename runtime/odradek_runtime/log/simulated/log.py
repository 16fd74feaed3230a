"""The simulated log, as a process has it open (`log.port.Log`): it asks the brokers, which may take their time, or not answer.

Blocking questions are answered through the scheduler: in a strand the world goes on while they wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from odradek_runtime.log.port import LogError, Message, Output, Partition, Peer, TopicInfo
from odradek_runtime.log.simulated.brokers import TOPIC, Brokers
from odradek_runtime.log.simulated.member import SimulatedMember
from odradek_runtime.log.simulated.partition import PartitionLog
from odradek_runtime.log.simulated.publisher import Outside, SimulatedPublisher

STILL_MS = 30_000.0
SPARING_RECORDS = 10
"""At once, where a scan is to hold little."""


class SimulatedLog:
    """What one or more processes ask of the same brokers."""

    def __init__(self, brokers: Brokers) -> None:
        self.brokers = brokers
        self._outside = Outside(brokers)
        self._members = 0

    # --- topics ---

    def topic(self, name: str) -> TopicInfo | None:
        self._question("topic", often=0.1)
        if not TOPIC.fullmatch(name):
            raise LogError(f"{name!r} cannot be a topic", retriable=False)
        return self.brokers.topic(name)

    def ping(self, timeout_s: float) -> None:
        """Nobody asks here: time stands still while the real one would wait."""

    def topics(self) -> Sequence[str]:
        return self.brokers.topics()

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str]) -> TopicInfo:
        return self.brokers.create_topic(name, partitions, config)

    def delete_topic(self, name: str) -> None:
        self.brokers.delete_topic(name)

    # --- reading ---

    def offsets(self, partition: Partition) -> tuple[int, int]:
        self._question(f"offsets of {partition.topic}[{partition.partition}]", often=0.4)
        found = self.brokers.partition(partition)
        return found.first, found.end

    def offset_at(self, partition: Partition, timestamp_ms: int) -> int:
        self._question("offset at a time")
        return self.brokers.partition(partition).offset_at(timestamp_ms)

    def times_at(self, positions: Mapping[Partition, int]) -> Mapping[Partition, int]:
        logs = {partition: self.brokers.partition(partition) for partition in positions}
        found = {partition: log.read(positions[partition], log.stable, 1) for partition, log in logs.items()}
        return {partition: batch[0].timestamp()[1] for partition, batch in found.items() if batch}

    def scan(self, partition: Partition, start: int, stop: int, *, sparing: bool = False) -> Iterator[Sequence[Message]]:
        name = f"scan of {partition.topic}[{partition.partition}]"
        self._question(name)
        found = self.brokers.partition(partition)
        if start < found.first:
            raise LogError(f"{name} from {start}: it begins at {found.first}")
        position, most = start, self.brokers.batch_records
        if sparing:
            most = min(most, SPARING_RECORDS)
        while True:
            batch = found.read(position, stop, most)
            if batch:
                position = batch[-1].at + 1
                yield batch
                self._question(name)
            elif position >= stop or found.stable >= stop:
                return
            elif not self.brokers.scheduler.wait(name, self._grows(found), STILL_MS):
                raise LogError(f"{name} stands still: a transaction is open at {found.stable}")

    def _grows(self, partition: PartitionLog) -> Callable[[], bool]:
        before = partition.stable
        return lambda: partition.stable > before

    def trim(self, partition: Partition, before: int) -> None:
        self.brokers.partition(partition).trim(before)

    def _question(self, what: str, *, often: float = 1.0) -> None:
        """Every question may take a while (`often`: how often the world goes on meanwhile), and may fail."""
        scheduler = self.brokers.scheduler
        if scheduler.strand is not None and (often >= 1.0 or scheduler.rng.random() < often):
            scheduler.point(what)
        if scheduler.strand is not None and self.brokers.faults.hit("log_error"):
            raise LogError(f"{what}: the broker does not answer (simulated)")

    # --- groups ---

    def committed_offsets(self, app: str, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        group = self.brokers.groups.get(app)
        return {p: group.committed[p] for p in partitions if p in group.committed} if group is not None else {}

    def forget_group(self, app: str) -> None:
        group = self.brokers.groups.get(app)
        if group is not None:
            if group.members:
                raise LogError(f"the group {app!r} has members: stop the app's workers first", retriable=False)
            group.committed.clear()

    def shared_secret(self, app: str) -> bytes | None:
        return None

    def peers(self, app: str) -> Sequence[Peer]:
        return self.brokers.groups[app].peers() if app in self.brokers.groups else []

    def member(self, app: str, shards: int, url: str | None) -> SimulatedMember:
        member = SimulatedMember(self.brokers, self.brokers.group(app, shards), url, f"{app}-{self._members}")
        self._members += 1
        self.brokers.readers.append(member.look)
        return member

    # --- from outside ---

    def publisher(self, name: str) -> SimulatedPublisher:
        return self._outside.publisher(name)

    def write(self, name: str, outputs: Sequence[Output], position: int) -> list[tuple[Partition, int]]:
        """A whole transaction from outside, at once; gives where each record lies."""
        return self._outside.write(name, outputs, position)

    def close(self) -> None:
        """Nothing to free."""
