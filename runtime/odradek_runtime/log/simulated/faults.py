"""What may go wrong in a simulated cluster and on its disks, as a port: the log asks at every turn, somebody else decides.

Stands beside every step of a record. Without faults of its own a cluster is a calm one: `Calm`.
"""

from __future__ import annotations

from random import Random
from typing import Literal, Protocol

Fault = Literal[
    "bad_block",  # what is read from a store lies in a block whose bytes have changed
    "denied",  # for a while nobody may write to a topic of the transaction that is sent
    "denied_abroad",  # for a while one app may not write to another's commands
    "evict_pending",  # a session expires while a transaction's offsets are pending
    "folder_gone",  # a store's folder is removed while it is in use, which shows when it is flushed
    "late_batch",  # a fetched batch reaches the engine much later
    "late_marker",  # decided, but readers see it much later
    "log_error",  # a question to the log fails
    "outdated",  # the group refuses a transaction for its generation, though all that it touches is still its member's
    "refuse",  # the broker aborts a transaction
    "slow_commit",  # a commit takes seconds: past a session, past the transaction's timeout
    "store_error",  # the disk is full
    "store_lost",  # a crash loses the disk
    "store_stale",  # a crash loses what was not flushed
    "torn",  # part of a transaction is committed
    "torn_files",  # after a crash a store cannot be opened: a file is missing, or cut short
    "unknown_applied",  # committed, but the answer is lost
    "unknown_lost",  # not committed, and the answer is lost
]


class Faults(Protocol):
    """Decides what goes wrong."""

    def hit(self, kind: Fault, /) -> bool:
        """Whether it goes wrong here and now. Asked wherever it could."""
        ...

    def source(self, kind: Fault, /) -> Random:
        """What draws how it goes wrong, once it does: how long it takes, whom it meets."""
        ...


class Calm:
    """Nothing goes wrong."""

    def __init__(self) -> None:
        self._random = Random(0)

    def hit(self, _: Fault, /) -> bool:
        return False

    def source(self, _: Fault, /) -> Random:
        return self._random
