"""One worker's place in a group of the embedded log: a seat, a reader and a thread that commits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from odradek_runtime.log.embedded import rows
from odradek_runtime.log.embedded.append import Append, BadRecordError
from odradek_runtime.log.embedded.disk import DiskError
from odradek_runtime.log.embedded.framing import decode_long
from odradek_runtime.log.embedded.group import Group, Seat
from odradek_runtime.log.embedded.reader import Reader
from odradek_runtime.log.port import (
    ChangelogPosition,
    Committed,
    Event,
    LogError,
    Partition,
    Refused,
    Sink,
    Transaction,
    Trouble,
)

if TYPE_CHECKING:
    from odradek_runtime.log.embedded.catalog import Catalog, Tail

REOPEN_INTERVAL_S = 0.2
ROOM_INTERVAL_S = 0.1
"""Between two looks for room on a full disk."""
ROOM_PATIENCE_S = 1.0
"""So long a transaction waits for room. To be refused costs a start over, which is no way to wait."""


class EmbeddedMember:
    """Implements `log.port.Member`. `grown` tells the log which partitions a commit made longer."""

    def __init__(
        self,
        catalog: Catalog,
        app: str,
        group: Group,
        url: str | None,
        *,
        clock: Callable[[], float],
        grown: Callable[[list[Tail]], None],
        left: Callable[[EmbeddedMember], None],
    ) -> None:
        self._catalog = catalog
        self._app = app
        self._group = group
        self._clock = clock
        self._grown = grown
        self._left = left
        self._sink: Sink | None = None
        self.seat = Seat(self._post, url)
        self._reader = Reader(catalog, self._post)
        self._turn = threading.Condition()
        self._pending: Transaction | None = None
        self._busy = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="odradek-commit", daemon=True)

    def join(self, sink: Sink) -> None:
        """Raises LogError when `<app>.commands` does not exist or does not have one partition for each shard."""
        name = f"{self._app}.commands"
        partitions = self._catalog.topic(name).info.partitions
        if partitions != self._group.shards:
            raise LogError(f"{name} has {partitions} partitions for {self._group.shards} shards: they must agree", retriable=False)
        self._sink = sink
        self._thread.start()
        self._reader.start()
        self._group.join(self.seat)

    def read(self, positions: Mapping[Partition, int], generation: int) -> None:
        self._reader.read(positions, generation)

    def stop_reading(self, partitions: Sequence[Partition]) -> None:
        self._reader.stop(partitions)

    def pause(self, partitions: Sequence[Partition]) -> None:
        self._reader.pause(partitions, paused=True)

    def resume(self, partitions: Sequence[Partition]) -> None:
        self._reader.pause(partitions, paused=False)

    def commit(self, transaction: Transaction) -> None:
        """Raises ValueError when another is under way, or when it touches a shard without bringing its stamp."""
        bare = (transaction.state.keys() | transaction.journal.keys()) - transaction.stamps.keys()
        if bare:
            raise ValueError(f"epoch {transaction.epoch} writes to the shards {sorted(bare)} without their stamps")
        with self._turn:
            if self._busy:
                raise ValueError(f"epoch {transaction.epoch}: the commit before it has not ended")
            self._busy = True
            self._pending = transaction
            self._turn.notify_all()

    def settle(self, shard: int) -> int | None:
        raw = self._catalog.disk.get(rows.committed_row(self._app, f"{self._app}.commands", shard))
        return None if raw is None else decode_long(raw)

    def leave(self) -> None:
        """Blocks until a commit under way has ended and the threads are gone."""
        self._reader.close()
        with self._turn:
            self._closed.set()
            self._turn.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()
        self._group.leave(self.seat)
        self._sink = None
        self._left(self)

    def hopeless(self, error: LogError) -> None:
        """The log is damaged: this member's worker must end."""
        self._post(Trouble(str(error), fatal=True))

    def evict(self) -> None:
        """For tests: what happens to a member whose session has expired."""
        self._group.evict(self.seat)

    def wake(self) -> None:
        """Something new is in the log."""
        self._reader.wake()

    def _post(self, event: Event) -> None:
        sink = self._sink
        if sink is not None:
            sink(event)

    def _run(self) -> None:
        try:
            while True:
                with self._turn:
                    self._turn.wait_for(lambda: self._pending is not None or self._closed.is_set())
                    transaction, self._pending = self._pending, None
                if transaction is None:
                    return
                outcome = self._with_room(transaction)
                with self._turn:
                    self._busy = False
                self._post(outcome)
        except BaseException as error:
            self._post(Trouble(f"the commit thread of the embedded log died: {error!r}", fatal=True))
            raise

    def _with_room(self, transaction: Transaction) -> Committed | Refused:
        """The outcome; on a full disk after a while, in which room may be made."""
        deadline_s = time.monotonic() + ROOM_PATIENCE_S
        told = False
        while True:
            try:
                return self._transact(transaction)
            except DiskError as error:
                if not told:
                    self._post(Trouble(str(error)))
                told = True
                if time.monotonic() >= deadline_s or self._closed.wait(ROOM_INTERVAL_S):
                    return Refused(transaction.epoch, "aborted", str(error))

    def _transact(self, transaction: Transaction) -> Committed | Refused:
        """Raises DiskError when there is no room for it: then nothing has been written."""
        epoch = transaction.epoch
        with self._catalog.lock:
            if not self._group.holds(self.seat, transaction.stamps):
                return Refused(epoch, "fenced", "a shard that it touches has moved to another member")
            try:
                self._catalog.reopen()
            except DiskError:
                raise
            except LogError as error:
                return Refused(epoch, "aborted", str(error))
            append = Append(self._catalog, int(self._clock() * 1000))
            try:
                positions = self._lay_out(append, transaction)
            except (BadRecordError, TypeError) as error:
                return Refused(epoch, "aborted", str(error), poison=True)
            sequence = append.sequence
            try:
                grown = append.write()
            except DiskError as error:
                failure = error
            else:
                self._grown(grown)
                return Committed(epoch, positions)
        if failure.reached is not None:
            raise failure
        self._post(Trouble(str(failure)))
        return self._settle_write(epoch, failure, sequence, positions)

    def _lay_out(self, append: Append, transaction: Transaction) -> dict[int, ChangelogPosition]:
        append.outputs(transaction.outputs)
        positions: dict[int, ChangelogPosition] = {}
        for shard in sorted(transaction.state.keys() | transaction.journal.keys()):
            headers = transaction.state_headers.get(shard)
            state = append.changelog(f"{self._app}.state", shard, transaction.state.get(shard, ()), headers)
            journal = append.changelog(f"{self._app}.journal", shard, transaction.journal.get(shard, ()), None)
            positions[shard] = ChangelogPosition(journal, state)
        append.offsets(self._app, transaction.offsets)
        return positions

    def _settle_write(
        self, epoch: int, failure: DiskError, sequence: int, positions: dict[int, ChangelogPosition]
    ) -> Committed | Refused:
        """What became of a failed write: reopening the database shows whether it is there, and makes it durable."""
        while True:
            try:
                with self._catalog.lock:
                    self._catalog.reopen()
                    if self._catalog.writes < sequence:
                        return Refused(epoch, "aborted", str(failure))
                    self._grown(self._catalog.tails())
                    return Committed(epoch, positions)
            except LogError as error:
                if not error.retriable or self._closed.wait(REOPEN_INTERVAL_S):
                    return Refused(epoch, "unknown", f"{failure}; closed before it was known what became of it")
