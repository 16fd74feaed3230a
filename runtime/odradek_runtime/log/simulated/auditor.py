"""Who watches a simulated cluster, as a port: every transaction that is sent, about to be decided, and committed.

Stands beside the senders and the coordinator. `Blind` watches nothing.
"""

from __future__ import annotations

from typing import Protocol

from odradek_runtime.log.port import Output, Transaction
from odradek_runtime.log.simulated.group import Attendant


class Author(Attendant, Protocol):
    """The member that sends a transaction."""

    released_shards: set[int]
    """Those that it has given back."""

    def excess(self, output: Output) -> int:
        """By how many bytes a record is larger than its topic takes."""
        ...


class Sent(Protocol):
    """A transaction that the coordinator has heard of."""

    order: Transaction
    owner: str
    late_commands_ms: float
    """How much later than others the markers of commands come."""


class Auditor(Protocol):
    """Watches the transactions of one app."""

    def sent(self, author: Author, transaction: Transaction, /) -> None:
        """An engine has given it to its member."""
        ...

    def committing(self, author: Author, transaction: Sent, /) -> None:
        """The coordinator is about to decide that it is committed. Whatever happens here comes just before that."""
        ...

    def committed(self, transaction: Sent, /) -> None:
        """It is committed: that is final, though readers do not see it yet."""
        ...


class Blind:
    """Watches nothing."""

    def sent(self, author: Author, transaction: Transaction, /) -> None:
        """Let it pass."""

    def committing(self, author: Author, transaction: Sent, /) -> None:
        """Let it pass."""

    def committed(self, transaction: Sent, /) -> None:
        """Let it pass."""
