"""The simulated log: what Kafka does to those who read and write it, in one thread, decided by a seed (`log.port.Log`).

Blocking questions are answered through the scheduler: in a strand the world goes on while they wait.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from odradek_runtime.log.port import LogError, Message, Output, Partition, Peer, Refusal, TopicInfo, Transaction
from odradek_runtime.log.sizes import LIMIT_BYTES, record_bytes
from odradek_runtime.routing import shard_of

from .faults import Faults
from .group import SimGroup
from .member import SimMember
from .partition import PartitionLog
from .scheduler import Scheduler
from .transaction import SimTransaction

STILL_MS = 30_000.0
SPARING_RECORDS = 10
"""At once, where a scan is to hold little."""
TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
INDIGESTIBLE = b"indigestible"
"""An input may have it, but nothing that an app writes: even the dead letter, or the command that forwards it, is refused."""


class Auditor(Protocol):
    """Who watches every order and every decision."""

    def sent(self, member: SimMember, transaction: Transaction) -> None: ...

    def committed(self, transaction: SimTransaction) -> None: ...


class Blind:
    """Watches nothing."""

    def sent(self, member: SimMember, transaction: Transaction) -> None:
        """Let it pass."""

    def committed(self, transaction: SimTransaction) -> None:
        """Let it pass."""


class BadRecord(LogError):
    """A record that no broker takes."""


class SimLog:
    """A cluster in memory. `batch_records`: the most records a fetch gives."""

    def __init__(
        self,
        scheduler: Scheduler,
        faults: Faults,
        auditors: Mapping[str, Auditor] | None = None,
        *,
        batch_records: int = 1_000,
        mean_ms: float = 1.0,
    ) -> None:
        self.scheduler = scheduler
        self.faults = faults
        self._auditors = auditors if auditors is not None else {}
        """By app."""
        self.batch_records = batch_records
        self.mean_ms = mean_ms
        self.refused: set[str] = set()
        """Topics whose records the brokers refuse, though nothing is amiss with them."""
        self.changelogs_alone = False
        """Rights to other topics are never taken away."""
        self._denied: dict[str, float] = {}
        self._denied_abroad: dict[tuple[str, str], float] = {}
        """Until when an app may not write to another's topic. It hears of that when it tries to."""
        """Topics that nobody may write to, and until when."""
        self.classic = False
        """Which protocol groups follow that are made from now on."""
        self.groups: dict[str, SimGroup] = {}
        self.members: list[SimMember] = []
        self._topics: dict[str, tuple[TopicInfo, list[PartitionLog]]] = {}
        self._publishers: dict[str, SimPublisher] = {}
        self._positions: dict[str, int] = {}
        self._robin = 0
        self._made = 0

    # --- topics ---

    def topic(self, name: str) -> TopicInfo | None:
        self._question("topic", often=0.1)
        if not TOPIC.fullmatch(name):
            raise LogError(f"{name!r} cannot be a topic", retriable=False)
        if name not in self._topics:
            return None
        info = self._topics[name][0]
        return replace(info, writable=False) if self._denies(name) else info

    def examine(self, app: str, transaction: Transaction) -> None:
        """Raises LogError for what the brokers do not take: its `refusal` is a missing right, else the record is to blame."""
        outputs = [Output(*output) for output in transaction.outputs]
        own = [f"{app}.{name}" for name in ("state", "journal") if getattr(transaction, name)]
        for topic in sorted({output.topic for output in outputs}.union(own)):
            if (topic in own or not self.changelogs_alone) and self.faults.hit("denied"):  # for a while, by somebody
                self._denied[topic] = self.scheduler.now_ms + self.faults.rights.choice((50.0, 2_000.0, 20_000.0))
            abroad = topic.endswith(".commands") and topic != f"{app}.commands"
            if abroad and not self.changelogs_alone and self.faults.hit("denied_abroad"):
                until_ms = self.scheduler.now_ms + self.faults.abroad.choice((50.0, 2_000.0, 20_000.0))
                self._denied_abroad[app, topic] = until_ms
            if self._denies(topic) or self.scheduler.now_ms < self._denied_abroad.get((app, topic), 0.0):
                refusal = Refusal(topic, "Write", f"Kafka refuses Write on topic {topic} (simulated): add an ACL for Write")
                raise LogError(refusal.message, refusal=refusal)
        for output in outputs:
            self.take(output)

    def _denies(self, topic: str) -> bool:
        return self.scheduler.now_ms < self._denied.get(topic, 0.0)

    def ping(self, timeout_s: float) -> None:
        """Nobody asks here: time stands still while the real one would wait."""

    def topics(self) -> Sequence[str]:
        return sorted(self._topics)

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str]) -> TopicInfo:
        if name not in self._topics:
            if not TOPIC.fullmatch(name) or partitions < 1:
                raise LogError(f"{name!r} with {partitions} partitions cannot be a topic", retriable=False)
            self._made += 1
            info = TopicInfo(name, f"id-{self._made}", partitions, dict(config))
            self._topics[name] = info, [PartitionLog(Partition(name, n), info) for n in range(partitions)]
        return self._topics[name][0]

    def delete_topic(self, name: str) -> None:
        self._topics.pop(name, None)

    def committed_offsets(self, app: str, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        group = self.groups.get(app)
        return {p: group.committed[p] for p in partitions if p in group.committed} if group is not None else {}

    def forget_group(self, app: str) -> None:
        group = self.groups.get(app)
        if group is not None:
            if group.members:
                raise LogError(f"the group {app!r} has members: stop the app's workers first", retriable=False)
            group.committed.clear()

    def make_anew(self, name: str) -> TopicInfo:
        """Delete a topic and make it again: another one under its name."""
        old, _ = self._topics.pop(name)
        return self.create_topic(name, old.partitions, old.config)

    def partition(self, where: Partition) -> PartitionLog:
        """One partition. Raises LogError when there is none."""
        found = self._topics.get(where.topic)
        if found is None or not 0 <= where.partition < len(found[1]):
            raise LogError(f"there is no partition {where.topic}[{where.partition}]")
        return found[1][where.partition]

    def partitions(self) -> list[PartitionLog]:
        return [partition for _, partitions in self._topics.values() for partition in partitions]

    def take(self, output: Output) -> None:
        """What the brokers make of a record of an app. Raises BadRecord when they do not take it, whatever is wrong with it."""
        self.target(output)
        if INDIGESTIBLE in (output.value or b""):
            raise BadRecord(f"topic {output.topic} does not take such records (simulated)")

    def target(self, output: Output) -> PartitionLog:
        """Where a record goes. Raises BadRecord when the brokers would not take it."""
        found = self._topics.get(output.topic)
        if found is None:
            raise BadRecord(f"topic {output.topic} does not exist")
        if output.topic in self.refused:
            raise BadRecord(f"topic {output.topic} takes no records (simulated)")
        number = output.partition
        if number is None:
            self._robin += output.key is None
            number = self._robin % len(found[1]) if output.key is None else shard_of(output.key, len(found[1]))
        if not 0 <= number < len(found[1]):
            raise BadRecord(f"{output.topic} has no partition {number}")
        if self.excess(output):
            raise BadRecord(f"a record for {output.topic} is too large")
        return found[1][number]

    def has(self, topic: str) -> bool:
        return topic in self._topics

    def excess(self, output: Output) -> int:
        """By how many bytes a record is larger than its topic takes; 0 if it is not."""
        size = len(output.key or b"") + len(output.value or b"")
        size += sum(len(name) + len(text or b"") for name, text in output.headers or ())
        limit = int(self._topics[output.topic][0].config.get("max.message.bytes", LIMIT_BYTES))
        return 0 if size < limit - 10_000 else max(record_bytes(output.key, output.value, output.headers) - limit, 0)

    # --- reading ---

    def offsets(self, partition: Partition) -> tuple[int, int]:
        self._question(f"offsets of {partition.topic}[{partition.partition}]", often=0.4)
        found = self.partition(partition)
        return found.first, found.end

    def offset_at(self, partition: Partition, timestamp_ms: int) -> int:
        self._question("offset at a time")
        return self.partition(partition).offset_at(timestamp_ms)

    def times_at(self, positions: Mapping[Partition, int]) -> Mapping[Partition, int]:
        logs = {partition: self.partition(partition) for partition in positions}
        found = {partition: log.read(positions[partition], log.stable, 1) for partition, log in logs.items()}
        return {partition: batch[0].timestamp()[1] for partition, batch in found.items() if batch}

    def scan(self, partition: Partition, start: int, stop: int, *, sparing: bool = False) -> Iterator[Sequence[Message]]:
        name = f"scan of {partition.topic}[{partition.partition}]"
        self._question(name)
        found = self.partition(partition)
        if start < found.first:
            raise LogError(f"{name} from {start}: it begins at {found.first}")
        position, most = start, min(self.batch_records, SPARING_RECORDS) if sparing else self.batch_records
        while True:
            batch = found.read(position, stop, most)
            if batch:
                position = batch[-1].at + 1
                yield batch
                self._question(name)
            elif position >= stop or found.stable >= stop:
                return
            elif not self.scheduler.wait(name, self._grows(found), STILL_MS):
                raise LogError(f"{name} stands still: a transaction is open at {found.stable}")

    def _grows(self, partition: PartitionLog) -> Callable[[], bool]:
        before = partition.stable
        return lambda: partition.stable > before

    def trim(self, partition: Partition, before: int) -> None:
        self.partition(partition).trim(before)

    def _question(self, what: str, *, often: float = 1.0) -> None:
        """Every question may take a while (`often`: how often the world goes on meanwhile), and may fail."""
        if self.scheduler.strand is not None and (often >= 1.0 or self.scheduler.rng.random() < often):
            self.scheduler.point(what)
        if self.scheduler.strand is not None and self.faults.hit("log_error"):
            raise LogError(f"{what}: the broker does not answer (simulated)")

    # --- groups ---

    def group(self, app: str, shards: int) -> SimGroup:
        return self.groups.setdefault(app, SimGroup(shards, self.scheduler, classic=self.classic))

    def app_of(self, group: SimGroup) -> str:
        return next(app for app, known in self.groups.items() if known is group)

    def auditor(self, app: str) -> Auditor:
        return self._auditors.get(app) or Blind()

    def shared_secret(self, app: str) -> bytes | None:
        return None

    def peers(self, app: str) -> Sequence[Peer]:
        return self.groups[app].peers() if app in self.groups else []

    def member(self, app: str, shards: int, url: str | None) -> SimMember:
        member = SimMember(self, self.group(app, shards), app, url, f"{app}-{len(self.members)}")
        self.members.append(member)
        return member

    def grown(self) -> None:
        """Something became visible: those who read look again."""
        for member in self.members:
            member.look()

    def marker_ms(self) -> float:
        if self.faults.hit("late_marker"):
            return self.faults.rng.uniform(200.0, 15_000.0)
        return self.scheduler.delay_ms(self.mean_ms)

    # --- from outside ---

    def publisher(self, name: str) -> SimPublisher:
        self._publishers[name] = publisher = SimPublisher(self, name)
        return publisher

    def newest(self, publisher: SimPublisher) -> bool:
        return self._publishers.get(publisher.name) is publisher

    def position(self, name: str) -> int:
        return self._positions.get(name, 0)

    def write(self, name: str, outputs: Sequence[Output], position: int) -> list[tuple[Partition, int]]:
        """A whole transaction from outside, at once; gives where each record lies."""
        targets = [self.target(output) for output in outputs]
        whole = object()
        places = [
            (target.where, target.append(output, whole, self.scheduler.now_ms))
            for target, output in zip(targets, outputs, strict=True)
        ]
        for target in dict.fromkeys(targets):
            target.mark(whole, commit=True)
        self._positions[name] = position
        self.grown()
        return places

    def close(self) -> None:
        """Nothing to free."""


class SimPublisher:
    """Writes from outside; a newer one of the same name fences it."""

    def __init__(self, log: SimLog, name: str) -> None:
        self.name = name
        self._log = log

    def position(self) -> int:
        return self._log.position(self.name)

    def publish(self, outputs: Sequence[Output], position: int) -> None:
        if not self._log.newest(self):
            raise LogError(f"publisher {self.name!r} was taken over by a newer one", retriable=False)
        self._log.write(self.name, outputs, position)

    def close(self) -> None:
        """Nothing to free."""
