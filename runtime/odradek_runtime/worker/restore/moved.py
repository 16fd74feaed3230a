"""Positions of inputs that somebody else has moved: the journal has the app's own, and the group's are only a mirror of them.

A tool like kafka-consumer-groups can change the group's offsets while the app stands still. It is said, and not obeyed.
"""

from __future__ import annotations

import logging

from odradek_runtime.core.records.formats import Positions
from odradek_runtime.log.port import Log, Partition

logger = logging.getLogger("odradek")


class Moved:
    """Compares the group's offsets with the journal's positions whenever a shard is taken over; says each difference once."""

    def __init__(self, app: str, log: Log) -> None:
        self._app = app
        self._log = log
        self._told: dict[Partition, tuple[int, int]] = {}

    def look(self, found: Positions | None) -> None:
        """After `settle`, when no transaction is about to replace the group's offsets. Raises LogError.

        Not compared: a partition without a committed offset (never read, or expired), an input that was made again.
        """
        if found is None:
            return
        commands = f"{self._app}.commands"
        ours = {Partition(p.topic, p.partition): (p.offset, p.topic_id) for p in found.inputs if p.topic != commands}
        if not ours:
            return
        for partition, theirs in self._log.committed_offsets(self._app, list(ours)).items():
            offset, topic_id = ours[partition]
            if theirs != offset and self._same(partition, topic_id) and self._differ(partition, theirs, offset):
                self._tell(partition, theirs, offset)

    def _same(self, partition: Partition, topic_id: str) -> bool:
        topic = self._log.topic(partition.topic)
        return topic is not None and topic_id in ("", topic.id) and partition.partition < topic.partitions

    def _differ(self, partition: Partition, theirs: int, ours: int) -> bool:
        """Records that were deleted unread are passed over, which is no change of anybody's."""
        first, _ = self._log.offsets(partition)
        return max(theirs, first) != max(ours, first)

    def _tell(self, partition: Partition, theirs: int, ours: int) -> None:
        if self._told.get(partition) == (theirs, ours):
            return
        self._told[partition] = theirs, ours
        logger.warning(
            "%s[%d]: the group's offset was changed to %d by somebody else; this app is at %d, goes on from there and commits that "
            "again: the group's offsets do not move it. What does is: odradek reset --app %s --topic %s --partition %d --to %d",
            *partition, theirs, ours, self._app, *partition, theirs,
        )  # fmt: skip
