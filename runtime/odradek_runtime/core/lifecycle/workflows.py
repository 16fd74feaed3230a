"""Workflows: one `run` for each key, whoever starts it, and an end to all that there is of it when its retention has passed.

Stands beside `starts` and `delivery`, which begin it under the id that its key gives, and `due`, which ends its retention.
"""

from __future__ import annotations

from odradek_runtime.core.records import keys
from odradek_runtime.core.records.answers import completion
from odradek_runtime.core.records.formats import Stored
from odradek_runtime.core.records.request import Failure
from odradek_runtime.core.running.invocation import Live, stored_record
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import Shard
from odradek_runtime.routing import workflow_id

from .outward import Outward

RETAINED_MS = 86_400_000
"""How long a workflow is kept after its `run` has ended, unless it says otherwise."""


class Workflows:
    """Of one machine's shards."""

    def __init__(self, scope: Scope, outward: Outward) -> None:
        self._scope = scope
        self._outward = outward

    def id_of(self, target: str, key: bytes) -> str | None:
        """The id of what this starts, if that is the `run` of a workflow: one for each key."""
        handler = self._scope.handlers.get(target)
        return workflow_id(handler.service, key) if handler is not None and handler.mode == "run" else None

    def retention_ms(self, target: str) -> int:
        """How long what is there of a workflow is kept; 0: this is not the `run` of one."""
        handler = self._scope.handlers.get(target)
        if handler is None or handler.mode != "run":
            return 0
        return RETAINED_MS if handler.retention_s is None else max(int(handler.retention_s * 1000), 1)

    def of_record(self, live: Live) -> Stored:
        """The entry of one that a record starts: there from its beginning, for who starts it again finds it by that."""
        origin = live.origin
        assert origin is not None, "a record starts it"
        stored = stored_record(live, origin, self._scope.now_ms)
        stored.retain_ms = self.retention_ms(live.handler.target)
        return stored

    def forget(self, shard: Shard, stored: Stored) -> None:
        """Its retention has passed: its state and its promises go with its completion. Whoever still waits for one is told."""
        if not self.retention_ms(stored.target):
            return
        base = self._scope.base(stored.target.partition("/")[0], stored.key)
        gone = Failure(410, f"the workflow {stored.target.partition('/')[0]!r} with this key is gone: its retention has passed")
        for prefix in (keys.waiters_of(base), keys.promises_of(base), base + b"/"):
            for key, _ in list(shard.scan_prefix(prefix)):
                shard.put(key, None)
                if prefix == keys.waiters_of(base):
                    _, id_, ref = keys.split_waiter(key)
                    self._outward.route(completion("", id_, ref, None, gone), shard)
        self._scope.touch(shard)
