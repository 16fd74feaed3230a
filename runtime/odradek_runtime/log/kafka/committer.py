"""The committer: takes one epoch at a time, and watches over the thread that writes it.

Stands between the engine and the commit thread. A call that never returns would hold up every later epoch: past its
time the thread is abandoned, and a new one settles what it left, under the same transactional ids.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

from odradek_runtime.log.kafka.writer import EpochWriter
from odradek_runtime.log.port import Committed, Event, Refused, Transaction

LOOK_S = 1.0
Orders = queue.SimpleQueue[Transaction | None]
MakeWriter = Callable[[Orders, Callable[[Event], None], Refused | None], EpochWriter]


class Committer:
    """Commits for one member.

    Args:
        app: whose commands partitions fence each transaction.
        make_writer: starts a commit thread on a queue of orders.
        sink: takes Committed and Refused.
    """

    def __init__(self, app: str, make_writer: MakeWriter, sink: Callable[[Event], None]) -> None:
        self._commands = f"{app}.commands"
        self._make_writer = make_writer
        self._sink = sink
        self._current: Transaction | None = None
        self._closed = threading.Event()
        self._handing_over = threading.Lock()
        """Held while a transaction is given to the writer, and while a writer is replaced: one that is given up answers for the
        transaction that it had, and for no other."""
        self._orders: Orders = queue.SimpleQueue()
        self._writer = make_writer(self._orders, self._ended, None)
        self._watchdog = threading.Thread(target=self._watch, name="odradek-watchdog", daemon=True)
        self._watchdog.start()

    def commit(self, transaction: Transaction) -> None:
        """Send one transaction.

        Raises:
            ValueError: it is not fenced (no stamp, or a shard without an offset of its commands), or one is under way.
        """
        if not transaction.stamps:
            raise ValueError(f"epoch {transaction.epoch} carries no ownership stamp: nothing would fence it")
        missing = [shard for shard in transaction.stamps if (self._commands, shard) not in transaction.offsets]
        if missing:
            raise ValueError(f"epoch {transaction.epoch} has no offset for {self._commands}{missing}: every shard needs one")
        with self._handing_over:
            if self._current is not None:
                raise ValueError(f"epoch {transaction.epoch} given before epoch {self._current.epoch} has ended")
            self._current = transaction
            self._orders.put(transaction)

    def busy(self, shards: Sequence[int]) -> bool:
        """Whether a transaction that touches one of these shards has not ended."""
        current = self._current
        return current is not None and any(shard in current.stamps for shard in shards)

    def close(self, timeout_s: float) -> None:
        """End the threads after the transaction in hand."""
        self._closed.set()
        self._watchdog.join(timeout_s)  # first: it may be about to replace the writer
        self._writer.close(timeout_s)

    def _ended(self, event: Event) -> None:
        if isinstance(event, Committed | Refused):
            self._current = None  # before it is posted: the engine answers with the next transaction
        self._sink(event)

    def _watch(self) -> None:
        while not self._closed.wait(LOOK_S):
            if self._writer.stuck:
                self._give_up()

    def _give_up(self) -> None:
        with self._handing_over:
            phase = self._writer.give_up()
            if phase is None:
                return
            current = self._current
            outcome: Refused | None = None
            if current is not None:
                message = "a call to Kafka did not return in time; its transaction was settled by a new producer"
                outcome = Refused(current.epoch, "unknown" if phase == "committing" else "aborted", message)
            self._orders = queue.SimpleQueue()  # the abandoned thread may still wait on the old one
            self._writer = self._make_writer(self._orders, self._ended, outcome)
