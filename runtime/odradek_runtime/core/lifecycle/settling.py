"""Settling: a value from outside comes for an awakeable, by a command or a request, and what waits for it goes on.

Stands beside `starts`, before `advance`. The first value is final. What has ended, or is nobody's, takes none: whoever asked over
HTTP is told so; a command that comes too late is as if it had not come.
"""

from __future__ import annotations

import logging
from typing import Literal

from odradek_runtime.core.operations.table import KINDS
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.formats import ENDED, UNBEGUN, Command, Entry, FormatError
from odradek_runtime.core.records.journal import Journal
from odradek_runtime.core.records.request import Pending, Reply, Settle
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import Shard

from .advance import Advance
from .living import Living

logger = logging.getLogger("odradek")

Waiting = Literal["waits", "settled", "ended", "nobody", "unbegun", "no_entry", "another"]
"""Of an entry that something has come for: it waits; it has its result; its invocation has ended, was never, or has not begun; it
is not there, or is of a kind that waits for something else."""


class Entries:
    """Looks at entries of journals, of invocations that have a coroutine and of those that have none."""

    def __init__(self, living: Living) -> None:
        self._living = living

    def waiting(self, shard: Shard, id_: str, ref: int, by: str) -> tuple[Waiting, Entry | None]:
        """How the entry stands to what comes by commands of the kind `by`."""
        live, stored = self._living.find(shard, id_), self._living.stored(shard, id_)
        if stored is None:
            return "nobody", None
        if stored.status in ENDED:
            return "ended", None
        if stored.status in UNBEGUN:
            return "unbegun", None
        try:
            journal = live.journal if live is not None else Journal.load(shard.scan_chunks(keys.chunks(id_)))
        except FormatError:  # whoever runs it says so; until then it waits
            return "waits", None
        entry = journal.command(ref)
        if entry is None:
            return "no_entry", None
        kind = KINDS.get(entry.kind)
        if kind is None or kind.outside != by or entry.failure is not None:
            return "another", entry
        return "settled" if ref in journal.completed else "waits", entry


class Settling:
    """Of one machine's awakeables."""

    def __init__(self, scope: Scope, entries: Entries, advance: Advance) -> None:
        self._scope = scope
        self._entries = entries
        self._advance = advance

    def awakeable(self, shard: Shard, command: Command) -> None:
        """By a command: of a handler of this worker, or inspected."""
        entry = Entry("completion", command.ref, value=command.payload, failure=command.failure)
        found = self._settle(shard, command.id, command.key or b"", entry)
        if found != "waits":
            logger.info("entry %d of %s is given a value, and does not wait for one (%s)", command.ref, command.id, found)

    def request(self, shard: Shard, request: Settle, pending: Pending) -> None:
        """Over HTTP. The answer waits for the commit (invariant 4)."""
        scope, id_ = self._scope, request.invocation_id
        scope.touch(shard)
        scope.epoch.urgent = True
        entry = Entry("completion", request.ref, value=request.payload, failure=request.failure)
        over = scope.sizes.completion("the value", entry)
        if over is not entry:
            reply = Reply("refused", id_, failure=over.failure)
        else:
            match self._settle(shard, id_, request.seal, entry):
                case "waits":
                    reply = Reply("settled", id_)
                case "settled":
                    reply = Reply("settled_before", id_)
                case _:
                    reply = Reply("nobody_waits", id_)
        scope.epoch.replies.append((pending, reply))

    def _settle(self, shard: Shard, id_: str, seal: bytes, completion: Entry) -> Waiting:
        if not self._scope.awakeable_ids.good(id_, completion.ref, seal):
            return "nobody"
        found, _ = self._entries.waiting(shard, id_, completion.ref, "awakeable")
        if found == "waits":
            self._advance.complete(shard, id_, completion)
        return found
