"""One partition as Kafka keeps it: offsets with gaps, open transactions that hold readers back, compaction, trimming."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from odradek_runtime.log.port import LogError, Output, Partition, TopicInfo

LAG_MS = 20_000
"""The longest `min.compaction.lag.ms`: a run lasts a minute or two, and a take-over amid faults takes ten seconds and more."""


@dataclass(slots=True, eq=False)
class SimulatedMessage:
    """One record (`log.port.Message`)."""

    where: Partition
    at: int
    output: Output
    time_ms: int
    transaction: object

    def topic(self) -> str:
        return self.where.topic

    def partition(self) -> int:
        return self.where.partition

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes | None:
        return self.output.key

    def value(self) -> bytes | None:
        return self.output.value

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return list(self.output.headers) if self.output.headers else None

    def timestamp(self) -> tuple[int, int]:
        return 1, self.time_ms


class PartitionLog:
    """Records in the order of their offsets. A marker takes an offset of its own and shows no record."""

    def __init__(self, where: Partition, info: TopicInfo) -> None:
        self.where = where
        self.compacted = "compact" in info.config.get("cleanup.policy", "")
        self.tombstones_ms = int(info.config.get("delete.retention.ms", 86_400_000))
        self._torn: set[object] = set()
        self.lag_ms = min(int(info.config.get("min.compaction.lag.ms", 0)), LAG_MS)
        self.first = 0
        self.end = 0
        self._records: list[SimulatedMessage] = []
        self._offsets: list[int] = []
        self._open: dict[object, int] = {}
        self._horizons: dict[int, float] = {}

    @property
    def stable(self) -> int:
        """The last stable offset: where the first open transaction begins."""
        return min(self._open.values(), default=self.end)

    def append(self, output: Output, transaction: object, now_ms: float) -> int:
        """Write one record of a transaction that is open."""
        offset, self.end = self.end, self.end + 1
        self._open.setdefault(transaction, offset)
        self._records.append(SimulatedMessage(self.where, offset, output, output.timestamp_ms or int(now_ms), transaction))
        self._offsets.append(offset)
        return offset

    def mark(self, transaction: object, *, commit: bool) -> None:
        """The transaction's marker arrives: its records become visible, or vanish."""
        if self._open.pop(transaction, None) is None:
            return
        self.end += 1
        if not commit:
            self._keep([m for m in self._records if m.transaction is not transaction])

    def read(self, start: int, stop: int, most: int) -> list[SimulatedMessage]:
        """Committed records with start <= offset < stop, at most so many."""
        begin = bisect_left(self._offsets, start)
        end = bisect_left(self._offsets, min(stop, self.stable))
        return self._records[begin : min(end, begin + most)]

    def trim(self, before: int) -> None:
        if before > self.end:
            raise LogError(f"{self.where.topic}[{self.where.partition}] ends at {self.end}: it cannot be trimmed to {before}")
        if before > self.first:
            self.first = before
            self._keep([m for m in self._records if m.at >= before])

    def tear(self, transaction: object, *, commit: bool) -> None:
        """Mark a transaction that ends otherwise in other partitions."""
        if self.lag_ms:
            self._torn.add(transaction)
        self.mark(transaction, commit=commit)

    def compact(self, before: int, now_ms: float) -> int:
        """Clean below an offset: only the last record of a key stays, and no tombstone for ever. Gives how many went.

        As in Kafka a tombstone's time begins with the first cleaning that sees it: so long has who read the value to reach it. And
        what is younger than `min.compaction.lag.ms` is not cleaned, nor does it replace anything. A run is shorter than the ten
        minutes of the engine's changelogs, so a torn epoch is young all the while: its shard's next owner has that long.
        """
        young = next((m.at for m in self._records if m.time_ms > now_ms - self.lag_ms or m.transaction in self._torn), self.end)
        limit = min(before, self.stable, young)
        newest = {m.key(): m.at for m in self._records if m.at < limit}
        kept = [m for m in self._records if m.at >= limit or (newest[m.key()] == m.at and not self._expired(m, now_ms))]
        gone = len(self._records) - len(kept)
        self._keep(kept)
        return gone

    def _expired(self, message: SimulatedMessage, now_ms: float) -> bool:
        if message.value() is not None:
            return False
        return now_ms > self._horizons.setdefault(message.at, now_ms + self.tombstones_ms)

    def offset_at(self, timestamp_ms: int) -> int:
        return next((m.at for m in self._records if m.time_ms >= timestamp_ms), self.end)

    def _keep(self, records: list[SimulatedMessage]) -> None:
        self._records = records
        self._offsets = [m.at for m in records]
