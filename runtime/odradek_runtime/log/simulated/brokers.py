"""The brokers of a simulated cluster: its topics with their partitions, what they take and refuse, its groups and its times.

Stands below the log, which asks it as a process would, and below members and transactions, which write to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from odradek_runtime.log.port import LogError, Output, Partition, Refusal, TopicInfo, Transaction
from odradek_runtime.log.simulated.auditor import Auditor, Blind
from odradek_runtime.log.simulated.faults import Calm, Faults
from odradek_runtime.log.simulated.group import Group
from odradek_runtime.log.simulated.partition import PartitionLog
from odradek_runtime.log.simulated.scheduler import Scheduler
from odradek_runtime.log.sizes import LIMIT_BYTES, record_bytes
from odradek_runtime.routing import shard_of

TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
DENIED_MS = (50.0, 2_000.0, 20_000.0)
"""A right that is taken away is away for one of these."""
INDIGESTIBLE = b"indigestible"
"""An input may have it, but nothing that an app writes: even the dead letter, or the command that forwards it, is refused."""


class BadRecord(LogError):
    """A record that no broker takes."""


class Brokers:
    """A cluster in memory. `batch_records`: the most records a fetch gives; `mean_ms`: what anything takes, mostly."""

    def __init__(
        self,
        scheduler: Scheduler,
        faults: Faults | None = None,
        auditors: Mapping[str, Auditor] | None = None,
        *,
        batch_records: int = 1_000,
        mean_ms: float = 1.0,
    ) -> None:
        self.scheduler = scheduler
        self.faults: Faults = faults if faults is not None else Calm()
        self._auditors: Mapping[str, Auditor] = auditors if auditors is not None else {}
        """By app."""
        self.batch_records = batch_records
        self.mean_ms = mean_ms
        self.refused: set[str] = set()
        """Topics whose records the brokers refuse, though nothing is amiss with them."""
        self.changelogs_alone = False
        """Rights to other topics are never taken away."""
        self.classic = False
        """Which protocol groups follow that are made from now on."""
        self.groups: dict[str, Group] = {}
        self.readers: list[Callable[[], None]] = []
        """Those who look again when something has become visible."""
        self._denied: dict[str, float] = {}
        """Topics that nobody may write to, and until when."""
        self._denied_abroad: dict[tuple[str, str], float] = {}
        """Until when an app may not write to another's topic. It hears of that when it tries to."""
        self._topics: dict[str, tuple[TopicInfo, list[PartitionLog]]] = {}
        self._robin = 0
        self._made = 0

    # --- topics ---

    def topic(self, name: str) -> TopicInfo | None:
        """What is known of a topic; None when there is none."""
        if name not in self._topics:
            return None
        info = self._topics[name][0]
        return replace(info, writable=False) if self._denies(name) else info

    def topics(self) -> list[str]:
        """The names of all topics."""
        return sorted(self._topics)

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str]) -> TopicInfo:
        """Make a topic, or give the one that is there."""
        if name not in self._topics:
            if not TOPIC.fullmatch(name) or partitions < 1:
                raise LogError(f"{name!r} with {partitions} partitions cannot be a topic", retriable=False)
            self._made += 1
            info = TopicInfo(name, f"id-{self._made}", partitions, dict(config))
            self._topics[name] = info, [PartitionLog(Partition(name, n), info) for n in range(partitions)]
        return self._topics[name][0]

    def delete_topic(self, name: str) -> None:
        """Delete a topic, if it is there."""
        self._topics.pop(name, None)

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
        """Those of all topics."""
        return [partition for _, partitions in self._topics.values() for partition in partitions]

    # --- what they take ---

    def examine(self, app: str, transaction: Transaction) -> None:
        """Raises LogError for what the brokers do not take: its `refusal` is a missing right, else the record is to blame."""
        outputs = [Output(*output) for output in transaction.outputs]
        own = [f"{app}.{name}" for name in ("state", "journal") if getattr(transaction, name)]
        for topic in sorted({output.topic for output in outputs}.union(own)):
            if (topic in own or not self.changelogs_alone) and self.faults.hit("denied"):  # for a while, by somebody
                self._denied[topic] = self.scheduler.now_ms + self.faults.source("denied").choice(DENIED_MS)
            abroad = topic.endswith(".commands") and topic != f"{app}.commands"
            if abroad and not self.changelogs_alone and self.faults.hit("denied_abroad"):
                until_ms = self.scheduler.now_ms + self.faults.source("denied_abroad").choice(DENIED_MS)
                self._denied_abroad[app, topic] = until_ms
            if self._denies(topic) or self.scheduler.now_ms < self._denied_abroad.get((app, topic), 0.0):
                refusal = Refusal(topic, "Write", f"Kafka refuses Write on topic {topic} (simulated): add an ACL for Write")
                raise LogError(refusal.message, refusal=refusal)
        for output in outputs:
            self.target(output)
            if INDIGESTIBLE in (output.value or b""):
                raise BadRecord(f"topic {output.topic} does not take such records (simulated)")

    def _denies(self, topic: str) -> bool:
        return self.scheduler.now_ms < self._denied.get(topic, 0.0)

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

    def excess(self, output: Output) -> int:
        """By how many bytes a record is larger than its topic takes; 0 if it is not, or if there is no such topic."""
        if output.topic not in self._topics:
            return 0
        size = len(output.key or b"") + len(output.value or b"")
        size += sum(len(name) + len(text or b"") for name, text in output.headers or ())
        limit = int(self._topics[output.topic][0].config.get("max.message.bytes", LIMIT_BYTES))
        return 0 if size < limit - 10_000 else max(record_bytes(output.key, output.value, output.headers) - limit, 0)

    def grown(self) -> None:
        """Something became visible: those who read look again."""
        for look in self.readers:
            look()

    # --- groups, and how long things take ---

    def group(self, app: str, shards: int) -> Group:
        """The group of an app."""
        if app not in self.groups:
            self.groups[app] = Group(app, shards, self.scheduler, classic=self.classic)
        return self.groups[app]

    def auditor(self, app: str) -> Auditor:
        """Who watches an app."""
        return self._auditors.get(app) or Blind()

    def delay_ms(self) -> float:
        """How long anything takes."""
        return self.scheduler.delay_ms(self.mean_ms)

    def marker_ms(self) -> float:
        """How long a marker is on its way."""
        if self.faults.hit("late_marker"):
            return self.faults.source("late_marker").uniform(200.0, 15_000.0)
        return self.delay_ms()
