"""Resets: orders that move the position of a partition, carried out in a shard while it runs.

Stands between the machine, which has read the order from the shard's commands, and the intake, which then reads elsewhere. The new
position, the order's id and how far the shard had come before are committed with the epoch that takes the order, in its positions
record: so the order is carried out once, whatever dies meanwhile, and a record that is read again starts another invocation than
the one that it started then.
"""

from __future__ import annotations

import logging
import re

from odradek_runtime.core.epoch import RESET
from odradek_runtime.core.records.formats import Command
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import Reset, Shard
from odradek_runtime.log.port import Partition

logger = logging.getLogger("odradek")

RESET_ID = re.compile(RESET + r"[A-Za-z0-9._-]{1,54}")


class Resets:
    """Of one machine's shards."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self.moved: list[tuple[Partition, Shard]] = []
        """Partitions that have to be read from another offset than they are."""

    def carry_out(self, shard: Shard, command: Command) -> None:
        """Move one position, unless this order has moved it before."""
        partition = Partition(command.topic, command.partition)
        before = shard.resets.get(partition)
        if before is not None and before.id == command.id:
            return
        now = shard.positions[partition]
        until = max(now, before.until if before is not None else 0)
        shard.resets[partition] = Reset(command.id, until)
        shard.positions[partition] = command.offset
        shard.advanced.add(partition)
        self._scope.touch(shard)
        self.moved.append((partition, shard))
        logger.info(
            "%s: %s[%d] is moved from %d to %d, asked for by %s",
            command.id, *partition, now, command.offset, command.target or "nobody that is known",
        )  # fmt: skip

    def taken(self) -> list[tuple[Partition, Shard]]:
        """Those that were moved since this was asked."""
        moved, self.moved = self.moved, []
        return moved
