"""The fault `moved_sender`: a shard moves when it has sent a command for another worker, which reads that much later.

Stands between the simulated log and the auditor of one app, who sees everything as without it.
"""

from __future__ import annotations

from odradek_runtime.core.records.formats import COMMAND
from odradek_runtime.log.port import Output, Transaction
from odradek_runtime.log.simulated.auditor import Author, Sent
from odradek_runtime.log.simulated.brokers import Brokers

from .audit import Audit
from .faults import Faults


class MovedSender:
    """Watches the commits of one app (`log.simulated.auditor.Auditor`). `brokers` come later: they are made with it."""

    def __init__(self, audit: Audit, faults: Faults) -> None:
        self.brokers: Brokers | None = None
        self._audit = audit
        self._faults = faults

    def sent(self, author: Author, transaction: Transaction, /) -> None:
        self._audit.sent(author, transaction)

    def committed(self, transaction: Sent, /) -> None:
        self._audit.committed(transaction)

    def committing(self, author: Author, transaction: Sent, /) -> None:
        """Let the command be late, and move the shard that may have sent it to the worker that will read it."""
        if not self._faults.may("moved_sender"):
            return
        assert self.brokers is not None, "a world has brokers"
        group = self.brokers.groups[self._audit.app]
        sources = [number for number in transaction.order.stamps if group.owners.get(number) is author]
        called = _called(transaction.order, self._audit.app)
        heirs = [group.owners[number] for number in called if group.owners.get(number) not in (None, author)]
        if heirs and sources and self._faults.hit("moved_sender"):
            transaction.late_commands_ms = self._faults.rare.uniform(1_000.0, 8_000.0)
            group.move(self._faults.rare.choice(sources), heirs[0])


def _called(order: Transaction, app: str) -> list[int]:
    """The shards to which it sends calls by way of their commands."""
    outputs = [output for output in map(Output._make, order.outputs) if output.topic == f"{app}.commands"]
    return [out.partition for out in outputs if out.partition is not None and COMMAND.decode(out.value or b"").kind == "invoke"]
