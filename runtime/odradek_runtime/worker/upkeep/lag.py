"""Lag: how far each partition that is read here lies behind its end, in records, and for how long its next record has waited.

Part of the housekeeping. What waits in memory tells its time by itself; a few partitions a round are asked of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from odradek_runtime.log.port import Log, LogError, Partition

if TYPE_CHECKING:
    from odradek_runtime.worker.engine.engine import Engine

ASKED = 16
"""Of so many partitions a round the log is asked for the next record's time; the others keep what was known, or wait."""


class Lag:
    """`records` and `seconds`, by (topic, partition), as of the last round."""

    def __init__(self, log: Log, engine: Engine, tell: Callable[[Exception], None]) -> None:
        self.records: dict[tuple[str, int], int] = {}
        self.seconds: dict[tuple[str, int], float] = {}
        """0 where nothing is unprocessed; a partition whose next record has not been looked at yet is missing."""
        self._log = log
        self._engine = engine
        self._tell = tell
        self._times: dict[Partition, tuple[int, int]] = {}
        """Of a record that was next: its partition's position then, and its time."""
        self._turn = 0
        self._asked: dict[Partition, int] = {}

    def measure(self) -> None:
        """Look at every partition. Raises LogError."""
        positions = self._engine.positions()
        records: dict[tuple[str, int], int] = {}
        for partition, position in positions.items():
            try:
                records[partition.topic, partition.partition] = max(self._log.offsets(partition)[1] - position, 0)
            except LogError as error:
                if error.retriable:
                    raise
                self._tell(error)  # this partition is gone; the others are not
        self.records = records
        behind = {partition: positions[partition] for partition in positions if records.get((partition.topic, partition.partition))}
        self.seconds = {place: 0.0 for place, number in records.items() if not number} | self._ages(behind)

    def _ages(self, behind: Mapping[Partition, int]) -> dict[tuple[str, int], float]:
        """Since when the next record of each of these is there, in seconds; 0 where none can be read."""
        times = {partition: self._times[partition][1] for partition in behind if self._known(partition, behind[partition])}
        times.update(self._engine.intake.times(behind))
        missing = sorted((partition for partition in behind if partition not in times), key=lambda p: self._asked.get(p, 0))
        asked, later = missing[:ASKED], missing[ASKED:]
        if asked:
            times.update(self._log.times_at({partition: behind[partition] for partition in asked}))
        self._turn += 1
        self._asked = {p: turn for p, turn in self._asked.items() if p in behind} | dict.fromkeys(asked, self._turn)
        before = {partition: self._times[partition] for partition in later if partition in self._times}
        self._times = before | {partition: (behind[partition], time_ms) for partition, time_ms in times.items()}
        now_ms = self._engine.machine.now_ms
        # Of those whose turn comes later, the time of a record that was next before: that which is next now is no older.
        ages_ms = dict.fromkeys(asked, 0.0) | {partition: now_ms - time_ms for partition, (_, time_ms) in self._times.items()}
        return {(p.topic, p.partition): max(age_ms, 0.0) / 1000 for p, age_ms in ages_ms.items()}

    def _known(self, partition: Partition, position: int) -> bool:
        """Whether the time of this partition's next record has been found before."""
        return partition in self._times and self._times[partition][0] == position
