"""The logger of a context: silent while the journal is replayed, so that a line is logged once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from odradek._port import Operations


class ContextLogger(logging.Logger):
    """A logger of one invocation, child of "odradek". It is in no registry: it goes with its invocation."""

    def __init__(self, target: str, ops: Operations) -> None:
        super().__init__("odradek." + target.replace("/", "."))
        self.parent = logging.getLogger("odradek")
        self._ops = ops

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  (logging's own name)
        return not self._ops.replaying and level >= self.getEffectiveLevel() and self.manager.disable < level

    def makeRecord(self, *args: Any, **kwargs: Any) -> logging.LogRecord:  # noqa: N802  (logging's own name)
        record = super().makeRecord(*args, **kwargs)
        record.invocation_id = self._ops.id
        return record
